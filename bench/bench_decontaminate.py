"""The searches of decontaminate beside the published command: what a full release costs, from parts of it.

328,360 held-out sequences, as many as validate in release 2024_03, and train sequences, 2% of them relatives of
held-out ones at 40% to 95% identity. All are the demo's proteins, cut to three quarters (UniRef90's mean of some 350
residues), with the residues shuffled within windows: real lengths and local composition, and no homology that was not
planted. Where both searches saw the same sequences they must find the same hits, or the program fails.

Seconds are processor time and are multiplied up linearly. The published search: those of 1,200 train queries less those
of 200, against all 328,360 targets, for each of 65.3 million queries. Ours, from two numbers of held-out queries
against 82,090 and against 328,360 train sequences: a start and a sequence of the index, a query, a pair. What a pair
costs in the alignment comes from the published runs' queries against all targets: at full size, too, a train sequence
is aligned with all its candidates at once. Bands of length, which so few queries do not have, multiply three of them:
how often, follows from the bands that a part of the full size gets.

    python bench/bench_decontaminate.py --json decontaminate.json      (some 15 minutes of processor time, 3 GB)
"""

import argparse
import resource
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from demo_proteins import proteins
from paired import machine

from unirefine.config import Decontaminate, Search
from unirefine.files.atomic import write_json
from unirefine.similarity import align as search
from unirefine.similarity import mmseqs
from unirefine.similarity.bands import length_bands
from unirefine.similarity.memory import prefilter_bytes
from unirefine.tools import find_mmseqs, run_tool, tool_version

LEVELS = {"representatives": (328_360, 65_343_779, 9), "members": (927_373, 186_454_645, 24)}
"""Held-out sequences, train sequences and parts of release 2024_03 (bench/rehearsal.py, docs/cluster.md)."""
HELD_OUT, TRAIN, PARTS = LEVELS["representatives"]
QUERIES = {"published": (200, 1_200), "ours": (500, 2_000)}
WINDOW = 20
EVERY = 50
"""One train sequence of so many is a relative of a held-out one."""
LETTERS = np.frombuffer(b"LAGVSERTIDPKQNFYMHWC", np.uint8)
PAIRS = {
    "search": (Search(direction="published", sensitivity=7.0), Decontaminate().search),
    "audit": (Search(direction="published", sensitivity=7.5, max_seqs=1000), Decontaminate().audit),
}
"""The searches as they were (the first is the published command), and as they are."""


def shuffled(sequences: list[str], count: int, seed: int) -> list[np.ndarray]:
    """`count` sequences of letters, uint8 arrays, whose residues are shuffled within windows."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        letters = np.frombuffer(sequences[i % len(sequences)].encode(), np.uint8)
        letters = letters[: max(1, len(letters) * 3 // 4)]
        found.append(letters[np.argsort(np.arange(len(letters)) // WINDOW + random.random(len(letters)))])
    return found


def plant(train: list[np.ndarray], held_out: list[np.ndarray]) -> None:
    """Replace one of EVERY train sequences by a copy of a held-out one that asks, 40% to 95% of it kept."""
    random = np.random.default_rng(3)
    for i in range(0, len(train), EVERY):
        source = held_out[random.integers(QUERIES["ours"][1])]
        keep = random.random(len(source)) < random.uniform(0.40, 0.95)
        train[i] = np.where(keep, source, random.choice(LETTERS, len(source)))


def write(path: Path, sequences: list[np.ndarray]) -> Path:
    """Write FASTA as prepare does; sequence i has the name i."""
    with path.open("wb") as file:
        for number, letters in enumerate(sequences):
            file.write(b">%d\n%s\n" % (number, letters.tobytes()))
    return path


def processor_seconds() -> float:
    """Processor time of the programs that this process has run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(train: Path, held_out: Path, settings: Search, threads: int) -> dict[str, object]:
    """Search in this process, which is a new one; seconds by module of MMseqs2."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(argv: list, **options: object) -> None:
        before = processor_seconds()
        run_tool(argv, **options)
        seconds[argv[1]] += processor_seconds() - before

    mmseqs.run_tool = timed
    # what a candidate must have depends on the residues of the whole held-out side
    asked, scale = search.smallest_ungapped, HELD_OUT / held_out.read_bytes().count(b">")
    search.smallest_ungapped = lambda residues, evalue: asked(int(scale * residues), evalue)
    with tempfile.TemporaryDirectory(dir=train.parent) as work:
        found = search.align(find_mmseqs(), train, held_out, settings, work=Path(work), threads=threads)
    hits = search.hits_among(found, settings).select("cluster", "target").unique().sort("cluster", "target").rows()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    return {"seconds": dict(seconds), "total": processor_seconds(), "peak_mb": peak, "hits": hits}


def in_new_process(*arguments: object) -> dict[str, object]:
    """`measured` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        done = pool.submit(measured, *arguments).result()
    modules = ", ".join(f"{name} {seconds:.1f}" for name, seconds in done["seconds"].items())
    print(f"  {done['total']:,.1f} s ({modules}), {done['peak_mb']:,.0f} MB, {len(done['hits']):,} hits", flush=True)
    return done


