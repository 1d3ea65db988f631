"""Which stages a run takes from its base, on the small files that decide it. Real runs are in tests/workflow."""

import json
import shutil
from pathlib import Path

import pytest

from unirefine.config import parse_config
from unirefine.core.levels import DATA_STAGES
from unirefine.errors import UserError
from unirefine.files import lineage, stages
from unirefine.files.atomic import write_json
from unirefine.workflow import directories
from unirefine.workflow.options import release_files

STAGES = list(DATA_STAGES)


@pytest.fixture
def values(tmp_path, monkeypatch):
    """A config, as a mapping; its id list lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("P12345\n")
    return {
        "run": {"name": "first"},
        "release": {"name": "2026_03", "taxdump": "taxdump.tar.gz", "purge_lists": ["purge.txt"]},
        "split": {"method": "ids", "ids": "ids.txt"},
    }


def make(values, release="results/first/release"):
    """The files of a finished run that later runs are compared with."""
    config = parse_config(values)
    sources = {"taxdump.tar.gz": "taxdump.tar.gz", "purge-0.txt": "purge.txt"}
    names = release_files(config)
    files = [{"file": name, "url": sources.get(name, f"https://m/{name}")} for name in names]
    write_json(f"{release}/release.json", {"source": "current", "release": "2026_03", "files": files})
    results, before = stages.RESULTS / config.run.name, []
    for stage in STAGES[1:]:
        directory = results / stage
        inputs = ["ids.txt"] if stage == "split" else []
        tools = {"mmseqs": "18"} if stage == "decontaminate" else {}
        written = directory / "uniref90" if stage == "records" else directory
        lineage.write(
            written, lineage.step(stage, getattr(config, stage), inputs=inputs, tools=tools, packages=[]), before
        )
        before = [written]
    write_json(results / "decontaminate/identity.json", {"audit": {"sample": config.decontaminate.audit_sample}})


@pytest.fixture
def base(values, monkeypatch):
    monkeypatch.setattr(directories, "tool_version", lambda path: "18")  # whatever MMseqs2 is installed here
    make(values)
    return values


def second(values, **changes):
    config = json.loads(json.dumps(values))
    config["run"] |= {"name": "second", "base": "first"}
    for block, options in changes.items():
        config.setdefault(block, {}).update(options)
    return directories.shared_directories(parse_config(config))


def test_an_equal_run_takes_the_whole_data_half(base):
    assert second(base) == {stage: stages.RESULTS / "first" / stage for stage in STAGES}


def test_without_a_base_nothing_is_shared(base):
    assert directories.shared_directories(parse_config(base | {"run": {"name": "second"}})) == {}


@pytest.mark.parametrize(
    ("changes", "first_own"),
    [
        ({"train": {"steps": 3}}, None),
        ({"release": {"mirrors": ["https://other"], "attempts": 9}}, None),
        ({"release": {"name": None}}, None),
        ({"release": {"name": "2026_04"}}, "release"),
        ({"release": {"purge_lists": ["purge.txt", "more.txt"]}}, "release"),
        ({"release": {"purge_lists": ["another.txt"]}}, "release"),
        ({"release": {"taxdump": None}}, "release"),
        ({"records": {"parts": 3}}, "records"),
        ({"curate": {"min_length": 9}}, "curate"),
        ({"cluster": {"violations": "error"}}, "cluster"),
        ({"split": {"seed": 1}}, "split"),
        ({"decontaminate": {"search": {"sensitivity": 5.7}}}, "decontaminate"),
        ({"decontaminate": {"audit_sample": 7}}, "decontaminate"),
        ({"shard": {"seed": 1}}, "shard"),
    ],
)
def test_from_the_first_stage_that_differs_on_all_are_its_own(base, changes, first_own):
    shared = STAGES[: STAGES.index(first_own)] if first_own else STAGES
    assert list(second(base, **changes)) == shared


def test_other_code_another_tool_or_an_edited_input_make_a_stage_its_own(base, monkeypatch, tmp_path):
    monkeypatch.setattr(directories, "tool_version", lambda path: "19")
    assert list(second(base))[-1] == "split"
    (tmp_path / "ids.txt").write_text("P99999\n")
    assert list(second(base))[-1] == "cluster"
    original = directories.stage_digest
    monkeypatch.setattr(directories, "stage_digest", lambda stage: "edited" if stage == "curate" else original(stage))
    assert list(second(base))[-1] == "records"


def test_an_unknown_version_of_a_tool_makes_no_difference(base, monkeypatch):
    """The workflow runs in an environment without MMseqs2; the jobs in a container have it."""
    monkeypatch.setattr(directories, "find_mmseqs", lambda path: (_ for _ in ()).throw(UserError("not here")))
    assert list(second(base)) == STAGES


def test_a_stage_that_the_run_has_made_already_stays_its_own(base):
    write_json(stages.RESULTS / "second/split/counts.json", {})
    assert list(second(base)) == ["release", "records", "curate", "cluster"]
    shutil.rmtree(stages.RESULTS / "second/split")
    (stages.RESULTS / "second/split").mkdir()
    assert list(second(base)) == STAGES, "an empty directory does not count"


def test_an_unfinished_base_shares_what_it_has(base):
    for stage in STAGES[3:]:
        shutil.rmtree(stages.RESULTS / "first" / stage)
    assert list(second(base)) == ["release", "records", "curate"]


def test_a_stage_whose_files_are_gone_is_known_from_a_later_lineage(base):
    for stage in ("records", "curate", "decontaminate"):
        shutil.rmtree(stages.RESULTS / "first" / stage)
    assert list(second(base)) == STAGES
    assert list(second(base, curate={"min_length": 9}))[-1] == "records"


def test_a_base_shares_what_it_shares_itself(base):
    stages.write_shared_stages(stages.RESULTS / "second", second(base))
    found = directories.shared_directories(parse_config(base | {"run": {"name": "third", "base": "second"}}))
    assert found == {stage: stages.RESULTS / "first" / stage for stage in STAGES}


def test_downloads_in_a_directory_of_their_own_are_found_through_the_base(values):
    make(values, release="downloads")
    stages.write_shared_stages(stages.RESULTS / "first", {"release": "downloads"})
    assert second(values)["release"] == Path("downloads")
    assert second(values, release={"directory": "./downloads/"})["release"] == Path("downloads")
    assert second(values, release={"directory": "elsewhere"}) == {"release": Path("elsewhere")}


def test_readers_find_shared_stages_and_clean_finds_their_users(base, tmp_path):
    results = stages.RESULTS / "second"
    stages.write_shared_stages(results, {"split": stages.RESULTS / "first/split", "release": "/data/uniref"})
    assert stages.stage_path(results, "split") == stages.RESULTS / "first/split"
    assert stages.stage_path(results, "shard") == results / "shard"
    assert stages.stage_path(tmp_path / results, "split") == tmp_path / "results/first/split"
    assert stages.shared_stages(results)["release"] == Path("/data/uniref")
    assert stages.runs_sharing(stages.RESULTS / "first/split") == ["second"]
    assert stages.runs_sharing(stages.RESULTS / "first/curate") == []
    stages.write_shared_stages(results, {})
    assert not (results / stages.FILE).exists()


def test_a_base_that_is_not_there_is_one_line(values):
    with pytest.raises(UserError, match=r"run\.base is 'first', of which there are no results"):
        second(values)
    with pytest.raises(UserError, match=r"run\.base is run\.name"):
        parse_config({"run": {"name": "same", "base": "same"}})


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"dataset": "other"}, False),
        ({"dataset": "lab/data", "revision": "0" * 40}, False),
        ({"taxdump": "taxdump.tar.gz"}, False),
        ({"source": "bionemo"}, False),
    ],
)
def test_a_data_set_is_the_same_by_its_name_and_commit(changes, same):
    release = {"source": "parquet", "dataset": "data", "taxdump": None} | changes
    config = parse_config({"release": release, "split": {"method": "given"}})
    files = [{"file": "train/000.parquet", "url": "data/train/000.parquet"}]
    found = {"source": "parquet", "release": None, "files": files, "dataset": {"id": "data", "revision": None}}
    assert directories._is_same_release(config, found) is same
