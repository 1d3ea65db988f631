"""README.md of a Parquet export: what it holds, and its splits as `datasets.load_dataset` reads them."""

from collections.abc import Mapping
from typing import Any

import yaml

from unirefine.core import markdown
from unirefine.core.summaries import is_own, is_uniprot


def dataset_card(facts: Mapping[str, Any]) -> str:
    """Markdown with a YAML header. facts: `{name, manifest, lineage}`; lineage is None where the shards have none."""
    name, manifest, lineage = facts["name"], facts["manifest"], facts["lineage"]
    sides, own, uniprot = manifest["sides"], is_own(manifest["release"]), is_uniprot(manifest["release"])
    header = {
        "license": "cc-by-4.0" if uniprot else "other",
        "pretty_name": f"{name}: protein sequences",
        "size_categories": [markdown.size_category(sum(side["sequences"] for side in sides.values()))],
        "task_categories": ["fill-mask"],
        "tags": ["biology", "protein", *(["uniref"] if uniprot else []), "esm"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": side, "path": f"{side}/*.parquet"} for side in sides],
            }
        ],
    }
    rows = [
        [side, *(f"{counts[key]:,}" for key in ("documents", "sequences", "tokens", "longest", "unknown"))]
        for side, counts in sides.items()
    ]
    columns = ["split", "clusters", "sequences", "residues", "longest", "residues written as J"]
    made = "" if lineage is None else f"\n## How it was made\n\n{markdown.counts_table(lineage)}\n"
    origin = "" if lineage is None else f"\n## Lineage\n\n{markdown.lineage_text(lineage, 'data')}\n"
    if lineage is not None:
        source = markdown.release_name(lineage)
    elif uniprot:
        source = f"UniProt {manifest['release']['release'] or 'of unknown release'}"
    else:
        source = "a FASTA" if own else "a data set"
    licence = (
        markdown.UNIPROT_LICENCE
        if uniprot
        else f"The sequences are those of the input {'FASTA' if own else 'data set'}, and under its licence."
    )
    return f"""---
{yaml.safe_dump(header, sort_keys=False, width=120).strip()}
---

# {name}: protein sequences

Clustered protein sequences from {source}, split for masked-language-model training in the way of ESM-2.

{markdown.table(columns, rows)}

```python
from datasets import load_dataset

data = load_dataset("path/of/this/directory")  # {", ".join(sides)}
```

| column | content |
|---|---|
| `sequence` | residues; one without a token in ESM-2's alphabet is `J`, which ESM-2's tokenisers read as `<unk>` |
| `ur50_id` | the cluster; its rows follow each other |
| `ur90_id` | the member; null where the sequence represents a whole cluster, as in validation |
{made}
## Licence

{licence}
{origin}"""
