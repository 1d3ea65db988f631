"""A comparison as lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The lines that `unirefine compare` prints. result: of `run`."""
    first, second = result["first"], result["second"]
    for name, one in (("first", first), ("second", second)):
        release = f", release {one['release']}" if one["release"] else ""
        sides = ", ".join(f"{side} {count:,}" for side, count in one["sides"].items() if count)
        yield (
            f"{name}: {one['results']}{release}: {one['clusters']:,} clusters, {one['members']:,} members"
            + (f" ({sides})" if sides else ", not split yet")
        )
    for change in result["options"]:
        yield f"option {change['option']}: {change['first']} -> {change['second']}"
    clusters, members = result["clusters"], result["members"]
    yield from _ids("clusters", clusters)
    yield from _ids("members", members)
    yield (
        f"members in another cluster: {members['moved']:,}, {members['moved_between_common']:,} of them between"
        f" clusters that both have{_examples(members['examples']['moved'])}"
    )
    if "changed" not in clusters:
        return
    validation = clusters["validation"]
    yield (
        f"validation: {validation['common']:,} clusters in common,"
        f" of {validation['first']:,} and {validation['second']:,}"
    )
    yield (
        f"validation of the first that trains in the second: {validation['trains_in_second']:,} clusters,"
        f" {members['validation_trains_in_second']:,} members"
    )
    yield (
        f"train of the first that validates in the second: {validation['trained_in_first']:,} clusters,"
        f" {members['trained_validates_in_second']:,} members"
    )
    test = clusters["test"]
    if test["first"] or test["second"]:
        yield f"test: {test['common']:,} clusters in common, of {test['first']:,} and {test['second']:,}"
    yield f"common clusters on another side: {sum(one['clusters'] for one in clusters['changed']):,}"
    for one in clusters["changed"]:
        yield f"  {one['from']} -> {one['to']}: {one['clusters']:,} ({one['because']})"


def _ids(what: str, counts: Mapping[str, Any]) -> Iterator[str]:
    yield f"{what} in both: {counts['common']:,}"
    for change in ("gone", "new"):
        why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts[f"{change}_because"].items()))
        yield f"{what} {change}: {counts[change]:,}{f' ({why})' if why else ''}{_examples(counts['examples'][change])}"


def _examples(names: list[str]) -> str:
    return f", such as {', '.join(names)}" if names else ""
