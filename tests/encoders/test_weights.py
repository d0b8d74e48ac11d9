"""Weights: where they are looked for, and what the hub may answer; the hub is a real server on this machine."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from conftest import TINY_ENCODER, write_yaml
from safetensors.torch import save_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download takes; ``files`` maps repository/file to bytes."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    gated: set[str]
    requests: list[tuple[str, str, str]]
    stop_after: int | None

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.requests.append((self.command, path, self.headers.get("Range", "")))
        repository, _, rest = path.partition("/resolve/")
        name = f"{repository}/{rest.partition('/')[2]}"
        if repository in self.gated:
            self.refuse(401, "GatedRepo", f"Access to model {repository} is restricted.")
        elif not any(key.startswith(f"{repository}/") for key in self.files):
            self.refuse(401, "RepoNotFound", "Repository not found")
        elif name not in self.files:
            self.refuse(404, "EntryNotFound", "Entry not found")
        else:
            self.send(self.files[name], body)

    def refuse(self, status: int, code: str, message: str) -> None:
        text = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(text)

    def send(self, data: bytes, body: bool) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if body:
            part = data[start:]
            if type(self).stop_after is not None:
                part, type(self).stop_after = part[: type(self).stop_after], None
                self.close_connection = True
            self.wfile.write(part)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub():
    Own = type("Own", (Hub,), {"files": {}, "gated": set(), "requests": [], "stop_after": None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Own, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


TINY_TRANSFORMERS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
}


@pytest.fixture
def folder(tmp_path, hub) -> Path:
    """A config with a tiny encoder of timm and one of transformers, whose weights the hub has."""
    files, encoders = hub[0].files, tmp_path / "config/encoders"
    options = {"depth": 3, "embed_dim": 48, "num_heads": 3}
    torch.manual_seed(5)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **options)
    save_file(network.state_dict(), tmp_path / "timm.safetensors")
    files["tiny/timm/model.safetensors"] = (tmp_path / "timm.safetensors").read_bytes()
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**TINY_TRANSFORMERS))
    torch.save({f"vision_model.{k}": v for k, v in model.state_dict().items()}, tmp_path / "clip.bin")
    files["tiny/clip/pytorch_model.bin"] = (tmp_path / "clip.bin").read_bytes()
    features = {"kind": "blocks", "patch": 16, "depth": 3, "layer": 1}
    common = TINY_ENCODER | {"features": features, "image_size": 64, "tokens": "raw"}
    write_yaml(
        encoders / "tiny-timm.yaml",
        common
        | {"model": "vit_tiny_patch16_224", "channels": 48, "options": options}
        | {"weights": {"repository": "tiny/timm", "sha256": sha256(files["tiny/timm/model.safetensors"])}},
    )
    write_yaml(
        encoders / "tiny-clip.yaml",
        common
        | {"library": "transformers", "model": "CLIPVisionModel", "channels": 32, "options": TINY_TRANSFORMERS}
        | {"weights": {"repository": "tiny/clip", "file": "pytorch_model.bin"}},
    )
    return tmp_path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def run(folder: Path, endpoint: str, *arguments: str, code: str | None = None, **variables: str):
    """A fresh process: the hub's client reads its environment when it is imported."""
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "foundad", *arguments]
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ":".join(sys.path),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    } | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def lines(result) -> list[str]:
    """What it printed on stderr, without the hub's own advice."""
    return [line for line in result.stderr.splitlines() if line.startswith(("weights of", "/", "there is", "config"))]


