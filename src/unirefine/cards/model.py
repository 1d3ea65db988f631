"""The model card: its perplexity beside baselines, its use, its training, its lineage."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from unirefine.config import Train
from unirefine.core.markdown import audit_text, lineage_text, release_name, table
from unirefine.core.summaries import PERPLEXITY_COLUMNS, beaten_text, chosen_text, is_own, perplexity_rows


def model_card(
    name: str,
    lineage: Mapping[str, Any],
    trained: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    audit: Mapping[str, Any],
) -> str:
    """Markdown with a YAML header, as the Hub reads it. trained: train.json; evaluation: perplexity.json."""
    rows, own = {row["key"]: row for row in evaluation["table"]}, is_own(lineage["release"])
    header = ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["biology", "protein", "esm"],
        eval_results=[
            EvalResult(
                task_type="fill-mask",
                dataset_type="fasta" if own else "uniref50",
                dataset_name=f"validation clusters of {release_name(lineage)}",
                dataset_split="validation",
                metric_type="perplexity",
                metric_name=metric,
                metric_value=round(value, 4),
            )
            for metric, value in (
                ("masked perplexity, all chosen residues", rows["ours"]["perplexity"]),
                ("masked perplexity, hidden residues alone", rows["ours"]["hidden"]["perplexity"]),
            )
            if value is not None
        ],
    )
    config = Train.model_validate(trained["config"])
    layers, hidden, heads = config.model.sizes
    known = "the train sequences" if own else "those in UniProt"
    licence = "" if own else " (UniProt: CC BY 4.0, which asks for attribution)"
    return f"""---
{header.to_yaml()}
---

# {name}: ESM-2 trained on {release_name(lineage)}

{trained["parameters"]:,} parameters ({layers} layers, hidden size {hidden}, {heads} heads), trained for
{trained["step"]:,} steps on {trained["tokens"]:,} tokens. `EsmForMaskedLM` and `EsmTokenizer` of transformers load it.

## Perplexity

{table(PERPLEXITY_COLUMNS, perplexity_rows(evaluation))}

{beaten_text(evaluation)}

{chosen_text(evaluation)} Intervals: 95%, over resampled clusters.

{audit_text(audit)}

## Intended use

Embeddings and masked-residue probabilities of natural proteins of up to {config.sampling.max_tokens - 2:,} residues.
Not meant for proteins unlike {known} (long repeats, non-standard residues, artificial designs), nor as the
only evidence for what a variant does in a patient. The model was judged by perplexity alone: test it on your task
first.

## Training

ESM-2's recipe on Megatron-core: {config.sampling.mask_fraction:.0%} of the residues chosen, Adam with a peak learning
rate of {config.optimizer.lr:g}, {config.optimizer.warmup_steps:,} warm-up steps, batches of {config.step_size},
{config.precision}, seed {config.seed}.

## Licence

The sequences are under the licence of their source{licence}. No licence has
been chosen for the weights: whoever publishes them adds `license:` to the header.

## Lineage

{lineage_text(lineage, "weights")}
"""
