"""The searches of decontaminate beside the published command: what a full release costs, from parts of it.

328,360 held-out sequences, as many as validate in release 2024_03, and train sequences, 2% of them relatives of
held-out ones at 40% to 95% identity. All are the demo's proteins with the residues shuffled within windows: real lengths and
local composition, and no homology that was not planted.

A search costs a sum for each index, one for each query, and one for each query and sequence of the index. The published
search is measured with two numbers of train queries against all 328,360 targets; ours with two numbers of held-out
queries against two indexes of train sequences, the larger one of 328,360. Seconds for all 65.3 million train sequences
follow linearly. Where both searches saw the same sequences they must find the same hits, or the program fails.

    python bench/bench_decontaminate.py --json decontaminate.json      (some 15 minutes of processor time, 2 GB)
"""

import argparse
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from demo_proteins import proteins
from paired import machine

from unirefine.config import AuditSearch, Decontaminate, Search
from unirefine.decontaminate.align import align, hits_among
from unirefine.decontaminate.memory import prefilter_bytes
from unirefine.files.atomic import write_json
from unirefine.tools import find_mmseqs, tool_version

HELD_OUT, TRAIN, PARTS = 328_360, 65_343_779, 24
FEW, MANY = 1_000, 4_000
WINDOW = 20
EVERY = 50
"""One train sequence of so many is a relative of a held-out one."""
LETTERS = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)
PAIRS = {
    "search": (Search(direction="published", sensitivity=7.0), Decontaminate().search),
    "audit": (AuditSearch(direction="published", sensitivity=7.5), Decontaminate().audit),
}
"""The searches as they were until 0.1 (the first is the published command), and as they are now."""


def shuffled(sequences: list[str], count: int, seed: int) -> list[np.ndarray]:
    """`count` sequences of letters, uint8 arrays, whose residues are shuffled within windows."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        letters = np.frombuffer(sequences[i % len(sequences)].encode(), np.uint8)
        found.append(letters[np.argsort(np.arange(len(letters)) // WINDOW + random.random(len(letters)))])
    return found


def relatives(train: list[np.ndarray], held_out: list[np.ndarray]) -> None:
    """Replace one of EVERY train sequences by a copy of one of the first MANY held-out ones, 40% to 95% of it kept."""
    random = np.random.default_rng(3)
    for i in range(0, len(train), EVERY):
        source = held_out[random.integers(MANY)]
        keep = random.random(len(source)) < random.uniform(0.40, 0.95)
        train[i] = np.where(keep, source, random.choice(LETTERS, len(source)))


def write(path: Path, sequences: list[np.ndarray]) -> Path:
    """Write FASTA as prepare does; sequence i has the name i."""
    with path.open("wb") as file:
        for number, letters in enumerate(sequences):
            file.write(b">%d\n%s\n" % (number, letters.tobytes()))
    return path


def search(train: Path, held_out: Path, settings: Search, threads: int) -> dict[str, object]:
    """Search in this process, which has run nothing before: the seconds and the memory are MMseqs2's."""
    with tempfile.TemporaryDirectory(dir=train.parent) as work:
        found = align(find_mmseqs(), train, held_out, settings, work=Path(work), threads=threads)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    hits = hits_among(found, settings).select("cluster", "target").unique().sort("cluster", "target").rows()
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1e3, "hits": hits}


def in_new_process(*arguments: object) -> dict[str, object]:
    """`search` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        done = pool.submit(search, *arguments).result()
    print(
        f"  {done['cpu_s']:,.1f} s of processor time, {done['peak_mb']:,.0f} MB, {len(done['hits']):,} hits", flush=True
    )
    return done


def compare(
    files: dict[str, Path], sizes: tuple[int, int], residues: int, pair: tuple[Search, Search], threads: int
) -> dict[str, object]:
    """Measure both searches of a pair and multiply them up to the full size."""
    before, after = pair
    small, large = sizes
    runs = {
        "published": {n: in_new_process(files[f"train-{n}"], files["held-out"], before, threads) for n in (FEW, MANY)},
        "ours": {
            (n, m): in_new_process(files[f"train-{n}"], files[f"held-out-{m}"], after, threads)
            for n in sizes
            for m in (FEW, MANY)
        },
    }
    known = {(t, h) for t, h in runs["published"][MANY]["hits"] if h < MANY}
    found = {(t, h) for t, h in runs["ours"][large, MANY]["hits"] if t < MANY}
    if known - found:
        sys.exit(f"{len(known - found)} of {len(known)} hits are lost, for example {min(known - found)}")
    seconds = {key: run["cpu_s"] for runs_of in runs.values() for key, run in runs_of.items()}
    published = (seconds[MANY] - seconds[FEW]) / (MANY - FEW)
    query = {n: (seconds[n, MANY] - seconds[n, FEW]) / (MANY - FEW) for n in sizes}
    index = {n: seconds[n, FEW] - FEW * query[n] for n in sizes}
    each_pair = (query[large] - query[small]) / (large - small)
    each_query = query[large] - each_pair * large
    each_sequence = (index[large] - index[small]) / (large - small)
    each_part = index[large] - each_sequence * large
    ours = PARTS * (each_part + HELD_OUT * each_query) + TRAIN * (each_sequence + HELD_OUT * each_pair)
    return {
        "before": before.model_dump(mode="json"),
        "after": after.model_dump(mode="json"),
        "hits": {"published": len(known), "ours": len(found), "lost": len(known - found)},
        "seconds_per_query": published,
        "ours": {"part": each_part, "sequence": each_sequence, "query": each_query, "pair": each_pair},
        "full_size_core_hours": {"published": TRAIN * published / 3600, "ours": ours / 3600},
        "times_fewer": TRAIN * published / ours,
        "peak_mb": {"published": runs["published"][MANY]["peak_mb"], "ours": runs["ours"][large, MANY]["peak_mb"]},
        "estimated_mb": prefilter_bytes(large, residues, threads) / 1e6,
    }


def main() -> None:
    """Make the sequences, measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description="The searches of decontaminate beside the published command.")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--threads", type=int, default=2, help="threads of MMseqs2 (default: 2)")
    parser.add_argument("--targets", type=int, default=HELD_OUT, help="held-out sequences (default: all)")
    parser.add_argument("--only", choices=PAIRS, help="measure one of the two searches")
    arguments = parser.parse_args()
    large, sequences = arguments.targets, proteins()
    held_out, train = shuffled(sequences, large, 1), shuffled(sequences, large, 2)
    relatives(train, held_out)
    with tempfile.TemporaryDirectory() as directory:
        work, sizes = Path(directory), (large // 4, large)
        files = {"held-out": write(work / "held-out.fasta", held_out)}
        for n in (FEW, MANY):
            files[f"held-out-{n}"] = write(work / f"held-out-{n}.fasta", held_out[:n])
        for n in (FEW, MANY, *sizes):
            files[f"train-{n}"] = write(work / f"train-{n}.fasta", train[:n])
        residues = sum(map(len, train))
        del held_out, train
        report = {"machine": machine(), "mmseqs": tool_version(find_mmseqs()), "targets": large, "parts": PARTS}
        for name, pair in PAIRS.items():
            if arguments.only in (None, name):
                print(f"{name}: -s {pair[0].sensitivity:g} as published, then -s {pair[1].sensitivity:g}", flush=True)
                report[name] = compare(files, sizes, residues, pair, arguments.threads)
                hours = report[name]["full_size_core_hours"]
                print(f"  at full size {hours['published']:,.0f} and {hours['ours']:,.0f} core-hours")
    if arguments.json:
        write_json(arguments.json, report)


if __name__ == "__main__":
    main()
