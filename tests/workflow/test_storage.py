"""Results in a bucket: the small workflow with an S3 server, from a second machine, and with faults."""

import json
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
ROOT = Path(__file__).parents[2]
BUCKET, PREFIX = "lab", "unirefine"
NOWHERE = "http://127.0.0.1:9"


def in_bucket(workflow, directory, endpoint, keys=("a", "b")):
    """The prepared workflow in a new directory, with the S3 profile and no credentials but `keys`."""
    shutil.copytree(
        workflow.directory, directory, ignore=shutil.ignore_patterns(".snakemake", "results", "logs", "benchmarks")
    )
    run = replace(workflow, directory=directory)
    # one process and one search, each half as long as two
    train, decontaminate = {"parallel": {"processes_per_node": 1}}, {"parts": 1}
    run.config_with("small", {"train": train, "decontaminate": decontaminate})
    options = ("--profile", str(ROOT / "profiles/s3"), "--default-storage-prefix", f"s3://{BUCKET}/{PREFIX}",
               "--storage-s3-endpoint-url", endpoint)  # fmt: skip
    variables = dict.fromkeys(("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"), str(directory / "none"))
    variables |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SESSION_TOKEN": ""}
    variables |= dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), keys, strict=True))
    return replace(run, options=options, variables=variables)


@pytest.fixture(scope="module")
def endpoint():
    """URL of an S3 server on this machine: moto's, without its search for the service that a request means."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, create_backend_app("s3"), threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def bucket(endpoint):
    """The bucket, empty."""
    import boto3

    found = boto3.resource(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    ).Bucket(BUCKET)
    found.create()
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory, workflow, finished, bucket, endpoint):
    """A directory from which the whole workflow has run once into the bucket, after `finished` has compiled all."""
    ready = in_bucket(workflow, tmp_path_factory.mktemp("stored") / "machine", endpoint)
    done = ready.snakemake()
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if re.match(r" ?\d+/12 ", line)]
    assert len(lines) == 12 and all(len(line.split()) > 3 for line in lines), done.stdout  # with what each log says
    return ready


@pytest.fixture
def elsewhere(stored, tmp_path, endpoint):
    """Another machine: the same config and sources, without results and without Snakemake's records."""
    return in_bucket(stored, tmp_path / "machine", endpoint)


def body(bucket, path):
    return bucket.Object(f"{PREFIX}/results/small/{path}").get()["Body"].read()


def error_lines(printed):
    return [line for line in printed.splitlines() if "unirefine" in line and ": error:" in line]


def test_shards_are_those_of_a_local_run(stored, bucket, finished):
    shards = finished.directory / "results/small/shard"
    names = [file["name"] for file in json.loads((shards / "manifest.json").read_text())["files"]]
    assert any(name.startswith("train-") for name in names)
    for name in names:
        assert body(bucket, f"shard/{name}") == (shards / name).read_bytes(), name


def test_the_model_is_there_with_its_whole_lineage(stored, bucket):
    lineage = json.loads(body(bucket, "train/final/huggingface/lineage.json"))
    assert lineage["unknown"] == []
    assert [step["stage"] for step in lineage["steps"]][-2:] == ["shard", "train"]
    assert body(bucket, "train/final/huggingface/model.safetensors")
    assert b"<svg" in body(bucket, "report/report.html")


def test_only_checkpoints_stay_on_this_machine(stored):
    assert not (stored.directory / "results").exists()
    kept = [path for path in stored.directory.rglob("*") if path.is_file()]
    assert not [path for path in kept if path.suffix in (".bin", ".idx")]
    assert [path for path in kept if "checkpoints" in path.parts]


def test_a_second_start_does_nothing(stored, elsewhere):
    assert stored.dry_run() == set()
    assert elsewhere.dry_run() == set()


def test_a_deleted_object_makes_its_stage_run(stored, bucket):
    page = bucket.Object(f"{PREFIX}/results/small/report/report.html")
    page.delete()
    done = stored.snakemake()
    assert done.returncode == 0, done.stdout
    assert "1 job in 1 stage: report\n" in done.stdout
    assert b"<svg" in page.get()["Body"].read()


def test_a_damaged_shard_is_not_trained_on_and_a_whole_one_is(elsewhere, bucket):
    shard = bucket.Object(f"{PREFIX}/results/small/shard/train-000-of-002.bin")
    whole = shard.get()["Body"].read()
    shard.put(Body=whole[:-1] + bytes([whole[-1] ^ 1]))  # the length is right
    done = elsewhere.snakemake("train")
    assert done.returncode != 0
    assert f"s3://{BUCKET}/{PREFIX}/results/small/train/final is replaced" in done.stdout
    assert "train-000-of-002.bin" in error_lines(done.stdout)[0]
    assert "Traceback" not in done.stdout
    shard.put(Body=whole[:-7])
    done = elsewhere.snakemake("train")
    assert done.returncode != 0
    assert "train-000-of-002.bin" in error_lines(done.stdout)[0]
    shard.put(Body=whole)
    done = elsewhere.snakemake("train")
    assert done.returncode == 0, done.stdout
    assert json.loads(body(bucket, "train/final/train.json"))["step"] == 30


@pytest.mark.parametrize("how", [("--dry-run",), ()])
def test_a_dead_endpoint_is_one_line(workflow, tmp_path, how):
    done = in_bucket(workflow, tmp_path / "machine", NOWHERE).snakemake(*how)
    assert done.returncode == 1
    (line,) = error_lines(done.stdout)
    assert NOWHERE in line
    assert "Traceback" not in done.stdout


def test_missing_credentials_are_one_line(workflow, tmp_path, endpoint):
    done = in_bucket(workflow, tmp_path / "machine", endpoint, keys=("", "")).snakemake()
    assert done.returncode == 1
    (line,) = error_lines(done.stdout)
    assert "credentials" in line
    assert "Traceback" not in done.stdout
