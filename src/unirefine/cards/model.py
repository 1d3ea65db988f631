"""The model card: its perplexity beside baselines, its use, its training, its lineage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from unirefine.config import Train
from unirefine.core.markdown import audit_text, citation_text, lineage_text, one_line, release_name, table
from unirefine.core.summaries import PERPLEXITY_COLUMNS, beaten_text, chosen_text, is_own, perplexity_rows, trained_on
from unirefine.files.lineage import data_set_of

_CODE = """```python
import torch
from transformers import AutoTokenizer, EsmForMaskedLM

directory = "."  # where this card lies beside the weights, or the id on the Hub
tokenizer = AutoTokenizer.from_pretrained(directory)
model = EsmForMaskedLM.from_pretrained(directory).eval()
inputs = tokenizer("MKTAYIAKQRQISFVKSHFSRQ<mask>EERLGLIEVQ", return_tensors="pt")
with torch.no_grad():
    output = model(**inputs, output_hidden_states=True)
place = int((inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0])
probabilities = output.logits[0, place].softmax(-1)
embedding = output.hidden_states[-1][0, 1:-1].mean(0)  # of the protein, without <cls> and <eos>
print(tokenizer.convert_ids_to_tokens(int(probabilities.argmax())), float(probabilities.max()), embedding.shape)
```"""


def base_model(init: str | None) -> str | None:
    """The id on the Hub of what training started from; None for random weights and for files of one's own."""
    try:
        validate_repo_id(init or "")
    except HFValidationError:
        return None
    return init if init and init.count("/") == 1 and not Path(init).exists() else None


def model_card(
    name: str,
    lineage: Mapping[str, Any],
    trained: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    audit: Mapping[str, Any],
) -> str:
    """Markdown with a YAML header, as the Hub reads it. trained: train.json; evaluation: perplexity.json."""
    rows, own = {row["key"]: row for row in evaluation["table"]}, is_own(lineage["release"])
    config = Train.model_validate(trained["config"])
    header = ModelCardData(
        model_name=name,
        license="unknown",
        base_model=base_model(config.init),
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["biology", "protein", "esm"],
        eval_results=[
            EvalResult(
                task_type="fill-mask",
                dataset_type="fasta" if own else "uniref50" if data_set_of(lineage["release"]) is None else "dataset",
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
    layers, hidden, heads = config.model.sizes
    of_uniprot = not own and data_set_of(lineage["release"]) is None
    known = "those in UniProt" if of_uniprot else "the train sequences"
    licence = " (UniProt: CC BY 4.0, which asks for attribution)" if of_uniprot else ""
    hardware = "".join(f"\n{one_line(each)}" for each in trained_on(trained))
    started = "random weights" if config.init is None else f"`{one_line(config.init)}`"
    return f"""---
{header.to_yaml()}
---

# {one_line(name)}: ESM-2 trained on {release_name(lineage)}

{trained["parameters"]:,} parameters ({layers} layers, hidden size {hidden}, {heads} heads), trained for
{trained["step"]:,} steps on {trained["tokens"]:,} tokens. `EsmForMaskedLM` and `EsmTokenizer` of transformers load it:

{_CODE}

## Perplexity

{table(PERPLEXITY_COLUMNS, perplexity_rows(evaluation))}

{beaten_text(evaluation)}

{chosen_text(evaluation)} Intervals: 95%, over resampled clusters.

{audit_text(audit)}

## Intended use

Embeddings and masked-residue probabilities of natural proteins of up to {config.sampling.max_tokens - 2:,} residues.
Not meant for proteins unlike {known} (long repeats, non-standard residues, artificial designs), nor as the
only evidence for what a variant does in a patient.

## Limitations

- The model was judged by perplexity alone, on {evaluation["sequences"]:,} validation sequences: test it on your task
  first.
- {beaten_text(evaluation)}
  A model that is not better than a baseline has learned little more than that baseline knows.
- It saw windows of at most {config.sampling.max_tokens - 2:,} residues: what is farther apart was not seen together.
- Validation is without what was found similar to train, by whole-sequence searches; domains shared between longer
  proteins are in both.
- What the sequences' authors chose to sequence is what the model knows: some families and organisms are rare in it.

## Training

From {started}. ESM-2's recipe on Megatron-core: {config.sampling.mask_fraction:.0%} of the residues chosen,
Adam with a peak learning rate of {config.optimizer.lr:g}, {config.optimizer.warmup_steps:,} warm-up steps,
batches of {config.step_size}, {config.precision}, seed {config.seed}.{hardware}

## Licence

The sequences are under the licence of their source{licence}. No licence has
been chosen for the weights: whoever publishes them replaces `license: unknown` in the header.

## Citation

{citation_text(lineage, model=True)}

## Lineage

{lineage_text(lineage, "weights")}
"""
