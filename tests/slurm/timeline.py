"""A figure of what ran when on which node, from Slurm's records of finished jobs."""

from datetime import datetime
from pathlib import Path

import matplotlib.pyplot as plt

COLOURS = {
    "COMPLETED": "#3b7dd8",
    "FAILED": "#d8893b",
    "TIMEOUT": "#e3c04a",
    "CANCELLED": "#8a8f98",
    "NODE_FAIL": "#c8423c",
}
WORDS = {
    "COMPLETED": "done",
    "FAILED": "stopped at Slurm's warning",
    "TIMEOUT": "time is up",
    "CANCELLED": "cancelled (Ctrl-C)",
    "NODE_FAIL": "node lost",
}


def draw(jobs: list[dict[str, str]], output: Path) -> None:
    """One line a job, one bar from start to end, coloured by how it ended; training marked with its nodes."""
    jobs = [job for job in jobs if job["Start"] not in ("Unknown", "None") and job["End"] != "Unknown"]
    begin = min(_time(job["Start"]) for job in jobs)
    figure, axes = plt.subplots(figsize=(8, 0.22 * len(jobs) + 1.2), layout="constrained")
    for row, job in enumerate(jobs):
        start, end = (_time(job[name]) - begin for name in ("Start", "End"))
        state = job["State"].split()[0]
        axes.barh(row, max(end - start, 1), left=start, color=COLOURS.get(state, COLOURS["FAILED"]), height=0.7)
        axes.annotate(
            job["NodeList"].replace("[1-2]", "1+2"), (end, row), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=7, color="#555",
        )  # fmt: skip
    axes.set_yticks(range(len(jobs)), [_label(job["rule"]) for job in jobs], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the first job")
    axes.spines[["top", "right"]].set_visible(False)
    shown = {job["State"].split()[0] for job in jobs}
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[state]) for state in WORDS if state in shown]
    axes.legend(handles, [WORDS[state] for state in WORDS if state in shown], loc="upper right", fontsize=8)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, metadata={"Date": None})


def _label(rule: str) -> str:
    return "tables: curate, cluster, split" if rule.startswith("group_tables") else rule.replace("_", " ")


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
