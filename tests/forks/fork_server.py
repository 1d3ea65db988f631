"""A server that forks the commands of tests from a process in which all of their modules are loaded.

A start of `unirefine` or of Snakemake takes 1 to 4 s of CPU for imports, a fork takes milliseconds. A fork is a process
like any other: it has its own arguments, environment, directory, output, session, signals and exit status. It can be
killed, lose its disk or meet failing system calls. What it does not show is that a new process starts at all.

`python fork_server.py SOCKET PID` serves SOCKET until process PID ends. A connection is for one command: a request as
JSON with its output and error file. It is answered with the process id and, at its end, the exit status. When the
connection ends before, the command is killed.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import resource
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
import weakref
from pathlib import Path
from typing import NoReturn

from failing import failing_calls

HUGE = 1 << 21
"""Bytes of a huge page."""
COLLAPSE = 25
"""MADV_COLLAPSE of madvise(2)."""
MESSAGE = 1 << 20
"""Bytes of the longest request."""
LAZILY = (
    "snakemake.cli",
    "snakemake.report.html_reporter",
    "snakemake_storage_plugin_s3",
    "smart_open",
    "transformers.models.esm.modeling_esm",
    "transformers.models.esm.tokenization_esm",
)
"""What commands import when they need it."""
THREADS = {"jemalloc_bg_thd", "polars-ooc-clea"}
"""Threads that Polars starts when it is imported: they tidy up, and nothing waits for them."""
NAMESPACES = {"user": 0x10000000, "mnt": 0x00020000}
"""Flags of setns(2)."""


def load() -> None:
    """Import what commands of tests import, and do what each of them would do again.

    Raises AssertionError when that has started a thread that commands use: forks would not have it.
    """
    gc.disable()  # of all that is imported nothing is garbage
    import unirefine.megatron

    import torch

    from unirefine.core.levels import STAGES
    from unirefine.files import code

    for module in pkgutil.walk_packages(unirefine.__path__, "unirefine."):
        importlib.import_module(module.name)
    for name in LAZILY:
        importlib.import_module(name)
    for stage in STAGES:
        code.stage_digest(stage)  # parses the modules of a stage, and keeps that as long as they do not change
    torch.set_num_threads(1)
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")} - {"python"}
    assert threads <= THREADS, threads
    for each in list(weakref.finalize._registry):
        each.atexit = False  # a fork does not tidy up for this process: torch would unregister its operators
    gc.collect()
    gc.freeze()  # Megatron collects garbage at each checkpoint: 0.25 s for the objects of all imported modules
    gc.enable()
    use_huge_pages()


def use_huge_pages() -> None:
    """Move this process's memory to pages of 2 MB where Linux can (from 6.1 on): a fork copies a list of all pages."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in Path("/proc/self/maps").read_text().splitlines():
        area, access, _offset, _device, inode, *_name = line.split()
        first, last = (int(address, 16) for address in area.split("-"))
        if access == "rw-p" and inode == "0":
            for page in range(-(-first // HUGE) * HUGE, last // HUGE * HUGE, HUGE):
                libc.madvise(page, HUGE, COLLAPSE)  # fails where nothing is in use


def serve(path: Path, owner: int) -> None:
    """Fork a command for each connection until the process `owner` ends, which is the end of its commands too."""
    ended = os.pidfd_open(owner)
    load()
    running: dict[int, tuple[int, socket.socket]] = {}  # process ids and connections of commands, by pidfd
    events = select.poll()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        starting = path.with_suffix(".starting")
        listener.bind(str(starting))
        listener.listen(64)
        for file in (listener.fileno(), ended):
            events.register(file, select.POLLIN)
        starting.rename(path)
        while ended not in (ready := {file for file, _event in events.poll()}):
            for pidfd, (pid, connection) in list(running.items()):
                if pidfd in ready:
                    answer(connection, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                    for file in (pidfd, connection.fileno()):
                        events.unregister(file)
                        os.close(file)
                    connection.detach()
                    del running[pidfd]
                elif connection.fileno() in ready:  # nobody waits for it any more
                    kill(pid)
            if listener.fileno() in ready:
                connection = listener.accept()[0]
                pid = os.fork()
                if pid == 0:
                    for file in (listener.detach(), ended, *running, *(each.detach() for _, each in running.values())):
                        os.close(file)
                    become(connection)
                answer(connection, pid)
                pidfd = os.pidfd_open(pid)
                running[pidfd] = pid, connection
                events.register(pidfd, select.POLLIN)
                events.register(connection, 0)  # tells when the other side is closed, not that the request has come
        for pid, _connection in running.values():
            kill(pid)


def answer(connection: socket.socket, number: int) -> None:
    """Send a process id or an exit status, unless the other side is closed."""
    with contextlib.suppress(OSError):
        connection.send(str(number).encode())


def kill(pid: int) -> None:
    """Kill a command and its group, which it makes at its start."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            send(pid, signal.SIGKILL)


def open_namespace(client: int, kind: str) -> int | None:
    """A namespace of the client, unless it is that of this process."""
    theirs = f"/proc/{client}/ns/{kind}"
    return None if os.readlink(theirs) == os.readlink(f"/proc/self/ns/{kind}") else os.open(theirs, os.O_RDONLY)  # noqa: PTH115


def become(connection: socket.socket) -> NoReturn:
    """Be the command of a connection, in a session of its own."""
    code = 1
    try:
        os.setsid()
        message, files, _, _ = socket.recv_fds(connection, MESSAGE, 2)
        request = json.loads(message)
        client = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        namespaces = [open_namespace(client, kind) for kind in NAMESPACES]
        connection.close()
        for file, number in zip((os.open(os.devnull, os.O_RDONLY), *files), range(3), strict=True):
            os.dup2(file, number)
            os.close(file)
        for namespace, flag in zip(namespaces, NAMESPACES.values(), strict=True):
            if namespace is not None and ctypes.CDLL(None, use_errno=True).setns(namespace, flag):
                raise OSError(ctypes.get_errno(), "setns")
        os.chdir(request["directory"])
        set_environment(request["environment"])
        if request.get("file_size"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
        if request.get("failing"):
            failing_calls(*request["failing"])
        run(request["program"], request["arguments"])
        code = 0
    except SystemExit as end:
        code = exit_status(end)
    except BaseException:
        traceback.print_exc()
    finally:
        end_process(code)


def set_environment(variables: dict[str, str]) -> None:
    """Set all environment variables, and what libraries have read from them when they were imported."""
    import torch

    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(int(variables.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))


def run(program: str, arguments: list[str]) -> None:
    """Run `unirefine`, `snakemake` or a Python file."""
    sys.argv = [program, *arguments]
    if program == "unirefine":
        from unirefine.cli.main import main

        if arguments[:1] == ["train"]:
            fork_workers()
        raise SystemExit(main(arguments))
    if program == "snakemake":
        from snakemake.cli import main

        main(arguments)
    else:
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")


def exit_status(end: SystemExit) -> int:
    """The exit status of a SystemExit, whose text is printed as Python does."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def end_process(code: int) -> NoReturn:
    """What Python does at its end, without freeing each object."""
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


class Worker(multiprocessing.get_context("fork").Process):
    """A training process that the launcher forks instead of starting it: what torch's agent uses of Popen."""

    def __init__(self, command: tuple[str, ...], environment: dict[str, str]) -> None:
        super().__init__()
        self.command, self.environment = command, environment
        self.start()

    def run(self) -> None:
        """Be `python -m unirefine.cli.main ...`."""
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        set_environment(self.environment)
        assert self.command[1:3] == ("-m", "unirefine.cli.main"), self.command
        run("unirefine", list(self.command[3:]))

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired(self.command, timeout or 0)
        return self.exitcode


def fork_workers() -> None:
    """Let torch's agent in this process fork its workers."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

    SubprocessHandler._popen = lambda self, args, env: Worker(args, env)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
