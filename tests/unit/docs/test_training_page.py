"""docs/training.md: every row of its table of stops and starts has a test."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
DEFAULT = "tests/distributed/test_train_faults.py"


def test_every_row_of_the_table_names_a_test_that_exists():
    text = (ROOT / "docs" / "training.md").read_text()
    table = text.partition("| what happened, or what is there |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) >= 19
    for what, follows, test in rows:
        assert what and follows
        name, file = re.fullmatch(r"`(test_\w+)`(?: in `(\S+)`)?", test).groups()
        assert re.search(rf"^def {name}\(", (ROOT / (file or DEFAULT)).read_text(), re.MULTILINE), name
