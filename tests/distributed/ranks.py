"""A server that forks the ranks of a test from a process in which Megatron is loaded.

Loading it takes each rank some 4 s of CPU, a fork takes milliseconds. The ranks are processes as all others: their
environment, their output and gloo between them are real.

`python ranks.py` reads a request a line, {script, arguments, environments, logs, timeout} as JSON, and answers with
{codes}: the exit status of each rank, null for one that was ended because another failed or time ran out.
"""

import gc
import json
import os
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path


def serve() -> None:
    """Answer requests until standard input ends."""
    load()
    for line in sys.stdin:
        print(json.dumps({"codes": run(**json.loads(line))}), flush=True)


def load() -> None:
    """Import what the workers of the tests import. Nothing here may start a thread."""
    import unirefine.embed.run
    import unirefine.evaluate.run
    import unirefine.train.loop  # noqa: F401

    gc.freeze()  # Megatron collects garbage at each checkpoint: 0.25 s for the objects of all imported modules


def run(script: str, arguments: list[str], environments: list[dict], logs: list[str], timeout: float) -> list:
    """Run the ranks of one world to their end, or until one of them fails."""
    ranks = [fork(script, arguments, *each) for each in zip(environments, logs, strict=True)]
    codes: list[int | None] = [None] * len(ranks)
    deadline = time.monotonic() + timeout
    while None in codes and not any(codes) and time.monotonic() < deadline:
        for rank, pid in enumerate(ranks):
            if codes[rank] is None:
                ended, status = os.waitpid(pid, os.WNOHANG)
                codes[rank] = os.waitstatus_to_exitcode(status) if ended else None
        time.sleep(0.02)
    for rank, pid in enumerate(ranks):
        if codes[rank] is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return codes


def fork(script: str, arguments: list[str], environment: dict[str, str], log: str) -> int:
    """Start `python script arguments...` as a fork of this process; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [script, *arguments]
        sys.path[0] = str(Path(script).parent)
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
