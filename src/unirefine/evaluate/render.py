"""perplexity.json as lines of text."""

from typing import Any


def lines(result: dict[str, Any]) -> list[str]:
    """The table, the parity and, if there is one, the pseudo-perplexity."""
    shown = [
        f"masked perplexity of {result['sequences']:,} validation sequences, {result['masked']:,} masked residues",
        f"{'model':<28} {'perplexity':>10}  {'95% interval':<17} {'model 1 / this':<24} {'seconds':>7}",
    ]
    for row in result["table"]:
        text = f"{row['model']:<28} {row['perplexity']:>10.4f}"
        if "interval" in row:
            low, high = row["interval"]
            ratio = ""
            if "ratio" in row:
                ratio = f"{row['ratio']:.4f} ({row['ratio_interval'][0]:.4f}-{row['ratio_interval'][1]:.4f})"
            text += f"  {f'{low:.4f}-{high:.4f}':<17} {ratio:<24} {row['seconds']:>7.1f}"
        else:
            text += "  published"
        shown.append(text)
    for row in result["parity"]:
        shown.append(
            f"parity of {row['model']}: Megatron-core and Hugging Face differ by {row['relative_difference']:+.1e} "
            f"(tolerance {row['tolerance']:g})"
        )
    for row in result["pseudo_perplexity"]:
        shown.append(
            f"pseudo-perplexity of {row['model']}: {row['perplexity']:.4f} over {row['residues']:,} residues "
            f"of {row['sequences']} sequences"
        )
    return shown
