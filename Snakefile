"""unirefine: from a UniProt release to a trained, evaluated ESM-2. Targets by name: `snakemake -c2 split`."""

from snakemake.utils import min_version

min_version("9.19")

if not workflow.configfiles:

    configfile: "config/demo.yaml"


IMAGE = "envs/unirefine.sif"


container: IMAGE


include: "workflow/rules/common.smk"
include: "workflow/rules/slurm.smk"
include: "workflow/rules/release.smk"
include: "workflow/rules/records.smk"
include: "workflow/rules/curate.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/decontaminate.smk"
include: "workflow/rules/shard.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/model_card.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/cards.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/start.smk"


rule all:
    default_target: True
    input:
        rules.report.output,
        rules.cards.output,
        rules.embed.output,
