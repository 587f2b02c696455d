"""A real Prometheus on a free port."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.support.spawn import spawning

__all__ = ["MONITORING", "Prometheus", "programs"]

ROOT: Final = Path(__file__).resolve().parents[2]
MONITORING: Final = ROOT / "deploy" / "monitoring"
_READY_S: Final = 30


def programs() -> tuple[str, str]:
    """The server and promtool; skips the test where they are not installed."""
    found = shutil.which("prometheus"), shutil.which("promtool")
    if not found[0] or not found[1]:
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    return found[0], found[1]


@dataclass(frozen=True)
class Prometheus:
    """Prometheus with the files of deploy/monitoring."""

    url: str

    @classmethod
    @contextlib.contextmanager
    def scraping(cls, device: str, folder: Path) -> Iterator[Prometheus]:
        """Scrape the device at this URL each second, and evaluate the rules as often.

        The configuration is deploy/monitoring/prometheus.yaml with another target and no key.
        """
        program, promtool = programs()
        config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text(encoding="utf-8"))
        config["global"]["scrape_interval"] = "1s"
        [name] = config["rule_files"]
        rules = (MONITORING / name).read_text(encoding="utf-8")
        (folder / name).write_text(rules.replace("interval: 30s", "interval: 1s"))
        [job] = config["scrape_configs"]
        del job["authorization"]
        job["static_configs"] = [{"targets": [device.removeprefix("http://")]}]
        path = folder / "prometheus.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        subprocess.run([promtool, "check", "config", str(path)], check=True, capture_output=True)
        port = _free_port()
        argv = [program, f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}"]
        argv += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        with spawning() as start:
            start(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            made = cls(f"http://127.0.0.1:{port}")
            made._wait_ready()
            yield made

    def _wait_ready(self) -> None:
        until = time.monotonic() + _READY_S
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == httpx.codes.OK:
                    return
            time.sleep(0.1)
        raise AssertionError("Prometheus does not become ready")

    def api(self, path: str, **parameters: str) -> Any:
        """Data of an answer of the HTTP API; the test fails on an error."""
        answer = httpx.get(
            f"{self.url}/api/v1/{path}", params=parameters, trust_env=False, timeout=20
        ).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """Series of an expression, now."""
        found: list[Any] = self.api("query", query=expression)["result"]
        return found


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number
