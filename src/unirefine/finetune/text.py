"""The result of a fine-tuning in words: tables and sentences, for terminal, page and card."""

from collections.abc import Mapping, Sequence
from typing import Any

from unirefine.finetune.metrics import FEWEST, NAMES, better
from unirefine.finetune.outcome import MODEL
from unirefine.finetune.positions import CONTIGUOUS, MODULO


def value_text(row: Mapping[str, Any]) -> str:
    """`0.612 [0.550, 0.671]`; without an interval `0.612`; `-` where there is no value."""
    if row["value"] is None:
        return "-"
    text = number_text(row["value"])
    return text if row["interval"] is None else f"{text} [{', '.join(map(number_text, row['interval']))}]"


def number_text(value: float) -> str:
    """Three decimals; of large numbers four significant digits."""
    return f"{value:.4g}" if abs(value) >= 100 else f"{value:.3f}"


def results_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of one target: a row for each model, the fine-tuned one first."""
    keys = list(result["models"][MODEL])
    rows = [[name, *(value_text(row[key]) for key in keys)] for name, row in result["models"].items()]
    return ["model", *(NAMES[key] for key in keys)], rows


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """For each baseline a sentence: is the fine-tuned model better?"""
    key = result["primary"]
    found = []
    for name, metrics in result["models"].items():
        if name == MODEL:
            continue
        row = metrics[key]
        if row["difference_interval"] is None:
            few = f"{result['groups']} {result['resampled']}; an interval needs {FEWEST}"
            found.append(f"Against {name}: unknown, as there is no interval ({few}).")
            continue
        low, high = map(number_text, row["difference_interval"])
        words = {"better": "better than", "worse": "worse than", "not better": "not shown to be better than"}
        difference = number_text(row["difference"])
        found.append(
            f"The fine-tuned model is {words[better(row, key)]} {name}: {NAMES[key]} differs by {difference}"
            f" [{low}, {high}]."
        )
    return found


def how(method: str) -> str:
    """`at random`, `by homology`, `by position (modulo)` or `by column NAME`."""
    if method in (MODULO, CONTIGUOUS):
        return f"by position ({method})"
    return "at random" if method == "random" else f"by {method}"


TILES = {
    "clusters": "clusters of similar sequences", "positions": "changed positions", "sequences": "different sequences",
}  # fmt: skip
"""What intervals resample, with its count before it."""
RESAMPLED = {
    "clusters": "clusters of similar sequences",
    "positions": "positions of one protein: variants that change the same ones are drawn together",
    "sequences": "sequences, as all are similar: they are of sequences like these, and of others nothing is known",
}


def resampled_text(results: Sequence[Mapping[str, Any]]) -> str:
    """What the intervals of results are over, or why there is none."""
    found = []
    for over, text in RESAMPLED.items():
        counts = [one["groups"] for one in results if one["resampled"] == over]
        if any(count >= FEWEST for count in counts):
            found.append(f"In brackets: 95% intervals over resampled {text}.")
        if any(count < FEWEST for count in counts):
            found.append(f"{min(counts)} {over} are too few for an interval, which needs {FEWEST}.")
    return " ".join(found)


def split_text(split: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """How a split of a result divides, and what leaks through it."""
    parts, config = split["parts"], result["settings"]["config"]
    first = parts[0]
    sizes = (
        f"{first['train']:,} train, {first['validation']:,} validation, {first['test']:,} test"
        if len(parts) == 1
        else f"{len(parts)} folds of {min(p['test'] for p in parts):,} to {max(p['test'] for p in parts):,}"
    )
    return (
        f"Split {how(split['method'])}: {sizes}. {split['leaks']:,} of {split['test']:,} test sequences have a train"
        f" sequence of {config['identity']:.0%} identity or more over {config['coverage']:.0%} of both."
        + (
            f" Not tested, as they change positions of several folds or of none: {split['untested']:,}."
            if split["untested"]
            else ""
        )
        + _small_text(split, result)
    )


def _small_text(split: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Why sides by homology are small, where one has less than half of its share."""
    parts, config, known = split["parts"], result["settings"]["config"], result["sequences"]
    shares = {"test": config["test"] if len(parts) == 1 else 1 / len(parts)}
    if len(parts) == 1:
        shares["validation"] = config["validation"]
    small = [side for side, share in shares.items() if min(one[side] for one in parts) < share / 2 * known["labelled"]]
    if split["method"] != "homology" or not small:
        return ""
    return (
        f" Few {' and '.join(small)} sequences: one cluster has {known['largest_cluster']:,} of the"
        f" {known['labelled']:,} with a label, and it stays whole. For variants of one protein take --split modulo."
    )


