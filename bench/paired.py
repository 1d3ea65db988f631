"""Paired measurements: every case in a process of its own, cases in turn (A B A B ...), ratios within each round."""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Case = Callable[[], tuple[float, Callable[[], Any]]]
"""Prepares and warms up; returns (units of work, the function to time)."""


Tables = dict[str, tuple[str, dict[str, Case]]]
"""Title -> (unit, cases by name); the first case is ours, the others are what it is compared with."""


def main(tables: Tables, *, rounds: int = 5, per_core: bool = False) -> None:
    """Measure and print every table: work per second (of processor time when `per_core`) with its spread, the ratio to
    ours round by round, peak memory. --json writes the figures with the machine they were taken on.
    """
    parser = argparse.ArgumentParser(description="; ".join(tables))
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds over all cases (default: {rounds})")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        title, name = arguments.case
        print(json.dumps(_measure(tables[title][1][name])))
        return
    clock = "cpu" if per_core else "wall"
    report: dict[str, Any] = {"machine": machine(), "clock": clock, "tables": {}}
    for title, (unit, cases) in tables.items():
        print(f"{title} ({unit} per {'processor second' if per_core else 'second'}, {arguments.rounds} rounds)")
        runs = [{name: _child(title, name) for name in cases} for _ in range(arguments.rounds)]
        entries = {name: _summary(runs, next(iter(cases)), name, clock) for name in cases}
        report["tables"][title] = {"unit": unit, "cases": entries}
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def _summary(runs: list[dict[str, dict[str, float]]], ours: str, name: str, clock: str) -> dict[str, float]:
    rates = [run[name]["work"] / run[name][clock] for run in runs]
    ratios = [run[ours]["work"] / run[ours][clock] / rate for run, rate in zip(runs, rates, strict=True)]
    entry = {
        "rate": statistics.median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "ours_is_faster_by": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "peak_mb": max(run[name]["peak_mb"] for run in runs),
    }
    times = f"  ours x{entry['ours_is_faster_by']:.1f} ({min(ratios):.1f} .. {max(ratios):.1f})" if name != ours else ""
    print(
        f"  {name:<46} {entry['rate']:>9,.4g}  ({min(rates):,.4g} .. {max(rates):,.4g})  "
        f"peak {entry['peak_mb']:,.0f} MB{times}",
        flush=True,
    )
    return entry


def _measure(case: Case) -> dict[str, float]:
    work, run = case()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {
        "work": work,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def _child(title: str, name: str) -> dict[str, float]:
    command = [sys.executable, *sys.argv[:1], "--case", title, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """Processor, cores and Python, for a JSON file of figures."""
    model = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
