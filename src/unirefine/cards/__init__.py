"""A data card beside the shards and a model card beside the model, in the Hugging Face Hub's format."""