def test_a_download_is_verified_cached_and_used(hub, folder):
    handler, endpoint = hub
    result = run(folder, endpoint, "weights", "all")
    assert result.returncode == 0, result.stderr
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["tiny-clip", "tiny-timm"]
    assert "none" in result.stdout  # the licence
    assert result.stdout.count(f"revision: {COMMIT}") == 2
    assert f"sha256: {sha256(handler.files['tiny/timm/model.safetensors'])}" in result.stdout
    downloads = [path for command, path, _ in handler.requests if command == "GET" and "resolve" in path]
    assert len(downloads) == 2

    code = """
import torch
from pathlib import Path
from foundad.plan.catalogue import load_one
from foundad.encoders import build_encoder
for name in ("tiny-timm", "tiny-clip"):
    encoder = build_encoder(load_one(Path("config"), "encoders", name))
    tokens = encoder(torch.zeros(1, 3, 64, 64))
    print(name, tuple(tokens.shape), [name for name in encoder.state_dict()][:1])
"""
    offline = run(folder, "http://127.0.0.1:9", code=code, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    assert "tiny-timm (1, 16, 48)" in offline.stdout
    assert "tiny-clip (1, 16, 32)" in offline.stdout


def test_a_broken_download_goes_on_where_it_stopped(hub, folder):
    handler, endpoint = hub
    name = "tiny/clip/pytorch_model.bin"
    handler.files[name] = np.random.default_rng(0).bytes(25 << 20)  # the client keeps pieces of ten megabytes
    handler.stop_after = 15 << 20
    result = run(folder, endpoint, "weights", "tiny-clip")
    if result.returncode:  # the client may give up; the next call goes on
        result = run(folder, endpoint, "weights", "tiny-clip")
    assert result.returncode == 0, result.stderr
    starts = [value for command, _, value in handler.requests if command == "GET" and value]
    assert any(int(value.removeprefix("bytes=").partition("-")[0]) > 0 for value in starts)
    path = Path(result.stdout.split("\t")[1])
    assert path.read_bytes() == handler.files[name]


def test_wrong_bytes_are_named_and_how_to_mend_it(hub, folder):
    handler, endpoint = hub
    handler.files["tiny/timm/model.safetensors"] += b" "
    result = run(folder, endpoint, "weights", "tiny-timm")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = lines(result)
    assert "SHA-256 is" in line
    assert line.endswith("remove the file and run: foundad weights tiny-timm")


def test_a_gated_repository_says_where_to_accept(hub, folder):
    handler, endpoint = hub
    handler.gated = {"tiny/timm"}
    result = run(folder, endpoint, "weights", "tiny-timm", "tiny-clip")
    assert result.returncode == 1
    assert "tiny-clip" in result.stdout  # the other one is here all the same
    (line,) = lines(result)
    assert line.startswith(
        "weights of tiny-timm: tiny/timm/model.safetensors is missing: the hub asks to accept its licence"
    )
    assert "hf auth login" in line
    assert "$FOUNDAD_WEIGHTS/tiny/timm/model.safetensors" in line


@pytest.mark.parametrize("variables", [{"HF_HUB_OFFLINE": "1"}, {}])
def test_offline_says_which_file_is_missing_and_what_to_run(folder, variables):
    result = run(folder, "http://127.0.0.1:9", "weights", "tiny-timm", **variables)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = lines(result)
    assert "tiny/timm/model.safetensors is missing" in line
    assert "foundad weights tiny-timm" in line


def test_a_missing_file_or_repository_names_the_key(hub, folder):
    handler, endpoint = hub
    del handler.files["tiny/timm/model.safetensors"]
    (line,) = lines(run(folder, endpoint, "weights", "tiny-timm"))
    assert "the hub has no such repository; fix the key weights of config/encoders/tiny-timm.yaml" in line
    handler.files["tiny/timm/other.bin"] = b""
    (line,) = lines(run(folder, endpoint, "weights", "tiny-timm"))
    assert "the hub has no such remoteentry" in line or "the hub has no such entry" in line


def test_a_folder_of_ones_own_comes_before_the_hub(hub, folder):
    handler, _ = hub
    own = folder / "own/tiny/timm/model.safetensors"
    own.parent.mkdir(parents=True)
    own.write_bytes(handler.files["tiny/timm/model.safetensors"])
    result = run(folder, "http://127.0.0.1:9", "weights", "tiny-timm", FOUNDAD_WEIGHTS=str(folder / "own"))
    assert result.returncode == 0, result.stderr
    assert str(own) in result.stdout


def test_an_unknown_encoder_names_the_nearest(folder):
    result = run(folder, "http://127.0.0.1:9", "weights", "tiny-tim")
    assert result.returncode == 1
    assert "there is no encoder 'tiny-tim'; did you mean 'tiny-timm'?" in result.stderr


def test_stages_download_nothing_and_name_the_command(hub, folder):
    handler, endpoint = hub
    code = """
import sys
from pathlib import Path
from foundad.plan.catalogue import load_one
from foundad.encoders.identity import weights_file
from foundad.encoders.weights import find_weights
from foundad.errors import MachineError
settings = load_one(Path("config"), "encoders", "tiny-timm")
print(weights_file(settings), "torch" in sys.modules)
try:
    print(find_weights(settings) == weights_file(settings))
except MachineError as error:
    print(error)
"""
    result = run(folder, endpoint, code=code)
    assert result.stdout.splitlines() == [
        "None False",
        "weights of tiny-timm are not here; get them with: foundad weights tiny-timm",
    ], result.stderr
    assert handler.requests == []
    assert run(folder, endpoint, "weights", "tiny-timm").returncode == 0
    assert run(folder, endpoint, code=code).stdout.splitlines()[1] == "True"
