"""Masked perplexity of the proteins of `decontaminate.against`, by the identity of what is nearest to them in train."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from unirefine.config import Evaluate
from unirefine.core.alphabet import encode
from unirefine.core.tables import open_parquet, table_writer
from unirefine.dataset import Side
from unirefine.dataset.indexed import write_index
from unirefine.errors import UserError, no_directory
from unirefine.evaluate import statistics
from unirefine.evaluate.breakdowns import identity_bins
from unirefine.evaluate.context import best_identity
from unirefine.evaluate.masked import MaskedSide, Positions

FILE = "benchmarks.parquet"
_FIRST = b"unirefine_first"
_IDS = pa.schema([("id", pa.string()), ("cluster_id", pa.string())])


@dataclass(frozen=True)
class Proteins:
    """The n proteins of all files, masked as validation is."""

    side: MaskedSide
    positions: Positions
    names: list[str]
    """Of the files, in order."""
    file: np.ndarray
    """int64[n]: index of the file of each."""
    identity: np.ndarray
    """float64[n]: highest identity of the final train set to each, NaN without an alignment."""


@contextlib.contextmanager
def open_proteins(decontaminated: Path | None, config: Evaluate) -> Iterator[Proteins | None]:
    """Yield the proteins that a run was decontaminated against; None without any.

    decontaminated: directory of the decontaminate stage. They lie in a temporary shard as long as the block lasts.
    Raises UserError when what prepare wrote is damaged.
    """
    if decontaminated is None or not (decontaminated / FILE).exists():
        yield None
        return
    table, identity = _read(decontaminated)
    if not len(table):
        yield None
        return
    sequences = [encode(text) for text in table["sequence"].to_pylist()]
    encoded = table["benchmark"].combine_chunks().dictionary_encode()
    with tempfile.TemporaryDirectory(prefix="unirefine-") as directory:
        prefix = Path(directory) / "benchmarks"
        with prefix.with_suffix(".bin").open("wb") as file:
            for sequence in sequences:
                file.write(sequence.tobytes())
        lengths = np.array([len(sequence) for sequence in sequences], np.int32)
        write_index(prefix.with_suffix(".idx"), lengths, np.arange(len(sequences) + 1))
        with table_writer(prefix.with_suffix(".ids.parquet"), _IDS) as writer:
            ids = table["id"].combine_chunks()
            writer.write({"id": ids, "cluster_id": ids})
        whole = config.model_copy(update={"sequences": None})
        side = MaskedSide(Side("benchmarks", [prefix]), whole)
        files = encoded.indices.to_numpy().astype(np.int64)
        yield Proteins(side, side.positions(), encoded.dictionary.to_pylist(), files, identity)


def nearest_train(decontaminated: Path, sequences: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """By name of each sequence `{nearest_train, nearest_identity}`: the bin and the highest identity of train to it.

    Both are None for a sequence that the run was not decontaminated against; the identity alone where nothing in train
    aligns. decontaminated: directory of the decontaminate stage; sequences: by name. Raises UserError when that stage
    had no proteins of `decontaminate.against`.
    """
    if not decontaminated.is_dir():
        raise UserError(no_directory(decontaminated), where=decontaminated, fix="give results/<run>/decontaminate")
    table, identity = _read(decontaminated)
    if not len(table):
        raise UserError(
            "its run was decontaminated against no proteins", where=decontaminated,
            fix="list a FASTA of them in decontaminate.against, and run the decontaminate stage again",
        )  # fmt: skip
    bins, labels = identity_bins(identity)
    known = {
        text: {"nearest_train": labels[at], "nearest_identity": None if np.isnan(value) else round(float(value), 3)}
        for text, at, value in zip(table["sequence"].to_pylist(), bins, identity, strict=True)
    }
    unknown = {"nearest_train": None, "nearest_identity": None}
    return {name: known.get(text.upper(), unknown) for name, text in sequences.items()}


def _read(decontaminated: Path) -> tuple[pa.Table, np.ndarray]:
    """The proteins (`id`, `benchmark`, `sequence`), and the highest identity of the final train set to each."""
    with open_parquet(decontaminated / FILE, "decontaminate") as file:
        first = (file.schema_arrow.metadata or {}).get(_FIRST, b"")
        table = file.read(columns=["id", "benchmark", "sequence"])
    if not len(table):
        return table, np.empty(0)
    if not first.isdigit():
        raise UserError("its metadata has no number of the first protein", where=decontaminated / FILE,
                        fix="run the decontaminate stage again")  # fmt: skip
    return table, best_identity(decontaminated, int(first) + len(table))[int(first) :]


def rows(proteins: Proteins, nll: Mapping[str, np.ndarray], seed: int) -> list[dict[str, Any]]:
    """What perplexity.json says of each file: `{name, sequences, masked, perplexity: {model: x}, identity: [rows]}`.

    nll: by model, float64[masked]. seed: of the intervals. Rows are those of a breakdown, of hidden residues; here each
    protein is a cluster of its own.
    """
    hidden = proteins.positions.kinds()["hidden"]
    bins, labels = identity_bins(proteins.identity)
    found = []
    for number, name in enumerate(proteins.names):
        own = proteins.file[proteins.positions.sequence] == number
        perplexity = {model: float(np.exp(values[own].mean())) if own.any() else None for model, values in nll.items()}
        shown = own & hidden
        sequence = proteins.positions.sequence[shown]
        of_file = {model: values[shown] for model, values in nll.items()}
        found.append(
            {
                "name": name,
                "sequences": int((proteins.file == number).sum()),
                "masked": int(own.sum()),
                "perplexity": perplexity,
                "identity": statistics.breakdown(bins[sequence], labels, sequence, of_file, group=sequence, seed=seed),
            }
        )
    return found
