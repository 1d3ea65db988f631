"""What the Snakefile knows: paths and params of the rules, checks before a start, the plan by stage."""
