"""`unirefine release fetch|archive|dataset|collect`: download and verify."""

import argparse
from pathlib import Path

from unirefine.cli.common import add_config, config_of, stage_parser
from unirefine.config import Release
from unirefine.progress import human


def parser() -> argparse.ArgumentParser:
    """The command line of `unirefine release`."""
    command = stage_parser(
        "release",
        "Download a UniProt release: single files of the current one, or UniRef out of the tarball of an older one.",
        "unirefine release fetch --file uniref50.xml.gz --output results/release/uniref50.xml.gz",
    )
    actions = command.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, text: str, example: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name, help=text, description=text, epilog=f"example:\n  unirefine release {name} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    fetch = action(
        "fetch",
        "download and verify one file; an interrupted download is resumed",
        "--file uniref50.xml.gz --output results/release/uniref50.xml.gz",
    )
    fetch.add_argument(
        "--file", metavar="NAME", required=True, help="uniref50.xml.gz, taxdump.tar.gz, purge-0.txt, ..."
    )
    fetch.add_argument("--output", metavar="FILE", type=Path, required=True)
    fetch.add_argument(
        "--planned", metavar="NAME", nargs="*", default=[],
        help="further files for the same directory: there must be room for all",
    )  # fmt: skip
    fetch.set_defaults(run=run_fetch)
    archive = action(
        "archive",
        "download an older release's tarball, extract the UniRef50 and UniRef90 XML and delete the tarball; needs 1.4"
        " times its size on disk (240 GB for 2021_04)",
        "--config config/uniref-2024_03.yaml --output results/release",
    )
    archive.add_argument("--output", metavar="DIR", type=Path, required=True)
    archive.set_defaults(run=run_archive)
    dataset = action(
        "dataset",
        "download a data set of the Hugging Face Hub at one commit; each file must have the sha256 that the Hub states",
        "--config config/nvidia-2024_03.yaml --output results/release/dataset",
    )
    dataset.add_argument("--output", metavar="DIR", type=Path, required=True)
    dataset.set_defaults(run=run_dataset)
    collect = action(
        "collect",
        "write release.json, and compare with what config/sources.tsv knows",
        "--directory results/demo/release --files uniref50.xml.gz uniref90.xml.gz --output release.json",
    )
    collect.add_argument("--directory", metavar="DIR", type=Path, required=True, help="where the downloads are")
    collect.add_argument("--files", metavar="NAME", nargs="*", default=[], help="the downloads, by name")
    collect.add_argument("--output", metavar="FILE", type=Path, required=True)
    collect.add_argument(
        "--delete-others", action="store_true",
        help="delete the downloads in DIR that --files does not name, unless another run shares DIR",
    )  # fmt: skip
    collect.set_defaults(run=run_collect)
    for each in (fetch, archive, dataset, collect):
        add_config(each, "release")
    return command


def run_fetch(arguments: argparse.Namespace) -> None:
    """Download one file."""
    from unirefine.release import fetch

    config = config_of(arguments, Release, "release")
    print(_line(fetch.run(arguments.file, arguments.output, config, planned=arguments.planned)))


def run_archive(arguments: argparse.Namespace) -> None:
    """Extract UniRef50 and UniRef90 from the tarball of an older release."""
    from unirefine.release import archive

    for facts in archive.run(arguments.output, config_of(arguments, Release, "release")):
        print(_line(facts))


def run_dataset(arguments: argparse.Namespace) -> None:
    """Download a data set of the Hub."""
    from unirefine.errors import UserError
    from unirefine.release import hub

    config = config_of(arguments, Release, "release")
    if not config.on_hub:
        what = f"release.source is {config.source!r}"
        raise UserError(
            f"no data set of the Hub: {what}", fix="set release.source: parquet, release.dataset and revision"
        )
    for facts in hub.run(arguments.output, config):
        print(f"{facts['file']}: {human(facts['size'], 'B')}, sha256 {facts['sha256']}, from {facts['url']}")


def run_collect(arguments: argparse.Namespace) -> None:
    """Write release.json."""
    from unirefine.release import collect

    config = config_of(arguments, Release, "release")
    done = collect.run(
        arguments.directory, arguments.files, arguments.output, config, delete_others=arguments.delete_others
    )
    print("\n".join(done))


def _line(facts: dict) -> str:
    release = f" of release {facts['release']}" if facts["release"] else ""
    return f"{facts['file']}{release}: {human(facts['size'], 'B')}, md5 {facts['md5']}, from {facts['url']}"
