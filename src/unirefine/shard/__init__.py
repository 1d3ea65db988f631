"""Write the token shards in Megatron's indexed format."""