def check_text(split: Mapping[str, Any]) -> str:
    """What the exact alignment of a sample says of the search."""
    check = split["exact_check"]
    fold = f" of {split['parts'][0]['name']}" if len(split["parts"]) > 1 else ""
    return (
        f"Of the train side{fold} {check['train']:,} sequences were aligned with all held-out ones exactly, without"
        f" MMseqs2 ({check['pairs']:,} pairs whose lengths allow the coverage): {check['similar']:,} are similar to"
        f" one, of which the search had missed {check['missed']:,}. That makes {check['missed_low']:,} to"
        f" {check['missed_high']:,} of the whole train side (95% interval)."
    )


def gap_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """For a random split: the primary metric of each target on it and on the other split."""
    if len(result["splits"]) < 2:
        return []
    random, strict = result["splits"]
    found = []
    for one, other in zip(random["results"], strict["results"], strict=True):
        key = one["primary"]
        cells = [value_text(each["models"][MODEL][key]) for each in (one, other)]
        found.append([one["target"], NAMES[key], *cells])
    return found


def gap_columns(result: Mapping[str, Any]) -> list[str]:
    """The names of what `gap_rows` has."""
    return ["target", "metric", *(f"split {how(split['method'])}" for split in result["splits"])]


def gap_text(result: Mapping[str, Any]) -> list[str]:
    """What the two splits say beside each other."""
    if result["no_homology"]:
        said = (
            f"There is no split by homology to compare with: {result['no_homology']}. A random split of similar"
            " sequences says how well the model fills in between them, not what it knows of others."
        )
        by_position = "The second training, on folds of positions, says what to expect at positions without labels."
        return [said, by_position] if len(result["splits"]) > 1 else [said]
    if len(result["splits"]) < 2:
        return []
    return [
        "The split is random, as asked for. Similar sequences are on both of its sides, so its numbers are of proteins"
        " like those trained on. The second training, on a split by homology, says what to expect of others."
    ]


def lines(result: Mapping[str, Any]) -> list[str]:
    """What the command prints in the end."""
    found = []
    for split in result["splits"]:
        found += ["", split_text(split, result)]
        for one in split["results"]:
            found += ["", f"{one['target']}, {one['sequences']:,} test sequences, split {how(split['method'])}:"]
            found += aligned(*results_table(one))
            found += verdicts(one)
    if result["no_homology"] or len(result["splits"]) > 1:
        found += ["", *gap_text(result), *(["", "The gap:"] if len(result["splits"]) > 1 else [])]
        found += aligned(gap_columns(result), gap_rows(result)) if len(result["splits"]) > 1 else []
    return [*found, "", f"page: {result['output']}/report.html", f"model: {model_place(result)}"]


def model_place(result: Mapping[str, Any]) -> str:
    """Where the models are."""
    folds = len(result["splits"][0]["parts"])
    return f"{result['output']}/model" if folds == 1 else f"{result['output']}/fold-1/model to fold-{folds}/model"


def aligned(columns: list[str], rows: list[list[str]]) -> list[str]:
    """A table in columns of text."""
    widths = [max(len(row[at]) for row in [columns, *rows]) for at in range(len(columns))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [columns, *rows]
    ]
