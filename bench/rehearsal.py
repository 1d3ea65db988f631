"""Rehearse the id work of a full release: 65,672,139 clusters and 187,382,018 members through cluster and split.

Synthetic records with ids in UniProt's form stand in for release 2024_03: two thirds accessions like A0A009IHW8, one
third UPIs; cluster sizes with a long tail; record order independent of membership; membership stated at both levels, as
in UniRef XML. The two real commands then run on them, each in its own process, and their time and peak memory are
measured, without the time to make the input. The results are checked: the counts, exactly the 328,360 validation
clusters that config/uniref-2024_03.yaml asks for (scaled with --scale), and, with --again, the same bytes from another
file order, another number of parts and another number of threads.

    python bench/rehearsal.py --scale 0.01 --again
    python bench/rehearsal.py --json rehearsal.json          (about 12 GB of disk)
"""

import argparse
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa

from unirefine.core.tables import table_writer
from unirefine.files.atomic import read_json, write_json
from unirefine.files.counts import write_counts
from unirefine.files.hashes import sha256_file
from unirefine.progress import duration, human, meter

CLUSTERS, MEMBERS, VALIDATION = 65_672_139, 187_382_018, 328_360
BLOCK = 1 << 20
LARGEST = 50_000
RECORDS = pa.schema([("key", pa.uint64()), ("member_count", pa.int32()), ("listed_members", pa.int32())])
CLAIMS = pa.schema([("cluster_key", pa.uint64()), ("member_key", pa.uint64())])
KEPT = pa.schema([("row", pa.uint32()), ("key", pa.uint64()), ("length", pa.int32())])

ACCESSIONS = 36 * 36 * 10 * 26 * 36 * 36 * 10
"""A0A and then, as in A0A009IHW8: two letters or digits, a digit, a letter, two letters or digits, a digit."""
UPIS = 1_000_000_007


@numba.njit(parallel=True)
def member_keys(members: np.ndarray) -> np.ndarray:
    """Key of each member number: int64[n] -> uint64[n], a different one for each."""
    keys = np.empty(len(members), np.uint64)
    for i in numba.prange(len(members)):
        member = np.uint64(members[i])
        if member % np.uint64(3) == 0:
            keys[i] = (np.uint64(1) << np.uint64(62)) | (member * np.uint64(387_420_489) % np.uint64(UPIS))
            continue
        rest = member * np.uint64(1_000_003) % np.uint64(ACCESSIONS)
        value = np.uint64((11 * 37 + 1) * 37 + 11)  # A0A
        for kind in (36, 36, 10, 26, 36, 36, 10):
            digit = rest % np.uint64(kind)
            rest //= np.uint64(kind)
            value = value * np.uint64(37) + digit + np.uint64(11 if kind == 26 else 1)
        keys[i] = value << np.uint64(9)
    return keys


def cluster_sizes(clusters: int, members: int, random: np.random.Generator) -> np.ndarray:
    """Members of each cluster, int64[clusters], that add up to `members`: most have one, a few have thousands."""
    extra = np.minimum(random.pareto(1.2, clusters) * 0.6, LARGEST).astype(np.int64)
    missing = members - clusters - int(extra.sum())
    while missing:
        step = 1 if missing > 0 else -1
        able = np.flatnonzero(extra + step >= 0)[: abs(missing)]
        extra[able] += step
        missing -= step * len(able)
    return extra + 1


class Order:
    """The order of n records: row r holds item (r x step + start) mod n. Another seed, another order."""

    def __init__(self, count: int, seed: int) -> None:
        step = int(count * 0.6180339887) + seed
        while math.gcd(step, count) > 1:
            step += 1
        self.count, self.step, self.start = count, step, seed

    def items(self, begin: int, end: int) -> np.ndarray:
        """Items of rows begin .. end: int64."""
        return (np.arange(begin, end, dtype=np.int64) * self.step + self.start) % self.count


