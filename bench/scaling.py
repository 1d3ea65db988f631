"""The whole data half on synthetic families, at several sizes: what each stage costs, and how that grows.

A scale is a share of UniRef 2024_03 (65,672,139 clusters, 187,382,018 members), written as UniRef XML: cluster sizes
with UniRef's long tail, lengths log-normal with a mean of 351 residues, members that keep 50 to 95% of their
representative's residues, and three in ten representatives that keep 25 to 55% of another's, so that searches have
something to find. The commands of the stages then run one by one, each in a process of its own: wall time, CPU time and
peak memory of it and of what it starts, and the size of what it wrote.

Each stage of each scale is measured once and kept in DIR/<scale>/<stage>.json, so a stopped run goes on where it was,
and scales can be added one by one. From two scales follow the exponent of growth (of CPU time, by the number of
members) and the cost of a full release: of the searches by members and their square, of other stages by the exponent.

    python bench/scaling.py --directory scaling --scales 0.001
    python bench/scaling.py --directory scaling --scales 0.001 0.01

A scale whose search would take a day is measured by a part of it: `--one-of 24` cuts the train sequences into 24 parts,
as the workflow does for a cluster of machines, searches the first against all held-out ones, and multiplies by 24. At
every scale, because each part is a pass over all held-out sequences. Stages that need the results of all parts are left
out; the shards have the split as drawn.

    python bench/scaling.py --directory scaling --scales 0.01 0.05 --one-of 24
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from isal import igzip
from rehearsal import CLUSTERS, MEMBERS, VALIDATION, cluster_sizes, member_keys

from unirefine.core.crc64 import crc64_hex
from unirefine.core.ids import id_of
from unirefine.files.atomic import write_json
from unirefine.progress import duration, human, meter

LETTERS = np.frombuffer(b"ARNDCQEGHILKMFPSTWYV", np.uint8)
FREQUENCIES = np.array(
    [8.25, 5.53, 4.06, 5.46, 1.38, 3.93, 6.72, 7.07, 2.27, 5.91, 9.65, 5.80, 2.41, 3.86, 4.74, 6.65, 5.36, 1.10, 2.92,
     6.86]
)  # fmt: skip
"""Of UniProtKB/Swiss-Prot, in percent."""
POOL = 1 << 24
"""Random letters that are drawn from."""
RECENT = 4096
"""Representatives that a new one may resemble."""
PARTS = 24
"""Of a full release."""
THREADS, CORES = 16, 64
"""Of a job, and of a node, in the estimate."""
SPLIT = 5
"""Stages after this many depend on the number of validation clusters."""


LAUNCHER = """
import json, os, subprocess, sys, time
begun = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_pid, status, usage = os.wait4(process.pid, 0)
took = {"wall": time.monotonic() - begun, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024}
print(json.dumps(took))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""
"""A small process that starts a command: the peak memory of a process begins with that of the one that started it."""


