"""Groups of gloo processes that train one run after another.

`run_group` runs this file once per process. argv[1]: JSON list of {config, shards, output}.
"""

import json
import sys
from pathlib import Path

from launch import launch

from unirefine.config import Train


def run_group(processes: int, runs: list[dict]) -> None:
    """Train one run after another in one group of processes."""
    launch(Path(__file__), processes, json.dumps(runs))


def main() -> None:
    from unirefine.megatron import platform

    from unirefine.train.run import run

    for each in json.loads(sys.argv[1]):
        run(Train.model_validate(each["config"]), Path(each["shards"]), Path(each["output"]))
    platform.shutdown()


if __name__ == "__main__":
    main()
