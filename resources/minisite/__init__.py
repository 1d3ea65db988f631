"""A miniature UniProt site in the true layout and formats, built from a few thousand real proteins."""
