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


def main(title: str, unit: str, cases: dict[str, Case], *, rounds: int = 5, per_core: bool = False) -> None:
    """Measure `cases`; the first is ours, the others are what it is compared with.

    Prints work per second (of processor time when `per_core`), its spread, the ratio to ours round by round and the
    peak memory, and writes all of it to --json.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds over all cases (default: {rounds})")
    parser.add_argument("--case", choices=cases, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(_measure(cases[arguments.case])))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(arguments.rounds):
        for name in cases:
            found[name].append(_child(name))
    clock = "cpu" if per_core else "wall"
    ours = next(iter(cases))
    report: dict[str, Any] = {"title": title, "unit": unit, "machine": _machine(), "clock": clock, "cases": {}}
    print(f"{title} ({unit} per {'processor second' if per_core else 'second'}, {arguments.rounds} rounds)")
    for name, runs in found.items():
        rates = [run["work"] / run[clock] for run in runs]
        ratios = [mine["work"] / mine[clock] / rate for mine, rate in zip(found[ours], rates, strict=True)]
        entry = {
            "rate": statistics.median(rates),
            "lowest": min(rates),
            "highest": max(rates),
            "ours_is_faster_by": statistics.median(ratios),
            "ratio_lowest": min(ratios),
            "ratio_highest": max(ratios),
            "peak_mb": max(run["peak_mb"] for run in runs),
        }
        report["cases"][name] = entry
        print(
            f"  {name:<44} {entry['rate']:>12,.1f}  ({entry['lowest']:,.1f} .. {entry['highest']:,.1f})  "
            f"peak {entry['peak_mb']:,.0f} MB"
            + (
                ""
                if name == ours
                else f"  ours x{entry['ours_is_faster_by']:.1f} ({min(ratios):.1f} .. {max(ratios):.1f})"
            )
        )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


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


def _child(name: str) -> dict[str, float]:
    command = [sys.executable, *sys.argv[:1], "--case", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _machine() -> dict[str, Any]:
    model = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
