"""The version is the same wherever it stands."""

import re
import tomllib
from pathlib import Path

import yaml

import unirefine

ROOT = Path(__file__).parents[3]


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {project["version"], citation["version"]} == {unirefine.__version__}


def test_the_newest_section_of_the_changelog_is_that_version_and_its_date():
    sections = re.findall(
        r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    released = [section for section in sections if section[0] != "Unreleased"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert released[0] == (unirefine.__version__, str(citation["date-released"]))
