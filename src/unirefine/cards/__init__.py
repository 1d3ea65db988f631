"""A data card and a model card of a run, in the Hugging Face Hub's format."""
