"""What the Snakefile knows: where stages lie, what is checked before a start, the plan by stage."""
