"""The figure of docs/training.md: validation perplexity of `make demo` and `make demo-long` over training tokens."""

from pathlib import Path

import matplotlib.pyplot as plt

from unirefine.train.metrics import read

RUNS = {"demo": ("#8a8f98", "make demo", (0, -12)), "demo-long": ("#3b7dd8", "make demo-long", (4, 4))}
"""Colour, label, offset in points of the last value from its point."""


def main() -> None:
    """Read both runs under results/ and write docs/img/demo-long.svg."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for run, (colour, label, beside) in RUNS.items():
        lines = [
            line for line in read(Path("results") / run / "train/metrics.jsonl") if "validation_perplexity" in line
        ]
        tokens, perplexity = zip(
            *((line["tokens"] / 1e6, line["validation_perplexity"]) for line in lines), strict=True
        )
        axes.plot(tokens, perplexity, color=colour, marker="o", markersize=3, label=label)
        last = tokens[-1], perplexity[-1]
        axes.annotate(f"{last[1]:.2f}", last, xytext=beside, textcoords="offset points")
    axes.set_xlabel("million tokens trained on")
    axes.set_ylabel("validation perplexity")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig("docs/img/demo-long.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
