"""Tables of two columns that users give: text with a tab between them, plain or compressed, of any size."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from unirefine.core.compressed import DAMAGE, damage, decompressed
from unirefine.errors import UserError
from unirefine.files.inputs import require_file

_BLOCK_BYTES = 1 << 22
_NAMES = ("first", "second")


def read_pairs(path: Path | str, what: str, fix: str) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Blocks of the two columns, string[n] each, in the order of the file; streaming. Empty lines are skipped.

    what: the table, as in `cluster table`; fix: what to do about one that is missing or of another kind. Raises
    UserError for it, for a damaged file, a line of another number of columns, and an empty value.
    """
    path = Path(path)
    require_file(path, fix, what)
    first = 1
    with path.open("rb") as file:
        stream, _compression = decompressed(file)
        try:
            for batch in _batches(stream):
                columns = batch.column(0), batch.column(1)
                for column in columns:
                    if (empty := pc.index(column, "").as_py()) >= 0:
                        raise UserError(f"row {first + empty:,} has an empty value", where=path, fix=fix)
                yield columns
                first += batch.num_rows
        except (pa.ArrowException, *DAMAGE) as error:
            if isinstance(error, OSError) and damage(error) is None:
                raise
            raise UserError(f"not a {what}: {' '.join(str(error).split())[:200]}", where=path, fix=fix) from None


def _batches(stream) -> Iterator[pa.RecordBatch]:
    if not stream.peek(1):
        return
    yield from csv.open_csv(
        stream,
        csv.ReadOptions(column_names=_NAMES, block_size=_BLOCK_BYTES, use_threads=False),
        csv.ParseOptions(delimiter="\t", quote_char=False),
        csv.ConvertOptions(column_types=dict.fromkeys(_NAMES, pa.string()), strings_can_be_null=False),
    )