class Families:
    """Sequences of clusters, one cluster after another."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._pool = self.random.choice(LETTERS, POOL, p=FREQUENCIES / FREQUENCIES.sum())
        self._recent: list[np.ndarray] = []

    def cluster(self, size: int) -> list[np.ndarray]:
        """`size` sequences, uint8[length] each; the first is the representative."""
        random = self.random
        if self._recent and random.random() < 0.3:
            first = self._mutated(self._recent[random.integers(len(self._recent))], random.uniform(0.25, 0.55))
        else:
            length = int(np.clip(random.lognormal(math.log(270), 0.72), 11, 35_000))
            first = self._letters(length).copy()
        if len(self._recent) < RECENT:
            self._recent.append(first)
        else:
            self._recent[random.integers(RECENT)] = first
        return [first, *(self._mutated(first, random.uniform(0.5, 0.95)) for _ in range(size - 1))]

    def _mutated(self, sequence: np.ndarray, kept: float) -> np.ndarray:
        changed = sequence.copy()
        where = self.random.random(len(changed)) >= kept
        changed[where] = self._letters(int(where.sum()))
        return changed

    def _letters(self, count: int) -> np.ndarray:
        """Random letters: a stretch of the pool."""
        begin = int(self.random.integers(POOL - count))
        return self._pool[begin : begin + count]


def write_release(directory: Path, clusters: int, members: int) -> None:
    """Write `uniref50.xml.gz`, `uniref90.xml.gz` and release.json."""
    directory.mkdir(parents=True, exist_ok=True)
    sizes = cluster_sizes(clusters, members, np.random.default_rng(1))
    families, number = Families(2), 0
    paths = [directory / f"{level}.xml.gz" for level in ("uniref50", "uniref90")]
    with (
        igzip.open(paths[0], "wb", 1) as low,
        igzip.open(paths[1], "wb", 1) as high,
        meter("making the release", total=members, unit="members") as done,
    ):
        for file, label in ((low, "UniRef50"), (high, "UniRef90")):
            file.write(f'<?xml version="1.0" encoding="ISO-8859-1" ?>\n<{label} xmlns="http://uniprot.org/uniref" '
                       f'releaseDate="2024-05-29" version="2024_03">\n'.encode())  # fmt: skip
        for size in sizes.tolist():
            names = [id_of(int(key)) for key in member_keys(np.arange(number, number + size))]
            texts = [sequence.tobytes().decode() for sequence in families.cluster(size)]
            low.write(entry("UniRef50", names, texts, names[0]).encode())
            for name, text in zip(names, texts, strict=True):
                high.write(entry("UniRef90", [name], [text], names[0]).encode())
            number += size
            done.advance(size)
        for file, label in ((low, "UniRef50"), (high, "UniRef90")):
            file.write(f"</{label}>\n".encode())
    facts = {
        "source": "current",
        "release": "2024_03",
        "date": "2024-05-29",
        "files": [],
        "entries": {},
        "published": [],
    }
    write_json(directory / "release.json", facts)


def entry(label: str, names: list[str], texts: list[str], cluster: str) -> str:
    """One entry as UniRef's XML has it: the first name is the representative."""

    def reference(name: str, text: str) -> str:
        kind = (
            f'<dbReference type="UniParc ID" id="{name}">'
            if name.startswith("UPI")
            else f'<dbReference type="UniProtKB ID" id="{name}_9BACT">\n'
            f'<property type="UniProtKB accession" value="{name}"/>'
        )
        other = f"UniRef90_{name}" if label == "UniRef50" else f"UniRef50_{cluster}"
        return (
            f'{kind}\n<property type="{other.partition("_")[0]} ID" value="{other}"/>\n'
            f'<property type="protein name" value="Synthetic protein"/>\n<property type="NCBI taxonomy" value="2"/>\n'
            f'<property type="length" value="{len(text)}"/>\n</dbReference>\n'
        )

    parts = [
        f'<entry id="{label}_{names[0]}" updated="2024-05-29">\n<name>Cluster: Synthetic protein</name>\n'
        f'<property type="member count" value="{len(names)}"/>\n<property type="common taxon" value="Bacteria"/>\n'
        f'<property type="common taxon ID" value="2"/>\n<representativeMember>\n',
        reference(names[0], texts[0]),
        f'<sequence length="{len(texts[0])}" checksum="{crc64_hex(texts[0])}">{texts[0]}</sequence>\n'
        "</representativeMember>\n",
    ]
    parts += [f"<member>\n{reference(*one)}</member>\n" for one in zip(names[1:], texts[1:], strict=True)]
    return "".join(parts) + "</entry>\n"


