import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirefine.cluster import claims as module
from unirefine.cluster.claims import FROM_IDMAPPING, idmapping_claims
from unirefine.core.ids import key_of
from unirefine.errors import UserError


def line(accession, uniref90, uniref50, note="x"):
    """A line of idmapping_selected.tab: 22 columns, most of them empty."""
    columns = [""] * 22
    columns[0], columns[1], columns[12], columns[21] = accession, f"{accession}_HUMAN", "9606", note
    columns[7] = f"UniRef100_{accession}"
    columns[8] = f"UniRef90_{uniref90}" if uniref90 else ""
    columns[9] = f"UniRef50_{uniref50}" if uniref50 else ""
    return "\t".join(columns)


def read(path):
    pairs = []
    for batch in idmapping_claims(path):
        assert batch.source == FROM_IDMAPPING
        pairs += zip(batch.cluster_keys.tolist(), batch.member_keys.tolist(), strict=True)
    return pairs


NAMES = st.sampled_from(["", "P10636", "P10636-7", "A0A009IHW8", "UPI002E2621C6"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(NAMES, NAMES, st.text("ab ;:", max_size=40)), max_size=30), st.booleans(), st.booleans())
def test_the_two_columns_whatever_the_blocks(tmp_path_factory, rows, zipped, newline):
    folder = tmp_path_factory.mktemp("idmapping")
    text = "\n".join(line("Q12345", *row) for row in rows) + ("\n" if newline else "")
    path = folder / "idmapping_selected.tab"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    expected = [(key_of(uniref50), key_of(uniref90)) for uniref90, uniref50, _note in rows if uniref90 and uniref50]
    with pytest.MonkeyPatch.context() as patch:
        assert read(path) == expected
        patch.setattr(module, "_BLOCK_BYTES", 300)
        assert read(path) == expected


def test_gzip_members_end_to_end_are_one_file(tmp_path):
    path = tmp_path / "idmapping_selected.tab.gz"
    rows = [line("P00001", "P00001", "P00002"), line("P00003", "P00003", "P00002")]
    path.write_bytes(b"".join(gzip.compress(f"{row}\n".encode()) for row in rows))
    assert len(read(path)) == 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("P00001\tx\ty", "line 3 has fewer than 22 columns"),
        (line("P00001", "P00002", "P00003").replace("UniRef50_", "UniRef100_"), "line 3 has no UniRef90 and UniRef50"),
        (line("P00001", "P00002", "P00003").replace("UniRef90_", "UniRef50_"), "line 3 has no UniRef90 and UniRef50"),
        (line("P00001", "P00002", "P00003").replace("UniRef90_P00002", "UniRef90_"), "line 3 has no UniRef90"),
        ("\t".join(["x" * 1000] * 22), "line 3 is longer"),
    ],
)
def test_a_line_of_another_kind_is_named(tmp_path, monkeypatch, bad, message):
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1 << 10)
    path = tmp_path / "idmapping_selected.tab"
    good = line("P00001", "P00001", "P00001")
    path.write_text("\n".join([good, good, bad, good]) + "\n")
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert str(path) in error.value.line()


def test_a_truncated_gzip_and_a_missing_file(tmp_path):
    path = tmp_path / "idmapping_selected.tab.gz"
    with pytest.raises(UserError, match="no such file"):
        read(path)
    random = np.random.default_rng(0)
    names = ["".join(random.choice(list("ABCDEFGH"), 6)) for _ in range(3000)]
    data = gzip.compress("\n".join(line(name, name, name) for name in names).encode())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a whole compressed file"):
        read(path)
