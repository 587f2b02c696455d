"""hf: checkpoints with the real `hf` program against a small hub of the test's own."""

import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge import environments
from forge.checkpoint.fetch import fetch
from forge.errors import ConfigurationError

pytestmark = pytest.mark.network
ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"model_type": "tiny"}', "model.safetensors": b"weights " * 1000}


def etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:40]


class Hub(http.server.BaseHTTPRequestHandler):
    """The two routes of a hub that downloading one revision needs."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        headers = {}
        if path == f"/api/models/org/tiny/revision/{COMMIT}":
            siblings = [{"rfilename": one} for one in FILES]
            data = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith(f"/api/models/org/tiny/tree/{COMMIT}"):
            data = json.dumps(
                [{"type": "file", "path": n, "size": len(d), "oid": etag(d)}
                 for n, d in FILES.items()]
            ).encode()  # fmt: skip
        elif path == f"/org/tiny/resolve/{COMMIT}/{name}" and name in FILES:
            data = FILES[name]
            headers = {"ETag": f'"{etag(data)}"', "X-Repo-Commit": COMMIT}
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for header, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(header, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",  # tools that are imported in this process set it
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        server.shutdown()


@pytest.fixture(scope="module")
def hf() -> Path:
    lock = ROOT / "dockerfiles" / "huggingface" / "requirements.lock"
    cache = ROOT / ".forge" / "environments"
    return environments.ensure("huggingface", lock, python="3.11", cache=cache) / "bin" / "hf"


def test_hub_repository_is_fetched_at_its_commit_and_verified(
    tmp_path: Path, environment: dict[str, str], hf: Path
) -> None:
    output = tmp_path / "checkpoint"
    output.mkdir()
    pin = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    url = f"hf:org/tiny@{COMMIT}?path=*.safetensors#sha256={pin}"
    assert fetch(url, output, environment=environment, hf_tool=hf) == pin
    assert [path.name for path in output.iterdir()] == ["model.safetensors"]


def test_hub_repository_that_is_not_there_is_refused(
    tmp_path: Path, environment: dict[str, str], hf: Path
) -> None:
    output = tmp_path / "checkpoint"
    output.mkdir()
    url = f"hf:org/other@{COMMIT}"
    with pytest.raises(ConfigurationError, match="could not be fetched"):
        fetch(url, output, environment=environment, hf_tool=hf)
    assert list(output.iterdir()) == []
