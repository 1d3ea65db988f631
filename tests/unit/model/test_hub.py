"""Models of the hub over HTTP, from a local server with the hub's API."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import oracle
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from unirefine.cli.main import main
from unirefine.model import checkpoint, huggingface, source

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_ID = "lab/esm2_tiny"
PICKLED = "lab/esm2_pickled"
"""The same without safetensors."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """(url, directory of the repository, paths that were asked for)."""
    directory = oracle.save_huggingface(oracle.random_huggingface(2, 64, 4), tmp_path_factory.mktemp("hub"))
    (directory / "pytorch_model.bin").write_bytes(b"a pickle, which must not be read")
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, *, body):
            path = self.path.partition("?")[0]
            asked.append(path)
            headers = {"X-Repo-Commit": COMMIT}
            pickled = PICKLED in path
            path = path.replace(PICKLED, HUB_ID)
            if path.startswith(f"/api/models/{HUB_ID}/tree/"):
                files = [file for file in sorted(directory.iterdir()) if not (pickled and "tensors" in file.name)]
                tree = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in files]
                content = json.dumps(tree).encode()
            elif path.startswith(f"/api/models/{HUB_ID}"):
                files = [{"rfilename": file.name} for file in sorted(directory.iterdir())]
                facts = {"_id": "1", "id": HUB_ID, "modelId": HUB_ID, "sha": COMMIT, "private": False, "tags": [],
                         "downloads": 0, "siblings": files}  # fmt: skip
                content = json.dumps(facts).encode()
            elif path.startswith(f"/{HUB_ID}/resolve/") and (directory / path.rpartition("/")[2]).is_file():
                content = (directory / path.rpartition("/")[2]).read_bytes()
                headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", directory, asked
    server.shutdown()


@pytest.mark.slow
def test_a_hub_id_becomes_a_checkpoint_with_its_bits(hub, tmp_path):
    """In a new process, which reads the address of the hub from the environment."""
    url, directory, asked = hub
    environment = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    words = ["convert", "--from", HUB_ID, "--to", str(tmp_path / "megatron")]
    command = [sys.executable, "-m", "unirefine.cli.main", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert checkpoint.read(tmp_path / "megatron")["extra"] == {"source": HUB_ID}
    assert any(path.endswith("model.safetensors") for path in asked)
    assert not any(path.endswith(".bin") for path in asked)
    assert main(["convert", "--from", str(tmp_path / "megatron"), "--to", str(tmp_path / "back")]) == 0
    before, after = (load_file(path / "model.safetensors") for path in (directory, tmp_path / "back"))
    assert {huggingface.usual_name(name) for name in before} == after.keys()
    assert all(torch.equal(tensor, after[huggingface.usual_name(name)]) for name, tensor in before.items())


@pytest.fixture
def run(hub, tmp_path, monkeypatch):
    """run(words, endpoint=the server) -> exit status of a command; the hub's cache is in `home`."""

    def in_process(words: list[str], endpoint: str = hub[0]) -> int:
        template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
        of_endpoint = endpoint + template.removeprefix(huggingface_hub.constants.ENDPOINT)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", of_endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "home"))
        source._download.cache_clear()
        try:
            return main(words)
        finally:
            source._download.cache_clear()

    return in_process


def test_an_unknown_id_is_one_line(run, tmp_path, capsys):
    assert run(["convert", "--from", "lab/nothing", "--to", str(tmp_path / "megatron")]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    wanted = "lab/nothing: no such directory, and cannot download from the hub (RepositoryNotFoundError)"
    assert line.startswith(f"unirefine convert: error: {wanted}")
    assert not (tmp_path / "megatron").exists()


@pytest.fixture
def embed(hub, run, tmp_path):
    """embed(model, endpoint=the server) -> exit status; the files are in `out`, the hub's cache in `home`."""
    (tmp_path / "in.fasta").write_text(">a\nMKVLAAGIC\n>b\nMKV\n")
    words = ["--fasta", str(tmp_path / "in.fasta"), "--output", str(tmp_path / "out")]
    return lambda model, endpoint=hub[0]: run(["embed", "--model", model, *words], endpoint)


def test_a_hub_id_is_embedded_and_its_commit_recorded(hub, embed, tmp_path, capsys):
    _url, _directory, asked = hub
    asked.clear()
    assert embed(HUB_ID) == 0
    facts = json.loads(pq.read_schema(tmp_path / "out/sequences.parquet").metadata[b"unirefine"])
    assert facts["model"] == f"{HUB_ID}@{COMMIT}"
    assert f"embed: ESM-2 of its own size ({HUB_ID}@{COMMIT})" in capsys.readouterr().err
    assert not any(path.endswith(".bin") for path in asked)
    before = (tmp_path / "out/sequences.parquet").read_bytes()
    # without a network the model is that of the cache, also by its commit
    for model in (HUB_ID, f"{HUB_ID}@{COMMIT}"):
        assert embed(model, "http://127.0.0.1:1") == 0
        assert (tmp_path / "out/sequences.parquet").read_bytes() == before


def test_faults_of_the_hub_are_one_line(hub, embed, tmp_path, capsys):
    def line(*arguments) -> str:
        assert embed(*arguments) == 1
        (found,) = [text for text in capsys.readouterr().err.splitlines() if "error:" in text]
        assert not list((tmp_path / "out").glob("[!.]*"))
        return found.removeprefix("unirefine embed: error: ")

    wanted = (
        "lab/nothing: no such directory, and cannot download from the hub (RepositoryNotFoundError); check the path"
    )
    assert line("lab/nothing").startswith(wanted)
    assert line(HUB_ID, "http://127.0.0.1:1").endswith("the hub cannot be reached: check the network and HF_ENDPOINT")
    assert embed(HUB_ID) == 0
    for path in (tmp_path / "out").glob("[!.]*"):
        path.unlink()
    (weights,) = [path for path in (tmp_path / "home").rglob("model.safetensors") if path.is_symlink()]
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.resolve().write_bytes(data)
    assert line(HUB_ID).endswith("damaged: its sha256 is not the hub's; delete it, and start again")
    assert "the hub has no safetensors of it, and nothing else is opened" in line(PICKLED)
