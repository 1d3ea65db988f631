"""The entries of the config as criteria of the rules, and whether each selects something."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from unirefine.config import Curate
from unirefine.core.taxdump import read_dump
from unirefine.curate.purge import read_purge_lists
from unirefine.curate.rules import ARTIFICIAL, PURGE_LIST, Criterion, Tally
from unirefine.curate.taxonomy import PINNED_ROOT, subtrees
from unirefine.errors import UserError


def make_criteria(
    config: Curate, taxdump: Path | str | None, purge_lists: Sequence[Path | str]
) -> tuple[Criterion, ...]:
    """The criteria of a config, in the order in which they are applied; the given purge lists are the second.

    Raises UserError for lists, designs or a taxonomy that cannot be read, and for further taxa without a taxonomy.
    """
    entries = config.entries
    dump = read_dump(taxdump) if taxdump is not None else None
    made = []
    for entry in entries:
        designs: Sequence = ()
        if entry.designs:
            from unirefine.curate.designs import read_designs  # needs the extra `designs`

            designs = read_designs(entry.designs)
        if entry.taxa and dump is None and entry.name != ARTIFICIAL:
            raise UserError(
                f"curate.exclude: {entry.name} has taxa, and without a taxonomy it is not known what is below them",
                fix="set release.taxdump, or give --taxdump",
            )
        made.append(
            Criterion(
                reason=entry.name,
                taxa=subtrees(entry.taxa, dump) if entry.taxa else None,
                members=entry.members,
                purge=read_purge_lists([entry.purge_list]) if entry.purge_list else None,
                fragments=entry.fragments,
                designs=designs,
                evalue=entry.designs_evalue,
            )
        )
    if purge_lists:
        made.insert(
            1 if config.artificial_taxa else 0, Criterion(reason=PURGE_LIST, purge=read_purge_lists(purge_lists))
        )
    return tuple(made)


def check_selection(config: Curate, criteria: Iterable[Criterion], tallies: Sequence[Tally]) -> list[str]:
    """What to print about the lists and taxa. Raises UserError when one of them selects nothing.

    The default root of artificial taxa may select nothing: it is asked for in every run, also where records have no
    taxa.
    """
    lists, taxa = [], []
    for one in criteria:
        option = "curate.artificial_taxa" if one.reason == ARTIFICIAL else f"curate.exclude: {one.reason}"
        if one.purge:
            found = set().union(*(tally.purged[one.reason] for tally in tallies))
            if not config.allow_unmatched:
                one.purge.refuse_useless(found)
            lists += one.purge.summary(found)
        if one.taxa:
            roots = config.artificial_taxa if one.reason == ARTIFICIAL else _roots(config, one.reason)
            found = set().union(*(tally.roots[one.reason] for tally in tallies))
            unused = [root for root in roots if root not in found]
            asked = [str(root) for root in unused if root != PINNED_ROOT]
            # one of many taxa of an entry may have no record; of the option's own, each is asked for by itself
            if asked and not config.allow_unmatched and (one.reason == ARTIFICIAL or len(unused) == len(roots)):
                raise UserError(
                    f"no record has a taxon at or below {', '.join(asked)} of {option}",
                    fix="check the numbers, give the taxonomy (release.taxdump), or set curate.allow_unmatched: true",
                )
            taxa += [f"no record has a taxon at or below {root}" for root in unused]
        if one.fragments and not config.allow_unmatched and not any(tally.named for tally in tallies):
            raise UserError(
                f"{option}: no record has a name, so none is known as a fragment",
                fix="delete the entry, or set curate.allow_unmatched: true",
            )
    return lists + taxa


def _roots(config: Curate, name: str) -> tuple[int, ...]:
    return next(entry.taxa for entry in config.exclude if entry.name == name)


def not_found(criteria: Iterable[Criterion], tallies: Sequence[Tally]) -> str:
    """The listed ids that no record has, one a line with its list."""
    lines = []
    for one in criteria:
        if one.purge:
            found = set().union(*(tally.purged[one.reason] for tally in tallies))
            lines += [f"{name}  # {source}\n" for name, source in one.purge.missing(found)]
    return "".join(lines)
