"""A crate of a made-up run, read back by the library that wrote it, and by the rules of the profile."""

import hashlib
import zipfile

import pytest
from rocrate.rocrate import ROCrate

from unirefine.config import Split, Train
from unirefine.crate import run as stage
from unirefine.errors import UserError
from unirefine.files import lineage
from unirefine.files.atomic import write_json, write_text
from unirefine.files.hashes import recorded

DOWNLOAD = {"file": "uniref50.xml.gz", "size": 5, "md5": "m" * 32, "sha256": "s" * 64, "url": "https://x.org/u.xml.gz"}
OWN = DOWNLOAD | {"file": "purge-0.txt", "url": "purge.txt"}
RELEASE = {"source": "current", "release": "2026_03", "date": "2026-09-02T00:00:00+00:00", "files": [DOWNLOAD, OWN]}


@pytest.fixture
def results(tmp_path):
    run = tmp_path / "tiny"
    (run / "shard").mkdir(parents=True)
    (run / "shard/validation.bin").write_bytes(b"tokens")
    step = lineage.step("split", Split(seed=5), tools={"mmseqs": "18-8cc5c"})
    lineage.write(run / "shard", step, release=RELEASE, files=recorded(run / "shard", ["validation.bin"]))
    step = lineage.step("train", Train(), packages=["torch"])
    weights = [{"name": "huggingface/model.safetensors", "bytes": 9, "sha256": "w" * 64}]
    lineage.write(run / "train/final", step, [run / "shard"], files=weights)
    write_json(run / "evaluate/perplexity.json", {"table": [{"perplexity": 7.0, "hidden": {"perplexity": 9.0}}]})
    write_text(run / "cards/data/README.md", "# card\n")
    return run


def test_it_is_a_workflow_run_crate(results, tmp_path):
    assert stage.run(results, tmp_path / "run.crate.zip") == {"packed": 4, "named": 2}
    crate = ROCrate(tmp_path / "run.crate.zip")
    profiles = {entity.id for entity in crate.root_dataset["conformsTo"]}
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in profiles
    workflow = crate.mainEntity
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} <= set(workflow.type)
    assert workflow["programmingLanguage"].id.endswith("snakemake")
    (action,) = [action for action in [crate.root_dataset["mentions"]] if not isinstance(action, list)]
    assert action.type == "CreateAction"
    assert action["instrument"] is workflow
    assert action["startTime"] == RELEASE["date"] < action["endTime"]


def test_inputs_options_and_outputs_are_named_with_their_hashes(results, tmp_path):
    stage.run(results, tmp_path / "crate.zip")
    crate = ROCrate(tmp_path / "crate.zip")
    (action,) = crate.get_by_type("CreateAction")
    objects = {entity.id: entity for entity in action["object"]}
    assert objects[DOWNLOAD["url"]]["md5"] == DOWNLOAD["md5"]
    assert objects["#input/purge-0.txt"]["sha256"] == OWN["sha256"]
    seed = objects["#option/split.seed"]
    assert seed["value"] == "5"
    assert seed["exampleOfWork"] in crate.mainEntity["input"]
    outputs = {entity.id: entity for entity in action["result"]}
    assert outputs["#output/shard/validation.bin"]["sha256"] == hashlib.sha256(b"tokens").hexdigest()
    software = {entity["name"]: entity["softwareVersion"] for entity in crate.mainEntity["softwareRequirements"]}
    assert software["mmseqs"] == "18-8cc5c"


def test_what_is_packed_is_what_lies_there(results, tmp_path):
    stage.run(results, tmp_path / "crate.zip")
    with zipfile.ZipFile(tmp_path / "crate.zip") as archive:
        assert archive.read("results/shard/lineage.json") == (results / "shard/lineage.json").read_bytes()
        assert "Snakefile" in archive.namelist() and "workflow/rules/train.smk" in archive.namelist()
        assert not any(name.endswith((".bin", ".safetensors")) for name in archive.namelist())


def test_an_unfinished_run_is_one_line(results, tmp_path):
    (results / "evaluate/perplexity.json").unlink()
    with pytest.raises(UserError, match="run the stage"):
        stage.run(results, tmp_path / "crate.zip")
    assert not (tmp_path / "crate.zip").exists()
