"""One rank of evaluate, and of embed with either engine, on the inputs of test_inference.py."""

import sys
from pathlib import Path

from unirefine.config import Embed, Evaluate
from unirefine.embed.run import embed
from unirefine.embed.source import from_fasta
from unirefine.evaluate.run import evaluate
from unirefine.train import platform

ENGINES = ("megatron", "huggingface")


def run(inputs: Path, output: Path) -> None:
    """Write `evaluate/`, `megatron/` and `huggingface/` below `output`."""
    evaluate(
        inputs / "shards", [inputs / "model"], output / "evaluate", Evaluate(batch_tokens=256, pseudo_perplexity=3)
    )
    for engine in ENGINES:
        config = Embed(engine=engine, chunk_residues=300, batch_tokens=200)
        embed(from_fasta(inputs / "in.fasta"), inputs / "model", output / engine, config)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
    platform.shutdown()
