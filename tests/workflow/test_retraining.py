"""A finished training is never replaced unasked, and never without a message."""

import shutil

import pytest

from unirefine.files.atomic import read_json, write_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def long(copy):
    """A finished run whose training took days."""
    facts = copy.directory / "results/small/train/final/train.json"
    write_json(facts, read_json(facts) | {"seconds": 200000})
    return copy


def refused(run, *arguments, config=None):
    """The error line of a start that is refused and changes no results."""
    before = sorted((run.directory / "results").rglob("*"))
    done = run.snakemake(*arguments, config=config)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "error:" in line]
    assert "Traceback" not in done.stdout
    assert sorted((run.directory / "results").rglob("*")) == before
    return line


def test_an_edit_of_an_early_stage_does_not_replace_a_long_training(long, tmp_path):
    line = refused(long, config=long.config_with("seeded", {"split": {"seed": 3}}))
    assert "training runs again, because of split (option seed); it took 55h33m, and nothing was started" in line

    edited = long.edited(tmp_path, "split")
    assert "because of split (code); it took 55h33m" in refused(edited)
    assert edited.snakemake("split", "-R", "split").returncode == 0, "stages before it are free to run"
    assert edited.planned() == set(), "the split came out the same, byte for byte"


def test_nor_do_shards_that_were_built_again_before(long):
    config = long.config_with("seeded", {"shard": {"seed": 3}})
    assert long.snakemake("shard", config=config).returncode == 0
    assert "because of train (changed input " in refused(long, config=config)


def test_nor_do_missing_shards(long):
    shutil.rmtree(long.directory / "results/small/shard")
    assert "because of shard (output missing" in refused(long, "-R", "evaluate")
    done = long.snakemake("-R", "train", "--until", "train")
    assert done.returncode == 0, done.stdout
    assert "continues after step 30" in done.stdout, "the shards came out the same"


def test_a_short_training_is_replaced_with_a_warning(copy):
    done = copy.snakemake("train", config=copy.config_with("longer", {"train": {"steps": 31}}))
    assert done.returncode == 0, done.stdout
    warnings = [line for line in done.stdout.splitlines() if "warning:" in line]
    (line,) = [line for line in warnings if "unirefine train:" not in line]  # those are of the training's size
    assert "training runs again, because of train (option steps); results/small/train/final is replaced" in line
    assert "continues after step 30" in done.stdout
