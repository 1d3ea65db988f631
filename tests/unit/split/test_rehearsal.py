"""The rehearsal of the full release, small: its ids are of UniProt's form, and its checks hold."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unirefine.config import load_config
from unirefine.core.ids import id_of, key_of

SCRIPT = Path(__file__).parents[3] / "bench" / "rehearsal.py"
ACCESSION = re.compile(r"[A-NR-Z][0-9]([A-Z][A-Z0-9]{2}[0-9]){1,2}")  # UniProt's own pattern


@pytest.fixture(scope="module")
def rehearsal():
    spec = importlib.util.spec_from_file_location("rehearsal", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ids_are_of_uniprots_form_and_distinct(rehearsal):
    members = np.concatenate([np.arange(20_000), rehearsal.MEMBERS - 1 - np.arange(20_000)])
    keys = rehearsal.member_keys(members)
    assert len(np.unique(keys)) == len(members)
    for key in keys[::97].tolist():
        name = id_of(key)
        assert key_of(name) == key
        assert re.fullmatch(r"UPI[0-9A-F]{10}", name) or ACCESSION.fullmatch(name), name


def test_sizes_add_up_with_a_long_tail(rehearsal):
    sizes = rehearsal.cluster_sizes(10_000, 28_533, np.random.default_rng(0))
    assert (len(sizes), sizes.sum(), sizes.min()) == (10_000, 28_533, 1)
    assert np.median(sizes) <= 2 and sizes.max() > 100


def test_the_full_rehearsal_asks_for_what_the_config_of_the_release_asks_for(rehearsal):
    config = load_config(SCRIPT.parents[1] / "config" / "uniref-2024_03.yaml")
    assert rehearsal.VALIDATION == config.split.validation_count == 328_360


@pytest.mark.parametrize("count", [10, 9973, 65_536])
def test_an_order_is_a_permutation(rehearsal, count):
    orders = [rehearsal.Order(count, seed).items(0, count) for seed in (0, 12345)]
    assert all(np.array_equal(np.sort(items), np.arange(count)) for items in orders)
    assert not np.array_equal(*orders)


@pytest.mark.slow
def test_a_small_rehearsal(tmp_path):
    written = tmp_path / "figures.json"
    subprocess.run(
        [sys.executable, SCRIPT, "--scale", "0.0005", "--again", "--json", written], check=True, capture_output=True
    )
    result = json.loads(written.read_text())
    assert (result["clusters"], result["members"]) == (32_836, 93_691)
    assert [run["validation"] for run in result["runs"]] == [164, 164]
    assert all(run[stage]["peak_bytes"] > 10**7 for run in result["runs"] for stage in ("cluster", "split"))
