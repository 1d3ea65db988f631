"""One rank of evaluate, embed with either engine, and the engine itself at a layout, on test_inference.py's inputs.

Usage: inference_worker.py INPUTS OUTPUT LAYOUT...; writes `<OUTPUT>/<layout>/`.
"""

import sys
from pathlib import Path

from unirefine.megatron import platform

import torch

from unirefine.config import Embed, Evaluate, Layout
from unirefine.dataset import open_shards
from unirefine.embed import run as embed
from unirefine.embed.source import from_fasta
from unirefine.evaluate import run as evaluate
from unirefine.evaluate.masked import MaskedSide
from unirefine.model.inference import open_megatron

ENGINES = ("megatron", "huggingface")
LAYOUTS = {
    "data": Layout(),
    "tensor": Layout(tensor=2),
    "pipeline": Layout(pipeline=2),
    "both": Layout(tensor=2, pipeline=2),
}
LAYERS = 3


def run(inputs: Path, output: Path, layout: Layout) -> None:
    """Write `evaluate/`, `megatron/`, `huggingface/` and this process's `answers.pt` below `output`."""
    config = Evaluate(batch_tokens=256, pseudo_perplexity=3, parallel=layout)
    evaluate.run(inputs / "shards", [inputs / "model"], output / "evaluate", config)
    for engine in ENGINES:
        config = Embed(engine=engine, chunk_residues=300, batch_tokens=200, parallel=layout)
        embed.run(from_fasta(inputs / "in.fasta"), inputs / "model", output / engine, config)
    torch.save(answers(inputs, layout), output / f"answers-{platform.rank()}.pt")


def answers(inputs: Path, layout: Layout) -> dict[str, torch.Tensor]:
    """Log-probabilities of the masked residues, and the hidden states of every layer, of the first sequences."""
    side = MaskedSide(open_shards(inputs / "shards").validation, Evaluate())
    engine = open_megatron(inputs / "model", layout=layout)
    tokens, bounds, at = side.batch(torch.arange(6).numpy())
    states = {f"layer {layer}": engine.states(tokens, bounds, layer) for layer in range(LAYERS + 1)}
    return {"log-probabilities": engine.log_probabilities(tokens, bounds, at), **states}


if __name__ == "__main__":
    for name in sys.argv[3:]:
        run(Path(sys.argv[1]), Path(sys.argv[2], name), LAYOUTS[name])
    platform.shutdown()
