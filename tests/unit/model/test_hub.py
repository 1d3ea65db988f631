"""`unirefine convert` downloads a hub id over HTTP, from a local server with the hub's API."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import oracle
import pytest
import torch
from safetensors.torch import load_file

from unirefine.model import checkpoint, huggingface

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_ID = "lab/esm2_tiny"


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
            if path.startswith(f"/api/models/{HUB_ID}/tree/"):
                files = sorted(directory.iterdir())
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


def run_convert(hub_url, source, target, home):
    environment = os.environ | {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "unirefine.cli.main", "convert", "--from", source, "--to", str(target)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_hub_id_becomes_a_checkpoint_with_its_bits(hub, tmp_path):
    url, directory, asked = hub
    done = run_convert(url, HUB_ID, tmp_path / "megatron", tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert checkpoint.read(tmp_path / "megatron")["extra"] == {"source": HUB_ID}
    assert any(path.endswith("model.safetensors") for path in asked)
    assert not any(path.endswith(".bin") for path in asked)
    back = run_convert(url, str(tmp_path / "megatron"), tmp_path / "back", tmp_path / "home")
    assert back.returncode == 0, back.stderr
    before, after = (load_file(path / "model.safetensors") for path in (directory, tmp_path / "back"))
    assert {huggingface.usual_name(name) for name in before} == after.keys()
    assert all(torch.equal(tensor, after[huggingface.usual_name(name)]) for name, tensor in before.items())


def test_an_unknown_id_is_one_line(hub, tmp_path):
    done = run_convert(hub[0], "lab/nothing", tmp_path / "megatron", tmp_path / "home")
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    wanted = "lab/nothing: no such directory, and cannot download from the hub (RepositoryNotFoundError)"
    assert line.startswith(f"unirefine convert: error: {wanted}")
    assert not (tmp_path / "megatron").exists()