def write_input(directory: Path, clusters: int, members: int, parts: int, seed: int) -> None:
    """Write `records` and `curate` as their stages do, with the columns that the id work reads."""
    sizes = cluster_sizes(clusters, members, np.random.default_rng(1))
    ends = np.cumsum(sizes)
    owner = np.repeat(np.arange(clusters, dtype=np.uint32), sizes)

    def representatives(items: np.ndarray) -> np.ndarray:
        return member_keys(ends[items] - sizes[items])

    def entry(items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        keys, of = representatives(items), sizes[items]
        claimed = np.repeat(ends[items] - np.cumsum(of), of) + np.arange(of.sum())
        return keys, of, np.repeat(keys, of), member_keys(claimed)

    def member_entry(items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        keys = member_keys(items)
        return keys, np.ones(len(items), np.int64), keys, representatives(owner[items].astype(np.int64))

    levels = {}
    with meter("making the input", total=clusters + members, unit="records") as done:
        for level, order, make in (
            ("uniref50", Order(clusters, seed), entry),
            ("uniref90", Order(members, seed), member_entry),
        ):
            with table_writer(directory / "curate" / f"{level}.parquet", KEPT) as kept:
                for part in range(parts):
                    name = f"{part:03d}-of-{parts:03d}.parquet"
                    begin, end = order.count * part // parts, order.count * (part + 1) // parts
                    with (
                        table_writer(directory / "records" / level / f"records-{name}", RECORDS) as records,
                        table_writer(directory / "records" / level / f"members-{name}", CLAIMS) as claims,
                    ):
                        for first in range(begin, end, BLOCK):
                            items = order.items(first, min(first + BLOCK, end))
                            keys, counts, entries, named = make(items)
                            stated = counts.astype(np.int32)
                            records.write({"key": keys, "member_count": stated, "listed_members": stated})
                            claims.write({"cluster_key": entries, "member_key": named})
                            row = np.arange(first, first + len(items), dtype=np.uint32)
                            length = (30 + items % 700).astype(np.int32)
                            kept.write({"row": row, "key": keys, "length": length})
                            done.advance(len(items))
            levels[level] = {"in": order.count, "kept": order.count, "removed": {}}
    write_counts(directory / "curate" / "counts.json", "curate", levels)


def measured(name: str, *arguments: object) -> dict[str, float]:
    """Run `unirefine <name> ...` in its own process: seconds and peak resident bytes."""
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "unirefine.cli.main", name, *map(str, arguments)])
    _pid, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    if status:
        raise SystemExit(f"unirefine {name} failed")
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def rehearse(
    directory: Path, clusters: int, members: int, validation: int, *, parts: int, seed: int, threads: int
) -> dict[str, object]:
    """Run both stages on the input, check what came out; returns measures and hashes of the outputs."""
    if not (directory / "curate" / "counts.json").exists():  # written last
        # in a process of its own: the reported peak of a command is never below that of the process that starts it
        maker = get_context("spawn").Process(target=write_input, args=(directory, clusters, members, parts, seed))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit("making the input failed")
    records, cluster, split = directory / "records", directory / "cluster", directory / "split"
    result: dict[str, object] = {
        "cluster": measured(
            "cluster",
            "--records",
            records,
            "--curated",
            directory / "curate",
            "--output",
            cluster,
            "--threads",
            threads,
        ),
        "split": measured("split", "--clusters", cluster, "--output", split, "--set", f"validation_count={validation}"),
    }
    levels = read_json(cluster / "counts.json")["levels"]
    assert (levels["uniref50"]["kept"], levels["uniref90"]["kept"]) == (clusters, members), levels
    sides = read_json(split / "counts.json")["sides"]
    result["validation"] = sides["validation"]["clusters"]
    assert result["validation"] == validation, sides
    assert sides["train"]["clusters"] + sides["validation"]["clusters"] == clusters, sides
    result["sha256"] = {
        path.name: sha256_file(path) for path in (cluster / "clusters.parquet", split / "split.parquet")
    }
    return result


def main() -> None:
    """Parse the options, rehearse, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the full release (default: 1)")
    parser.add_argument("--directory", type=Path, help="keep the input there, use it again")
    parser.add_argument("--threads", type=int, default=2, help="threads of the cluster stage (default: 2)")
    parser.add_argument("--again", action="store_true", help="once more in another order: the split must be the same")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures here too")
    options = parser.parse_args()
    clusters, members, validation = (round(full * options.scale) for full in (CLUSTERS, MEMBERS, VALIDATION))
    shapes = [{"parts": 64, "seed": 0, "threads": options.threads}]
    if options.again:
        shapes.append({"parts": 7, "seed": 12345, "threads": 1})
    runs = []
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as temporary:
            kept = options.directory and options.directory / f"{clusters}-{shape['parts']}-{shape['seed']}"
            runs.append(rehearse(kept or Path(temporary), clusters, members, validation, **shape) | shape)
    result = {
        "clusters": clusters,
        "members": members,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "runs": runs,
    }
    print(f"{clusters:,} clusters, {members:,} members, {os.cpu_count()} cores")
    for run in runs:
        for stage in ("cluster", "split"):
            figures = run[stage]
            peak = human(figures["peak_bytes"], "B")
            print(f"{stage:<8} {duration(figures['seconds']):>7}  peak {peak:>8}  ({run['threads']} threads)")
        both = run["cluster"]["seconds"] + run["split"]["seconds"]
        print(f"together {duration(both):>7}  {run['validation']:,} validation clusters")
    if options.again:
        if runs[0]["sha256"]["split.parquet"] != runs[1]["sha256"]["split.parquet"]:
            raise SystemExit("the split depends on the order of the files")
        print("another file order, other parts, one thread: the same split, byte for byte")
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
