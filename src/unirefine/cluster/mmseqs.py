"""Cluster the sequences of your own FASTA with MMseqs2, at two levels like UniRef's."""

from pathlib import Path

import numpy as np
import polars as pl

from unirefine.cluster.giants import Joined, join_giants
from unirefine.config import Cluster
from unirefine.core.rows import NONE
from unirefine.core.tables import Parts, iterate, strings_at
from unirefine.errors import UserError
from unirefine.files.atomic import temporary_directory
from unirefine.progress import meter
from unirefine.tools import run_tool

_BATCH_ROWS = 1 << 14


def cluster_sequences(
    config: Cluster, parts: Parts, kept: np.ndarray, output: Path, *, binary: Path, threads: int
) -> tuple[np.ndarray, np.ndarray, list[Joined]]:
    """Cluster the kept records at the first identity, then their representatives at the second.

    kept: bool[records]. MMseqs2's output is appended to `<output>/mmseqs.log`, its databases go to a temporary
    directory beside it: about four times the size of the sequences. Proteins too long for it are compared apart.
    Returns two arrays uint32[records], NONE elsewhere: the row of each kept record's representative, and the row of
    each representative's representative at the second level; and what was joined apart at each level. Raises UserError
    when MMseqs2 fails or leaves a sequence out.
    """
    output.mkdir(parents=True, exist_ok=True)
    log = output / "mmseqs.log"
    with temporary_directory(output / "mmseqs") as work:
        fasta, sequences, representatives = work / "sequences.fasta", work / "sequences", work / "representatives"
        _write_fasta(fasta, parts, kept)
        run_tool([binary, "createdb", fasta, sequences, "--dbtype", "1", "--shuffle", "0"], log=log)
        fasta.unlink()
        levels, apart = [], []
        source, chosen = sequences, kept
        for number, identity in enumerate(config.identities):
            clusters, table = work / f"clusters-{number}", work / f"clusters-{number}.tsv"
            total = int(chosen.sum())
            with meter(f"mmseqs {config.algorithm} at {identity}", total=total, unit="sequences") as progress:
                run_tool(
                    [
                        *(binary, config.algorithm, source, clusters, work / f"tmp-{number}"),
                        *("--min-seq-id", str(identity), "-c", str(config.coverage), "--cov-mode", "0"),
                        *("--threads", str(threads)),
                    ],
                    log=log,
                    directory=work,
                )
                progress.advance(total)
            run_tool([binary, "createtsv", source, source, clusters, table, "--threads", str(threads)], log=log)
            found = _read_representatives(table, parts, chosen)
            found, joined = join_giants(found, parts, identity, config.coverage, threads=threads)
            levels.append(found)
            apart.append(joined)
            if number == 0:
                chosen = found == np.arange(parts.rows, dtype=np.uint32)
                names, source = work / "representatives.txt", representatives
                np.savetxt(names, np.flatnonzero(chosen), "%d")
                run_tool(
                    [
                        *(binary, "createsubdb", names, sequences, representatives),
                        *("--subdb-mode", "1", "--id-mode", "1"),
                    ],
                    log=log,
                )
    return levels[0], levels[1], apart


def _write_fasta(path: Path, parts: Parts, kept: np.ndarray) -> None:
    """Write the kept records (bool[records]) as FASTA, each named by its row."""
    with path.open("wb") as file:
        for first, batch in iterate(parts, ["sequence"], batch_rows=_BATCH_ROWS):
            rows = np.flatnonzero(kept[first : first + batch.num_rows])
            sequences = batch.column(0).take(rows).to_pylist()
            lines = [f">{first + row}\n{text}\n" for row, text in zip(rows.tolist(), sequences, strict=True)]
            file.write("".join(lines).encode("ascii"))


def _read_representatives(table: Path, parts: Parts, chosen: np.ndarray) -> np.ndarray:
    """Row of each chosen record's representative: uint32[records], NONE for the others. chosen: bool[records]."""
    frame = pl.read_csv(
        table, separator="\t", has_header=False, glob=False, schema={"representative": pl.UInt32, "member": pl.UInt32}
    )
    rows = np.full(parts.rows, NONE, np.uint32)
    rows[frame["member"].to_numpy()] = frame["representative"].to_numpy()
    missing = np.flatnonzero((rows == NONE) & chosen)
    if len(missing):
        name = strings_at(parts, "id", missing[:1])[0].as_py()
        raise UserError(
            f"MMseqs2 put {len(missing)} sequences into no cluster, such as {name}",
            where=parts.paths[0].parent,
            fix="is one longer than 65,535 residues? set curate.max_length",
        )
    assert len(frame) == int(chosen.sum())
    return rows
