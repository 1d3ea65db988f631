"""What ran when on which node, drawn from Slurm's own records of finished jobs."""

import re
from datetime import datetime
from pathlib import Path

import matplotlib.pyplot as plt

COLOURS = {
    "COMPLETED": "#3b7dd8",
    "FAILED": "#d8893b",
    "TIMEOUT": "#d8893b",
    "CANCELLED": "#8a8f98",
    "NODE_FAIL": "#c8423c",
}
WORDS = {
    "COMPLETED": "done",
    "FAILED": "time up or node lost",
    "CANCELLED": "cancelled (Ctrl-C)",
    "NODE_FAIL": "node lost",
}


def records(jobs_file: Path, logs: Path) -> list[dict[str, str]]:
    """Slurm's jobs in the order of their numbers; `rule` is added from the place of Snakemake's log of the job."""
    rules = {log.stem: log.relative_to(logs).parts[0] for log in logs.rglob("*.log")}
    found = []
    for line in jobs_file.read_text().splitlines():
        record = dict(re.findall(r"(\w+)=(\S*)", line))
        if record["JobId"] in rules:
            found.append(record | {"rule": rules[record["JobId"]].removeprefix("rule_")})
    return sorted(found, key=lambda record: int(record["JobId"]))


def draw(jobs_file: Path, logs: Path, output: Path) -> None:
    """One line a job, one bar from start to end, coloured by how it ended; training marked with its nodes."""
    jobs = records(jobs_file, logs)
    begin = min(_time(job["StartTime"]) for job in jobs)
    figure, axes = plt.subplots(figsize=(8, 0.22 * len(jobs) + 1.2), layout="constrained")
    for row, job in enumerate(jobs):
        start, end = (_time(job[name]) - begin for name in ("StartTime", "EndTime"))
        state = job["JobState"]
        axes.barh(row, max(end - start, 1), left=start, color=COLOURS.get(state, COLOURS["FAILED"]), height=0.7)
        axes.annotate(
            job["NodeList"].replace("[1-2]", "1+2"), (end, row), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=7, color="#555",
        )  # fmt: skip
    axes.set_yticks(range(len(jobs)), [_label(job["rule"]) for job in jobs], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the first job")
    axes.spines[["top", "right"]].set_visible(False)
    shown = {job["JobState"] for job in jobs}
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[state]) for state in WORDS if state in shown]
    axes.legend(handles, [WORDS[state] for state in WORDS if state in shown], loc="upper right", fontsize=8)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, metadata={"Date": None})


def _label(rule: str) -> str:
    return "tables: curate, cluster, split" if rule.startswith("group_tables") else rule.replace("_", " ")


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
