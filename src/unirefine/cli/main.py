"""`unirefine COMMAND ...`: one module per command, imported only when it is called."""

import argparse
import contextlib
import importlib
import os
import select
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

from unirefine import __version__, terminal
from unirefine.cli.common import named_paths
from unirefine.errors import UserError
from unirefine.faults import as_user_error

STAGES = {
    "init": "write a config to start from: own FASTA, release, or published set",
    "run": "the workflow on a config: unirefine run demo",
    "release": "download a UniProt release and verify it",
    "records": "UniRef FASTA or XML to Parquet records",
    "curate": "remove artificial, purge-listed and unwanted sequences, each with its reason",
    "cluster": "which UniRef90 sequences make up which UniRef50 cluster",
    "split": "choose the validation clusters by keyed hash or from a list",
    "decontaminate": "search train against validation with MMseqs2, remove hits, audit what is left",
    "shard": "tokenise into Megatron indexed shards; verify them; print a sequence back",
    "train": "train ESM-2 on Megatron-core",
    "evaluate": "masked perplexity, ours and Hugging Face's",
    "embed": "per-sequence and per-residue embeddings of a FASTA",
    "finetune": "train an ESM-2 on a table of labels; split by homology, baselines, intervals",
    "predict": "predictions of a fine-tuned model for a FASTA",
    "convert": "ESM-2 weights between Hugging Face's layout and Megatron checkpoints",
    "cards": "a data card and a model card, as the Hugging Face Hub reads them",
    "report": "one HTML report of a run",
    "crate": "a finished run as an RO-Crate (Workflow Run Crate); a Parquet export as Croissant",
    "export": "the sequences of shards as Parquet, BioNeMo's files, FASTA, WebDataset or MDS",
    "runs": "the runs below results/: state, source, last stage, perplexity",
    "status": "what of a run is done, stale and why, running or missing",
    "clean": "remove what a stage wrote, after saying what making it again costs",
    "verify": "whether shards, a model or a stage's files are still as they were written",
    "lineage": "where shards, a checkpoint or a model come from, by the file inside them",
    "audit": "judge any split: how similar is each held-out sequence to train?",
    "compare": "what differs between two runs: ids, clusters, sides, validation",
    "trace": "follow one id from the release to its shard",
    "completion": "commands and options for the Tab key of bash or zsh",
}


TRACEBACK = "UNIREFINE_TRACEBACK"
"""Environment variable: 1 shows the traceback of every fault, as `--traceback` does."""


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status.

    0: done. 1: a user's mistake or an outside fault, reported in one line. 2: wrong usage. 130: Ctrl-C. 141: the
    program that reads the output has ended. A bug is raised, with its traceback.
    """
    argv = sys.argv[1:] if argv is None else argv
    terminal.protect()
    words = [word for word in argv if word != "--traceback"]
    show = len(words) < len(argv) or os.environ.get(TRACEBACK, "0") not in ("", "0")
    stage, arguments = "", argparse.Namespace()
    try:
        with _flushed_output():
            stage = _parser().parse_args(words[:1]).stage
            parser = importlib.import_module(f"unirefine.cli.{stage}").parser()
            arguments = parser.parse_args(words[1:])
            stage = _named(parser, stage, words[1:])
            _refuse_undecodable(words)
            arguments.run(arguments)
    except SystemExit:
        raise
    except KeyboardInterrupt:
        return _fail(stage, "interrupted; nothing half-written was left", code=130)
    except BaseException as error:  # what torch raises for a checkpoint is no Exception
        if isinstance(error, BrokenPipeError) and _is_output_closed():
            _abandon_output()
            return 141  # 128 + SIGPIPE, what a shell reports of a program that this signal has ended
        fault = as_user_error(error, named_paths(arguments))
        if fault is None:
            raise
        if show:
            _print_traceback(error)
        return _fail(stage, fault.line())
    return 0


def _parser() -> argparse.ArgumentParser:
    """The parser of the first word."""
    parser = argparse.ArgumentParser(
        prog="unirefine",
        description="From a UniProt release to a trained, evaluated ESM-2. The stages, in the order of the workflow:",
        epilog="stages:\n"
        + "\n".join(f"  {name:<14} {text}" for name, text in STAGES.items())
        + f"\n\nA fault is reported in one line. --traceback after a stage, or {TRACEBACK}=1, shows where it arose.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help="one of the stages below")
    return parser


def _named(parser: argparse.ArgumentParser, stage: str, words: list[str]) -> str:
    """`shard cat` for a command that has others in it, else its name: what an error begins with."""
    actions = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    within = next((word for one in actions for word in words if word in one.choices), None)
    return f"{stage} {within}" if within else stage


class _Version(argparse.Action):
    """Prints the version and the commit, which git is asked for."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and the commit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from unirefine.files.code import source

        commit, modified = source()["commit"], source()["modified"]
        print(f"unirefine {__version__}" + (f" ({commit[:10]}{', modified' if modified else ''})" if commit else ""))
        parser.exit()


def _print_traceback(error: BaseException) -> None:
    """Print the traceback of a fault, with the library's own error that was turned into one line."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__suppress_context__ = False  # `from None` keeps what came before out of sight only
        cause = cause.__cause__ or cause.__context__
    traceback.print_exception(error)


@contextlib.contextmanager
def _flushed_output() -> Iterator[None]:
    """Write what is left of the output at the end, where a full disk or a closed pipe can still be reported."""
    try:
        yield
    except SystemExit:  # --help
        _flush_output()
        raise
    _flush_output()


def _flush_output() -> None:
    try:
        if sys.stdout is not None:  # None: the caller has closed it
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _abandon_output()
            error.filename = "standard output"
        raise


def _is_output_closed() -> bool:
    """Whether nobody reads standard output or error any more."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _descriptor, event in poll.poll(0))


def _abandon_output() -> None:
    """Point standard output at nothing, so that Python does not fail once more when it flushes it at the end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse_undecodable(argv: list[str]) -> None:
    """Raises UserError for an argument that is not UTF-8: no JSON and no Parquet file could name that path."""
    for argument in argv:
        if not argument.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise UserError(f"{argument!a} is not UTF-8", fix="rename that file or directory")


def _fail(stage: str, text: str, code: int = 1) -> int:
    with contextlib.suppress(BrokenPipeError):
        print(f"unirefine {stage}: error: {text}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
