"""The two UniRef-like levels of a lab's own sequences, by MMseqs2."""

from pathlib import Path

import numpy as np
import polars as pl

from unirefine.config import Cluster
from unirefine.core.levels import NONE
from unirefine.core.tables import Parts, iterate, strings_at
from unirefine.errors import UserError
from unirefine.progress import meter
from unirefine.tools import run_tool

_BATCH_ROWS = 1 << 14


def cluster_levels(
    config: Cluster, parts: Parts, kept: np.ndarray, *, binary: Path, work: Path, log: Path, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster the kept records at the first identity, then their representatives at the second.

    kept: bool[records]. work: an empty directory for MMseqs2's databases, about four times the size of the sequences.
    Returns (uint32[records], the row of each kept record's representative; uint32[records], the row of each
    representative's representative at the second level), NONE elsewhere. Raises UserError when MMseqs2 fails or leaves
    a sequence out.
    """
    fasta, sequences, representatives = work / "sequences.fasta", work / "sequences", work / "representatives"
    write_fasta(fasta, parts, kept)
    run_tool([binary, "createdb", fasta, sequences, "--dbtype", "1", "--shuffle", "0"], log=log)
    fasta.unlink()
    levels = []
    source, wanted = sequences, kept
    for number, identity in enumerate(config.identities):
        clusters, table = work / f"clusters-{number}", work / f"clusters-{number}.tsv"
        with meter(f"mmseqs {config.algorithm} at {identity}", total=int(wanted.sum()), unit="sequences") as progress:
            run_tool(
                [
                    *(binary, config.algorithm, source, clusters, work / f"tmp-{number}"),
                    *("--min-seq-id", str(identity), "-c", str(config.coverage), "--cov-mode", "0"),
                    *("--threads", str(threads)),
                ],
                log=log,
            )
            progress.advance(progress.total or 0)
        run_tool([binary, "createtsv", source, source, clusters, table, "--threads", str(threads)], log=log)
        levels.append(_representative_of(table, parts, wanted))
        if number == 0:
            run_tool([binary, "createsubdb", clusters, sequences, representatives, "--subdb-mode", "1"], log=log)
            source, wanted = representatives, levels[0] == np.arange(parts.rows, dtype=np.uint32)
    return levels[0], levels[1]


def write_fasta(path: Path, parts: Parts, kept: np.ndarray) -> None:
    """Write the kept records (bool[records]) as FASTA, each named by its row."""
    with path.open("wb") as file:
        for first, batch in iterate(parts, ["sequence"], batch_rows=_BATCH_ROWS):
            local = np.flatnonzero(kept[first : first + batch.num_rows])
            sequences = batch.column(0).take(local).to_pylist()
            lines = [f">{first + row}\n{text}\n" for row, text in zip(local.tolist(), sequences, strict=True)]
            file.write("".join(lines).encode("ascii"))


def _representative_of(table: Path, parts: Parts, wanted: np.ndarray) -> np.ndarray:
    """Representative's row by member's row: uint32[records], NONE where not wanted."""
    frame = pl.read_csv(table, separator="\t", has_header=False, schema={"to": pl.UInt32, "member": pl.UInt32})
    out = np.full(parts.rows, NONE, np.uint32)
    out[frame["member"].to_numpy()] = frame["to"].to_numpy()
    lost = np.flatnonzero((out == NONE) & wanted)
    if len(lost):
        name = strings_at(parts, "id", lost[:1])[0].as_py()
        raise UserError(
            f"MMseqs2 put {len(lost)} sequences into no cluster, such as {name}",
            where=parts.paths[0].parent,
            fix="is one longer than 65,535 residues? set curate.max_length",
        )
    assert len(frame) == int(wanted.sum())
    return out
