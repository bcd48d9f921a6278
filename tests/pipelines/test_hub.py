"""Models by their names on a hub, which is a server in this test's own process tree."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eightfold.checkpoints.save import write_safetensors
from eightfold.core.errors import CheckpointError, RequestError
from eightfold.pipelines.bundle import to_path
from eightfold.pipelines.hub import choose_files, is_hub_name
from pocketfile import POCKET_FILE

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import socket, sys
if sys.argv[2] == "refuse":
    def refuse(*_):
        raise AssertionError("a socket")
    socket.socket.connect = socket.socket.connect_ex = refuse
import eightfold
from eightfold.core.errors import EightfoldError
from eightfold.pipelines.bundle import load
try:
    print("loaded", load(sys.argv[1], offline=sys.argv[3] == "offline").family.name)
except EightfoldError as error:
    print(type(error).__name__, error, "|", error.hint)
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Any]:
    """Repositories by name, each with its files; what was asked for is kept."""
    repositories = {"me/pocket": {"model.safetensors": POCKET_FILE.read_bytes(), "README.md": b"no weights"}, "me/two": {}}
    repositories["me/two"] = {"a.safetensors": b"", "b.safetensors": b""}
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            for name, files in repositories.items():
                if path.startswith(f"/api/models/{name}/tree/"):
                    listed = [{"type": "file", "path": one, "oid": "0" * 40, "size": len(content)} for one, content in files.items()]
                    return self.send(200, json.dumps(listed).encode())
                if path.startswith(f"/api/models/{name}"):
                    siblings = [{"rfilename": one} for one in files]
                    return self.send(200, json.dumps({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}).encode())
                for one, content in files.items():
                    if path.startswith(f"/{name}/resolve/") and path.endswith(f"/{one}"):
                        return self.send(200, content, {"ETag": f'"{sha256(content).hexdigest()[:40]}"', "X-Repo-Commit": COMMIT})
            return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        do_GET = do_HEAD = answer

        def send(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for key, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def load(name: str, *, sockets: str = "allow", how: str = "online") -> str:
        environment = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hub"), "PATH": ""}
        environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
        environment |= {"EIGHTFOLD_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-c", LOAD, name, sockets, how]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    load.asked = asked  # type: ignore[attr-defined]
    yield load
    server.shutdown()
    server.server_close()


def test_a_model_is_fetched_once_and_then_found(hub: Any) -> None:
    assert "never fetched" in hub("me/pocket", sockets="refuse", how="offline")
    assert not hub.asked
    assert hub("me/pocket") == "loaded pocket"
    assert any("model.safetensors" in line for line in hub.asked) and not any("README" in line for line in hub.asked)
    assert hub("me/pocket", sockets="refuse", how="offline") == "loaded pocket"
    assert hub("me/pocket/model.safetensors", sockets="refuse", how="offline") == "loaded pocket"


def test_what_the_hub_does_not_have(hub: Any) -> None:
    assert hub("me/nothing").startswith("CheckpointError me/nothing cannot be fetched")
    assert "name one of them: me/two/a.safetensors" in hub("me/two")
    assert hub("me/pocket/other.safetensors").startswith("CheckpointError me/pocket/other.safetensors")


def test_the_files_of_a_folder() -> None:
    folder = ["model_index.json", "README.md", "vae/config.json", "unet/config.json", "tokenizer/vocab.json", "big.ckpt"]
    weights = ["unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.fp16.bin"]
    others = [
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.non_ema.bin",
    ]
    shards = ["text_encoder/model-00001-of-00002.safetensors", "text_encoder/model.safetensors.index.json"]
    expected = ["model_index.json", "unet/config.json", "vae/config.json", *weights[:2], *shards]
    assert sorted(choose_files("me/it", [*folder, *weights, *others, *shards])) == sorted(expected)


def test_a_repository_without_one_weight_file() -> None:
    with pytest.raises(RequestError, match="2 weight files"):
        choose_files("me/it", ["a.safetensors", "b.safetensors"])
    with pytest.raises(CheckpointError, match="no safetensors file"):
        choose_files("me/it", ["README.md"])


@pytest.mark.parametrize(("name", "is_hub"), [("me/it", True), ("me/it/a.safetensors", True), ("pocket", False), ("/me/it", False)])
def test_names(name: str, is_hub: bool) -> None:
    assert is_hub_name(name) is is_hub


@pytest.mark.parametrize("name", ["./me/it", "../it", "a/b.safetensors", "it/", "a//b"])
def test_paths_are_no_names(name: str) -> None:
    assert not is_hub_name(name)


def test_what_is_on_the_disk_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    (tmp_path / "me").mkdir()
    write_safetensors(tmp_path / "me" / "it", {"a": torch.ones(2)}, {}, overwrite=False)
    assert to_path("me/it") == Path("me/it")
    assert to_path("me/missing") == Path("me/missing")  # a folder that is there is meant
