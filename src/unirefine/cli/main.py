"""`unirefine COMMAND ...`: one module per command, imported only when it is called."""

import argparse
import importlib
import sys

from unirefine import __version__, terminal
from unirefine.faults import as_user_error

STAGES = {
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
    "convert": "ESM-2 weights between Hugging Face's layout and Megatron checkpoints",
    "cards": "a data card and a model card, as the Hugging Face Hub reads them",
    "report": "one HTML report of a run",
    "crate": "a finished run as an RO-Crate (Workflow Run Crate)",
    "status": "what of a run is done, stale and why, running or missing",
    "clean": "remove what a stage wrote, after saying what making it again costs",
    "verify": "whether shards, a model or a stage's files are still as they were written",
    "lineage": "where shards, a checkpoint or a model come from, by the file inside them",
    "trace": "follow one id from the release to its shard",
}


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status.

    0: done. 1: a user's mistake or an outside fault, reported in one line. 2: wrong usage. 130: Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    terminal.protect()
    parser = argparse.ArgumentParser(
        prog="unirefine",
        description="From a UniProt release to a trained, evaluated ESM-2. The stages, in the order of the workflow:",
        epilog="stages:\n" + "\n".join(f"  {name:<14} {text}" for name, text in STAGES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"unirefine {__version__}")
    parser.add_argument("stage", choices=STAGES, metavar="STAGE", help="one of the stages below")
    known = parser.parse_args(argv[:1])
    stage = importlib.import_module(f"unirefine.cli.{known.stage}")
    arguments = stage.parser().parse_args(argv[1:])
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        return _fail(known.stage, "interrupted; nothing half-written was left", code=130)
    except Exception as error:
        fault = as_user_error(error)
        if fault is None:
            raise
        return _fail(known.stage, fault.line())
    return 0


def _fail(stage: str, text: str, code: int = 1) -> int:
    print(f"unirefine {stage}: error: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
