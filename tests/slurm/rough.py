"""The one run from scratch, and everything that happens to its data stages on the way."""

import signal
from dataclasses import dataclass, field

from pipeline import Pipeline, interrupt, wait_for

from unirefine.tools import find_mmseqs

SEARCH = "decontaminate_search"
# The first attempts have a node each. That of part 1 has one minute, in which the test does not let it be done; the
# others have 32.
FIRST = (
    f"{SEARCH}:runtime=(attempt + int(wildcards.part == '000')) ** 5",
    f"{SEARCH}:slurm_extra='--nodelist=node%d' % (int(wildcards.part) + 1) if attempt == 1 else ''",
)


@dataclass
class Seen:
    """What was seen on the way; tests judge it."""

    first: list[dict[str, str]] = field(default_factory=list)
    """The jobs of the search whose node was lost (its first start) and whose time was up."""
    second: list[dict[str, str]] = field(default_factory=list)
    """The second start of the one and the job that came for the other, which Snakemake's kill -9 left running."""
    waited: str = ""
    """Log of the search's part 0 when those jobs had been submitted once more."""


def hold_searches(pipeline: Pipeline) -> None:
    """From now on `tools.mmseqs` of the config is an MMseqs2 whose searches do not start while `hold` is there."""
    (pipeline.directory / "hold").touch()
    program = pipeline.directory / "mmseqs"
    program.write_text(
        f"""#!/bin/bash
if [[ $1 == search ]]; then
    while [[ -e {pipeline.directory}/hold ]]; do sleep 0.2; done
fi
exec {find_mmseqs()} "$@"
"""
    )
    program.chmod(0o755)


def run(pipeline: Pipeline) -> Seen:
    """Ctrl-C in records; in the search a lost node, a time limit, and kill -9 of Snakemake; then on to the report."""
    seen = Seen()
    hold_searches(pipeline)

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
    (pipeline.directory / "hold").unlink()
    pipeline.finish(running)
    return seen
