"""The attention backend of every preset, device, layout and precision; docs/gpu.md has the table.

`UNIREFINE_WRITE=1 tests/te/run.sh -k backends` writes it there.
"""

import os
import re
from pathlib import Path

import backends
import pytest

from unirefine.config.training import PRESETS

PAGE = Path(__file__).parents[2] / "docs/gpu.md"
TABLE = re.compile(r"(?<=<!-- backends -->\n).*?(?=<!-- end -->)", re.DOTALL)


@pytest.fixture(scope="module")
def found(build):
    return backends.choices(build)


@pytest.mark.parametrize("preset", PRESETS)
def test_half_precision_never_computes_all_scores_on_hopper(preset, found):
    """Unfused attention holds b x heads x s^2 scores in memory."""
    for case in ("packed", "padded", "packed, CP", "padded, deterministic"):
        assert found[preset][case]["H100, H200"] == found[preset][case]["B200"] == "FusedAttention"
    assert found[preset]["packed, fp32"]["H100, H200"] == "UnfusedDotProductAttention"


@pytest.mark.parametrize("preset", PRESETS)
def test_packed_attention_on_an_a100_needs_flash_attention(preset, found):
    packed, parallel = found[preset]["packed"], found[preset]["packed, CP"]
    assert packed["A100"] == "UnfusedDotProductAttention" and packed["A100 with flash-attn"] == "FlashAttention"
    assert found[preset]["padded"]["A100"] == "FusedAttention"
    assert parallel["A100"] is None


def test_the_table_in_the_documentation(found):
    wanted = "\n".join(backends.table(found)) + "\n"
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("UNIREFINE_WRITE") == "1":
        PAGE.write_text(TABLE.sub(lambda _: wanted, page), encoding="utf-8")
    assert TABLE.search(PAGE.read_text(encoding="utf-8"))[0] == wanted
