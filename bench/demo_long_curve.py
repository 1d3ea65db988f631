"""The figure of docs/training.md: perplexity of hidden residues in `make demo` and `make demo-long`, over tokens."""

import math
from pathlib import Path

import matplotlib.pyplot as plt

from unirefine.files.atomic import read_json
from unirefine.train.metrics import read

RUNS = {"demo": ("#8a8f98", "make demo", (0, -12)), "demo-long": ("#3b7dd8", "make demo-long", (4, 4))}
"""Colour, label, offset in points of the last value from its point."""
LABELS = {"neighbours": "both neighbours"}


def main() -> None:
    """Read both runs under results/ and write docs/img/demo-long.svg."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for run, (colour, label, beside) in RUNS.items():
        lines = [
            line for line in read(Path("results") / run / "train/metrics.jsonl") if "validation_hidden_loss" in line
        ]
        tokens, perplexity = zip(
            *((line["tokens"] / 1e6, math.exp(line["validation_hidden_loss"])) for line in lines), strict=True
        )
        axes.plot(tokens, perplexity, color=colour, marker="o", markersize=3, label=label)
        last = tokens[-1], perplexity[-1]
        axes.annotate(f"{last[1]:.2f}", last, xytext=beside, textcoords="offset points")
    evaluation = read_json(Path("results/demo-long/evaluate/perplexity.json"))
    for name, loss in evaluation["training_validation"]["losses"].items():
        axes.axhline(math.exp(loss), color="#b0b4bb", linewidth=0.8, linestyle="--")
        axes.annotate(
            LABELS.get(name, name), (1, math.exp(loss)), xycoords=("axes fraction", "data"), xytext=(4, -3),
            textcoords="offset points", fontsize=8, color="#70757d", annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel("million tokens trained on")
    axes.set_ylabel("perplexity of hidden residues")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig("docs/img/demo-long.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
