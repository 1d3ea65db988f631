"""Groups of gloo processes that train one run after another.

`run_group` starts this file once per process. argv[1]: JSON list of {config, shards, output}. RANK and the variables of
`launch.rendezvous` are set.
"""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

from launch import rendezvous

from unirefine.config import Train


def run_group(processes: int, runs: list[dict]) -> None:
    """Train one run after another in one group of processes."""
    command = [sys.executable, str(Path(__file__)), json.dumps(runs)]
    with rendezvous(processes) as shared:
        group = [
            subprocess.Popen(
                command,
                env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(processes)
        ]
        errors = [process.communicate(timeout=500)[1] for process in group]
    assert [process.returncode for process in group] == [0] * processes, errors[0][-3000:]


def main() -> None:
    from unirefine.megatron import platform

    from unirefine.train.run import run

    gc.freeze()  # Megatron collects garbage at each checkpoint: 0.25 s for the objects of all imported modules
    for each in json.loads(sys.argv[1]):
        run(Train.model_validate(each["config"]), Path(each["shards"]), Path(each["output"]))
    platform.shutdown()


if __name__ == "__main__":
    main()
