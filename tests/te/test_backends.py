"""The attention backend of every preset, device, layout and precision; docs/gpu.md has the table.

`UNIREFINE_WRITE=1 tests/te/run.sh -k backends` writes it there.
"""

import dataclasses
import os
import re
from pathlib import Path

import unirefine.megatron  # noqa: F401 - before Megatron

import backends
import pytest
from megatron.core.fp4_utils import get_fp4_recipe
from megatron.core.fp8_utils import get_fp8_recipe

from unirefine.config.training import PRESETS, Model

PAGE = Path(__file__).parents[2] / "docs/gpu.md"
TABLE = re.compile(r"(?<=<!-- backends -->\n).*?(?=<!-- end -->)", re.DOTALL)


@pytest.fixture(scope="module")
def found(build):
    return backends.choices(build)


@pytest.mark.parametrize("preset", PRESETS)
def test_half_precision_never_computes_all_scores_on_hopper(preset, found):
    """Unfused attention holds b x heads x s^2 scores in memory."""
    for case in ("packed", "padded", "packed, CP", "packed, deterministic", "padded, deterministic"):
        assert found[preset][case]["H100, H200"] == found[preset][case]["B200"] == "FusedAttention"
    assert found[preset]["packed, fp32"]["H100, H200"] == "UnfusedDotProductAttention"


def test_many_long_sequences_have_no_deterministic_kernel_on_hopper(build, monkeypatch):
    """The limit that docs/gpu.md gives: sequences x heads x longest^2 below 2^30, which is 51 of 1,024 for 20 heads."""
    found = {}
    for sequences in (51, 52):
        monkeypatch.setattr(backends, "lengths", lambda _size, count=sequences: [1024] * count)
        params = backends.asked(build, "650M", packed=True, deterministic=True)
        found[sequences] = [backends.chosen(params, device) for device in ("H100, H200", "B200")]
    assert found == {51: ["FusedAttention"] * 2, 52: ["UnfusedDotProductAttention", "FusedAttention"]}


@pytest.mark.parametrize("fp8", ["delayed", "current", "blockwise", "mxfp8", "nvfp4"])
def test_attention_is_not_in_fp8(fp8, build):
    """The kernels of bf16 are taken with every recipe."""
    config = build(Model(preset=None, layers=3, hidden=128, heads=4), fp8=fp8).config
    recipe = (get_fp4_recipe if fp8 == "nvfp4" else get_fp8_recipe)(config)
    params = dataclasses.replace(backends.asked(build, "650M", packed=True), fp8=True, fp8_meta={"recipe": recipe})
    assert [backends.chosen(params, device) for device in ("H100, H200", "B200")] == ["FusedAttention"] * 2


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
