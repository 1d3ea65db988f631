"""The data card: what is in the shards, where it comes from, what it is for."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCardData

from unirefine.core.markdown import (
    UNIPROT_LICENCE,
    audit_text,
    benchmarks_text,
    citation_text,
    counts_table,
    lineage_text,
    one_line,
    published_text,
    release_name,
    size_category,
    table,
)
from unirefine.core.summaries import is_own
from unirefine.files.lineage import data_set_of


def data_card(name: str, lineage: Mapping[str, Any], manifest: Mapping[str, Any], audit: Mapping[str, Any]) -> str:
    """Markdown with a YAML header, as the Hub reads it. manifest: of the shards; audit: identity.json."""
    sides = manifest["sides"]
    sequences = sum(side["sequences"] for side in sides.values())
    from_fasta, data_set = is_own(lineage["release"]), data_set_of(lineage["release"])
    header = DatasetCardData(
        license="other" if from_fasta or data_set else "cc-by-4.0",
        pretty_name=f"{name}: protein token shards",
        size_categories=[size_category(sequences)],
        task_categories=["fill-mask"],
        tags=["biology", "protein", *([] if from_fasta or data_set else ["uniref"]), "esm"],
    )
    rows = [
        [side, *(f"{counts[key]:,}" for key in ("documents", "sequences", "tokens", "longest", "unknown"))]
        for side, counts in sides.items()
    ]
    licence = (
        "The sequences are those of the input FASTA, and under its licence."
        if from_fasta
        else f"The sequences are those of {one_line(data_set)}, and under its licence."
        if data_set
        else UNIPROT_LICENCE
    )
    if from_fasta:
        contents = "a sequence per representative at the first identity, a document per cluster at the second"
        bias = "what is in the FASTA is what its authors chose to put there"
    elif data_set:
        contents = "a sequence per member, a document per cluster"
        bias = "what is in the data set is what its authors chose to put there"
    else:
        contents = "a sequence per UniRef90 member, a document per UniRef50 cluster"
        bias = "what is in UniProt is what people chose to sequence"
    return f"""---
{header.to_yaml()}
---

# {one_line(name)}: protein token shards

Clustered protein sequences from {release_name(lineage)} as Megatron-core `IndexedDataset` files (`.bin`, `.idx`):
one byte a residue in ESM-2's alphabet, {contents}.

{table(["side", "clusters", "sequences", "residues", "longest", "residues without a token"], rows)}

## Intended use

Masked-language-model training of protein models in the way of ESM-2 (a cluster uniformly, then one of its members), and
evaluation on validation clusters that train clusters are not similar to, as far as was searched (below). Not for claims
about single organisms or functions: clusters are drawn by similarity, not by biology, and {bias}.

## How it was made

{counts_table(lineage)}
{published_text(lineage)}
{audit_text(audit)} Domains shared between longer proteins are not similarity in this sense.
{benchmarks_text(audit)}
## Limitations

- A cluster is of similar sequences, not of one function; its representative stands for it in validation.
- Held-out clusters are without what was found similar to train, as far as was searched (above).
- Residues that ESM-2's alphabet lacks are stored as unknown tokens and counted in the table.

## Licence

{licence}

## Citation

{citation_text(lineage)}

## Lineage

{lineage_text(lineage, "shards")}
"""