def stages(work: Path, config: Path, after: Path, one_part: bool) -> dict[str, tuple[list[str], Path]]:
    """By stage: its command, and where it writes.

    after: for the results from split on. one_part: the search has the results of one part only.
    """
    results = work / "results"
    release, records, curate, cluster = (str(results / name) for name in ("release", "records", "curate", "cluster"))
    split, clean, shard = (str(after / name) for name in ("split", "decontaminate", "shard"))
    read = ["--records", records, "--clusters", cluster, "--split", split]
    found = {
        f"records_{level}": (["records", "--level", level, "--input", f"{release}/{level}.xml.gz",
                              "--output", records, "--threads", "2"], Path(records, level))
        for level in ("uniref50", "uniref90")
    }  # fmt: skip
    found |= {
        "curate": (["curate", "--records", records, "--output", curate, "--threads", "2"], Path(curate)),
        "cluster": (["cluster", "--records", records, "--curated", curate, "--output", cluster, "--threads", "2"],
                    Path(cluster)),
        "split": (["split", "--clusters", cluster, "--output", split], Path(split)),
        "decontaminate_prepare": (["decontaminate", "prepare", *read, "--output", clean], Path(clean)),
        "decontaminate_search": (["decontaminate", "search", "--directory", clean, "--part", "0", "--threads", "2"],
                                 Path(clean, "hits")),
        "decontaminate_remove": (["decontaminate", "remove", "--directory", clean, *read],
                                 Path(clean, "split.parquet")),
        "decontaminate": (["decontaminate", "audit", "--directory", clean, *read, "--threads", "2"],
                          Path(clean, "identity.json")),
        "shard": (["shard", "build", "--records", records, "--clusters", cluster,
                   "--split", f"{split if one_part else clean}/split.parquet",
                   "--release", f"{release}/release.json", "--output", shard, "--threads", "2"], Path(shard)),
    }  # fmt: skip
    if one_part:
        del found["decontaminate_remove"], found["decontaminate"]
    return {name: ([*words, "--config", str(config)], path) for name, (words, path) in found.items()}


def measured(command: list[str], log: Path) -> dict[str, float]:
    """Run a command of unirefine: wall and CPU seconds, and the peak memory of its largest process, in bytes."""
    words = [sys.executable, "-m", "unirefine.cli.main", *command]
    with log.open("wb") as out:
        done = subprocess.run([sys.executable, "-c", LAUNCHER, *words], stdout=subprocess.PIPE, stderr=out, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:2])} failed; see {log}")
    return json.loads(done.stdout)


def run_scale(directory: Path, scale: float, one_of: int, *, again: bool) -> dict[str, dict[str, float]]:
    """Make the release of a scale, run its stages, and return what each took; what is there already is not repeated.

    one_of: search the first of so many parts of train, for all of them; stages that need all parts are not run.
    again: measure once more what was measured.
    """
    work = directory / f"{scale:g}"
    own = work / f"one-of-{one_of}" if one_of > 1 else work
    own.mkdir(parents=True, exist_ok=True)
    if again:
        for path in (*work.glob("*.json"), *own.glob("*.json")):
            path.unlink(missing_ok=True)
        shutil.rmtree(own / "results/decontaminate", ignore_errors=True)
    clusters, members = round(CLUSTERS * scale), round(MEMBERS * scale)
    if not (work / "results/release/release.json").exists():
        write_release(work / "results/release", clusters, members)
    config = own / "config.yaml"
    config.write_text(json.dumps({
        "records": {"parts": max(1, round(64 * scale))},
        "split": {"validation_count": max(1, round(VALIDATION * scale))},
        "decontaminate": {"parts": one_of, "audit_failures": "remove"},
        "shard": {"parts": max(1, round(64 * scale))},
    }))  # fmt: skip
    found = {}
    for number, (name, (command, output)) in enumerate(stages(work, config, own / "results", one_of > 1).items(), 1):
        kept = (work if number < SPLIT else own) / f"{name}.json"
        if not kept.exists():
            print(f"scale {scale:g}: {name}", flush=True)
            took = measured(command, kept.with_suffix(".log"))
            files = [path for path in output.rglob("*") if path.is_file()] if output.is_dir() else [output]
            write_json(kept, took | {"disk": sum(path.stat().st_size for path in files), "members": members})
        found[name] = json.loads(kept.read_text())
        if name == "decontaminate_search":
            found[name] |= {key: found[name][key] * one_of for key in ("wall", "cpu", "disk")}
    return found