def slopes(seconds: dict[tuple[int, int], float], sizes: tuple[int, int], queries: tuple[int, int]) -> list[float]:
    """Seconds of a start, a sequence of the index, a query and a pair, from four runs by (sequences, queries)."""
    (small, large), (few, many) = sizes, queries
    query = {n: (seconds[n, many] - seconds[n, few]) / (many - few) for n in sizes}
    index = {n: seconds[n, few] - few * query[n] for n in sizes}
    pair, sequence = ((by[large] - by[small]) / (large - small) for by in (query, index))
    return [index[large] - sequence * large, sequence, query[large] - pair * large, pair]


def bands_of_a_part(lengths: np.ndarray, held_out: int, train: int) -> dict[str, float]:
    """What the bands of a part of the full size are: their number, and the shares of the index and of all pairs."""
    random = np.random.default_rng(4)
    asks, index = random.choice(lengths, held_out), random.choice(lengths, train)
    residues = [float(side.sum()) for side in (asks, index)]
    number, indexed, pairs = 0, 0.0, 0.0
    for asking, candidates in length_bands(asks, index, Search().coverage):
        number += 1
        mine, theirs = float(asks[asking].sum()), float(index[candidates].sum())
        indexed += theirs / residues[1]
        pairs += mine * theirs / residues[0] / residues[1]
    return {"number": number, "index": indexed, "pairs": pairs}


def compare(files: dict[str, Path], sizes: tuple[int, int], lengths: np.ndarray, pair: tuple, threads: int) -> dict:
    """Measure both searches of a pair and multiply them up to the full size."""
    before, after = pair
    few, many = QUERIES["published"]
    published = {n: in_new_process(files[f"train-{n}"], files["held-out"], before, threads) for n in (few, many)}
    ours = {
        (n, m): in_new_process(files[f"train-{n}"], files[f"held-out-{m}"], after, threads)
        for n in sizes
        for m in QUERIES["ours"]
    }
    largest = ours[sizes[1], QUERIES["ours"][1]]
    turned = {n: in_new_process(files[f"train-{n}"], files["held-out"], after, threads) for n in (few, many)}
    known, found = set(published[many]["hits"]), set(turned[many]["hits"])
    found_by_held_out = {(t, h) for t, h in largest["hits"] if t < many}
    lost = (known - found) | {(t, h) for t, h in known - found_by_held_out if h < QUERIES["ours"][1]}
    if lost:
        sys.exit(f"{len(lost)} of {len(known)} hits are lost, for example {min(lost)}")
    prefilter, rest = (
        slopes({key: amount(run) for key, run in ours.items()}, sizes, QUERIES["ours"])
        for amount in (
            lambda run: run["seconds"]["prefilter"],
            lambda run: run["total"] - run["seconds"]["prefilter"] - run["seconds"]["align"],
        )
    )
    aligned = turned[many]["seconds"]["align"] - turned[few]["seconds"]["align"]
    rest[-1] += aligned / (many - few) / sizes[1]
    each_query = (published[many]["total"] - published[few]["total"]) / (many - few)
    hours, bands = {"published": TRAIN * each_query / 3600}, {}
    for level, (held_out, train, parts) in LEVELS.items():
        bands[level] = bands_of_a_part(lengths, held_out, train // parts)
        times = bands[level]["number"], bands[level]["index"], 1, bands[level]["pairs"]
        amounts = parts, train, parts * held_out, train * held_out
        each = [a * b + c for a, b, c in zip(times, prefilter, rest, strict=True)]
        hours[f"ours, {level}"] = sum(a * b for a, b in zip(amounts, each, strict=True)) / 3600
    names = ("start", "sequence", "query", "pair")
    return {
        "before": before.model_dump(mode="json"),
        "after": after.model_dump(mode="json"),
        "hits": {"published": len(known), "ours": len(found), "lost": len(lost)},
        "published_seconds_a_query": each_query,
        "prefilter_seconds": dict(zip(names, prefilter, strict=True)),
        "other_seconds": dict(zip(names, rest, strict=True)),
        "bands": bands,
        "full_size_core_hours": hours,
        "peak_mb": {"published": published[many]["peak_mb"], "ours": largest["peak_mb"]},
        "estimated_mb": prefilter_bytes(sizes[1], int(lengths.sum()), threads) / 1e6,
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
    plant(train, held_out)
    lengths, sizes = np.array([len(sequence) for sequence in train]), (large // 4, large)
    report = {"machine": machine(), "mmseqs": tool_version(find_mmseqs()), "targets": large, "parts": PARTS}
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        files = {"held-out": write(work / "held-out.fasta", held_out)}
        files |= {f"held-out-{n}": write(work / f"held-out-{n}.fasta", held_out[:n]) for n in QUERIES["ours"]}
        numbers = (*QUERIES["published"], *sizes)
        files |= {f"train-{n}": write(work / f"train-{n}.fasta", train[:n]) for n in numbers}
        del held_out, train
        for name, pair in PAIRS.items():
            if arguments.only in (None, name):
                print(f"{name}: -s {pair[0].sensitivity:g} as it was, then -s {pair[1].sensitivity:g}", flush=True)
                report[name] = compare(files, sizes, lengths, pair, arguments.threads)
                hours = report[name]["full_size_core_hours"]
                print("  core-hours:", ", ".join(f"{key} {value:,.0f}" for key, value in hours.items()), flush=True)
    if arguments.json:
        write_json(arguments.json, report)


if __name__ == "__main__":
    main()
