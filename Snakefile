"""`snakemake` in a checkout. The workflow is workflow/Snakefile, where Snakemake's catalog and snakedeploy look for it."""


include: "workflow/Snakefile"


# Snakemake forgets the default target of what it includes.
workflow.default_target = "all"
