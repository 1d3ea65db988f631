"""One process of a group that does several training runs one after the other; started by test_train.py.

argv[1]: JSON list of {config, shards, output}. RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set.
"""

import json
import sys
from pathlib import Path

from unirefine.config import Train
from unirefine.train import platform
from unirefine.train.loop import train


def main() -> None:
    for run in json.loads(sys.argv[1]):
        train(Train.model_validate(run["config"]), Path(run["shards"]), Path(run["output"]))
    platform.shutdown()


if __name__ == "__main__":
    main()
