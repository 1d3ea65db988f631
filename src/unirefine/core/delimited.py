"""Tables of text that users bring: separated by commas, semicolons or tabs, with or without a byte order mark."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unirefine.errors import UserError
from unirefine.files.inputs import require_file

DELIMITERS = (",", ";", "\t")
MISSING = ("", "nan", "+nan", "-nan", "na", "n/a", "#n/a", "null", "none")
"""What stands for no value, in any case."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    line: int
    """Line number of its start, from 1."""
    cells: list[str]
    """Without white space around them."""


@dataclass(frozen=True)
class Table:
    """A table of text."""

    path: Path
    delimiter: str
    rows: list[Row]
    """Without the empty ones."""

    def where(self, row: Row) -> str:
        """The file and line of a row, for messages."""
        return f"{self.path}:{row.line}"


def read_table(path: Path, option: str) -> Table:
    """All rows of a file that have anything in them. The first of them tells the delimiter.

    option: of the command line, for the message. Raises UserError when the file is missing or no table in UTF-8.
    """
    require_file(path, f"check {option}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError("not a CSV file in UTF-8", where=f"{path}:{line}", fix="save it as UTF-8") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return Table(path, delimiter, list(_rows(reader, path)))


def _rows(reader: "csv._reader", path: Path) -> Iterator[Row]:
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"not a CSV file ({error})", where=f"{path}:{line}") from None
        cells = [cell.strip() for cell in cells]
        if any(cells):
            yield Row(line, cells)


def number(text: str, delimiter: str, where: str) -> float | None:
    """A number; None for what stands for no value. Where commas do not separate columns, one may be the decimal point.

    Raises UserError for anything else, and for what no float64 can hold.
    """
    if text.casefold() in MISSING:
        return None
    plain = text.replace(",", ".") if delimiter != "," else text
    if _NUMBER.fullmatch(plain) is None or abs(value := float(plain)) == float("inf"):
        raise UserError(
            f"{text!r} is not a finite number", where=where, fix="leave the cell empty where nothing was measured"
        )
    return value