def full_release(small: dict[str, float], large: dict[str, float], pairwise: bool) -> float:
    """Seconds of CPU time of a stage at full size, from what it took at two sizes.

    pairwise: train and held-out sequences both grow, so the time is a x members + b x members^2.
    """
    (few, short), (many, long) = ((row["members"], row["cpu"]) for row in (small, large))
    square = max(0.0, (long / many - short / few) / (many - few))
    if pairwise and square:
        return MEMBERS * (long / many + square * (MEMBERS - many))
    exponent = math.log(long / short) / math.log(many / few)
    if exponent > 1:
        return long * (MEMBERS / many) ** exponent
    # below an exponent of 1 a fixed cost is still in sight: what a further member costs is what counts
    return long + max(0.0, long - short) / (many - few) * (MEMBERS - many)


def estimate(taken: dict[float, dict[str, dict[str, float]]]) -> list[str]:
    """Lines: what each stage took at each scale, the exponent of its growth, and a full release by that."""
    scales = sorted(taken)
    lines = []
    for scale in scales:
        rows = taken[scale]
        lines.append(f"\nscale {scale:g}: {rows['split']['members']:,} members")
        lines += [
            f"  {name:<22} {duration(row['wall']):>8} wall {duration(row['cpu']):>8} CPU {human(row['memory'], 'B'):>9}"
            f" memory {human(row['disk'], 'B'):>9} written"
            for name, row in rows.items()
        ]
        total = {key: sum(row[key] for row in rows.values()) for key in ("wall", "cpu", "disk")}
        lines.append(
            f"  {'all':<22} {duration(total['wall']):>8} wall {duration(total['cpu']):>8} CPU"
            f" {human(total['disk'], 'B'):>26} written"
        )
    if len(scales) < 2:
        return [*lines, "\none scale: no growth to tell; give two"]
    small, large = taken[scales[-2]], taken[scales[-1]]
    lines.append(f"\ngrowth from {scales[-2]:g} to {scales[-1]:g}, and a full release by it")
    full: dict[str, float] = {}
    for name, row in large.items():
        full[name] = full_release(small[name], row, name == "decontaminate_search")
        exponent = math.log(row["cpu"] / small[name]["cpu"]) / math.log(row["members"] / small[name]["members"])
        lines.append(f"  {name:<22} exponent {exponent:5.2f}   {full[name] / 3600:10,.2f} core-hours")
    lines.append(f"  {'all':<22} {'':>14}   {sum(full.values()) / 3600:10,.2f} core-hours")
    for nodes in (1, 4, 32):
        at_once = min(PARTS, nodes * CORES // THREADS)
        searches = math.ceil(PARTS / at_once) * full["decontaminate_search"] / PARTS / THREADS
        single = sum(
            full[name] * row["wall"] / row["cpu"] for name, row in large.items() if name != "decontaminate_search"
        )
        lines.append(
            f"  {nodes} nodes of {CORES} cores: {duration(searches)} of searches ({PARTS} jobs of {THREADS} threads,"
            f" {at_once} at once), {duration(single)} of stages that are one job, at the measured 2 threads"
        )
    return lines


def main() -> None:
    """Measure the scales that are asked for and print the estimate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, metavar="DIR", help="inputs, results and figures")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.001], metavar="F", help="shares of 2024_03")
    parser.add_argument("--one-of", type=int, default=1, metavar="N", help="search one of N parts of train")
    parser.add_argument("--again", action="store_true", help="measure once more what was measured")
    arguments = parser.parse_args()
    taken = {}
    for scale in sorted(arguments.scales):
        if not 0 < scale <= 1:
            parser.error(f"--scales {scale:g}: a share is above 0 and at most 1")
    if arguments.one_of < 1:
        parser.error(f"--one-of {arguments.one_of}: at least 1")
    for scale in sorted(arguments.scales):
        taken[scale] = run_scale(arguments.directory, scale, arguments.one_of, again=arguments.again)
    print("\n".join(estimate(taken)))


if __name__ == "__main__":
    main()
