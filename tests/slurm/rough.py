"""The run from scratch that all tests share, and the interruptions of its data stages."""

import signal
from dataclasses import dataclass, field

from pipeline import Pipeline, interrupt, wait_for

from unirefine.tools import find_mmseqs

SEARCH = "decontaminate_search"
# Each first attempt has a node to itself. That of part 1 has a time limit of one minute, in which searches are paused.
# The others have 32 minutes.
FIRST = (
    f"{SEARCH}:runtime=(attempt + int(wildcards.part == '000')) ** 5",
    f"{SEARCH}:slurm_extra='--nodelist=node%d' % (int(wildcards.part) + 1) if attempt == 1 else ''",
)


@dataclass
class Seen:
    """What was observed during the run, for the tests to check."""

    first: list[dict[str, str]] = field(default_factory=list)
    """The search job whose node was lost (its first start), and the one that reached its time limit."""
    second: list[dict[str, str]] = field(default_factory=list)
    """The second start of the former and the retry of the latter, which kill -9 of Snakemake left running."""
    waited: str = ""
    """Log of search part 0 after those jobs had been submitted once more."""


def pause_searches(pipeline: Pipeline) -> None:
    """Write the MMseqs2 that the config names in `tools.mmseqs`: no search starts while the file `pause` exists."""
    (pipeline.directory / "pause").touch()
    program = pipeline.directory / "mmseqs"
    program.write_text(
        f"""#!/bin/bash
if [[ $1 == search || $1 == prefilter ]]; then
    while [[ -e {pipeline.directory}/pause ]]; do sleep 0.2; done
fi
exec {find_mmseqs()} "$@"
"""
    )
    program.chmod(0o755)


def run(pipeline: Pipeline) -> Seen:
    """Run up to the report: Ctrl-C in records; in the search a lost node, a time limit and kill -9 of Snakemake."""
    seen = Seen()
    pause_searches(pipeline)

    running = pipeline.start("shard")
    wait_for(lambda: (pipeline.directory / "logs/slurm/records").is_dir(), "records runs", running)
    interrupt(pipeline, running)

    running = pipeline.start("shard", "--set-resources", *FIRST)

    def searching() -> list[dict[str, str]]:
        return [job for job in pipeline.jobs(SEARCH) if job["State"] == "RUNNING"]

    def ended() -> list[dict[str, str]]:
        return [job for job in pipeline.jobs(SEARCH) if job["State"] in ("NODE_FAIL", "TIMEOUT")]

    wait_for(lambda: len(searching()) == 2, "both parts are searched", running)
    pipeline.cluster.kill_node("node1")
    wait_for(lambda: "NODE_FAIL" in {job["State"] for job in ended()}, "the node is lost", running)
    pipeline.cluster.start_node("node1")
    wait_for(lambda: len(ended()) == 2 == len(searching()), "time is up, and both are searched again", running)
    seen.first, seen.second = ended(), searching()

    running.send_signal(signal.SIGKILL)
    running.wait()
    pipeline.run("--unlock")
    running = pipeline.start()
    log = "slurm/decontaminate/search-000.log"
    wait_for(lambda: "waiting for it to end" in pipeline.log(log), "the third job waits for the second", running)
    seen.waited = pipeline.log(log)
    (pipeline.directory / "pause").unlink()
    pipeline.finish(running)
    return seen
