"""ESM-2 weights between Hugging Face's layout and Megatron checkpoints."""
