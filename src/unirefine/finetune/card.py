"""The model card of a fine-tuned model: what it predicts, how well, beside what, and how to use it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from unirefine.core.markdown import table
from unirefine.files.atomic import write_text
from unirefine.finetune.text import (
    check_text,
    gap_columns,
    gap_rows,
    gap_text,
    how,
    resampled_text,
    results_table,
    split_text,
    verdicts,
)
from unirefine.model.source import ADAPTER


def write(directory: Path, result: Mapping[str, Any]) -> None:
    """Write `README.md` of an exported model, as the Hub reads it."""
    settings, config = result["settings"], result["settings"]["config"]
    adapter = (directory / ADAPTER).is_file()
    residue = result["targets"][0]["task"] == "residue"
    base = settings["model"] if "/" in settings["model"] and not Path(settings["model"]).exists() else None
    header = ModelCardData(
        base_model=base, library_name="peft" if adapter else "transformers",
        pipeline_tag="token-classification" if residue else "text-classification",
        tags=["biology", "protein", "esm"],
    )  # fmt: skip
    parts = [
        f"---\n{header.to_yaml()}\n---\n",
        f"# Fine-tuned ESM-2: {', '.join(t['name'] for t in result['targets'])}\n",
    ]
    parts += [f"- {target['said']}" for target in result["targets"]]
    parts.append(f"\nBase model: `{settings['model']}`. Mode: {config['mode']}. Seed: {config['seed']}.")
    parts.append("\n## Use\n\n```python\n" + usage(directory, result, adapter=adapter, residue=residue) + "```")
    for split in result["splits"]:
        parts.append(
            f"\n## Results of a split {how(split['method'])}\n\n{split_text(split, result)} {check_text(split)}"
        )
        for one in split["results"]:
            parts.append(f"\n### {one['target']}\n\n{table(*results_table(one))}\n")
            parts += [f"- {verdict}" for verdict in verdicts(one)]
    if gap_text(result):
        parts.append("\n" + " ".join(gap_text(result)))
    if gap_rows(result):
        parts.append("\n" + table(gap_columns(result), gap_rows(result)))
    parts.append("\n" + resampled_text([one for split in result["splits"] for one in split["results"]]))
    if len(result["splits"][0]["parts"]) > 1:
        parts.append("The numbers are of all folds together; this model is that of one of them.")
    parts.append(
        f"\n## Limits\n\nSequences longer than {config['max_residues']:,} residues were cut in training."
        " Nothing is known of proteins unlike those of the table.\n\nNo licence has been chosen for the weights:"
        " whoever publishes them adds `license:` to the header."
    )
    write_text(directory / "README.md", "\n".join(parts) + "\n")


def usage(directory: Path, result: Mapping[str, Any], *, adapter: bool, residue: bool) -> str:
    """Python that loads the model."""
    kind = "TokenClassification" if residue else "SequenceClassification"
    outputs = sum(max(len(target["classes"]), 1) for target in result["targets"])
    if not adapter:
        return (
            f"from transformers import AutoModelFor{kind}, AutoTokenizer\n\n"
            f'model = AutoModelFor{kind}.from_pretrained("{directory}")\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{directory}")\n'
        )
    return (
        f"from peft import AutoPeftModelFor{kind}\nfrom transformers import AutoTokenizer\n\n"
        f'model = AutoPeftModelFor{kind}.from_pretrained("{directory}", num_labels={outputs})\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{directory}")\n'
    )
