"""docs/decisions: short pages in one form, all in the index."""

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[3] / "docs" / "decisions"
PAGES = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")
WORDS = 200


def title(page: Path) -> str:
    return page.read_text().splitlines()[0].removeprefix("# ")


def test_every_page_is_short_and_has_its_sections():
    for page in PAGES:
        text = page.read_text()
        assert len(text.split()) <= WORDS, page.name
        heading, *sections = re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]
        assert heading.count("\n") == 2, f"{page.name}: a title and an empty line"
        assert [section.splitlines()[0] for section in sections] == ["Context", "Decision", "Rejected"], page.name
        assert all(section.split("\n", 1)[1].strip() for section in sections), page.name


def test_the_index_lists_every_page():
    listed = re.findall(r"^- \[(\d{4})\]\((\S+)\) (.+)$", (DECISIONS / "README.md").read_text(), re.MULTILINE)
    assert listed == [(page.name[:4], page.name, title(page)) for page in PAGES]


def test_numbers_follow_each_other_and_references_exist():
    numbers = [page.name[:4] for page in PAGES]
    assert numbers == [f"{number:04d}" for number in range(1, len(PAGES) + 1)]
    for page in PAGES:
        assert set(re.findall(r"\((\d{4})\)", page.read_text())) <= set(numbers), page.name
