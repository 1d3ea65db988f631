"""Write token shards in Megatron's indexed format."""
