"""One device with the real model for all clients: OpenVINO under the real Triton."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from forge.device.gateway.app import create_app
from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.device.gateway.triton_backend import TritonBackend
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import Upstream
from forge.device.telemetry.metrics import Metrics
from tests.support.clients import Answers, run
from tests.support.gateway import Nothing, listening, serving_at
from tests.support.serving import running, tree

PLACES = 4


@dataclass(frozen=True)
class Device:
    url: str
    metrics: Metrics
    _answers: dict[str, Answers]

    def answers_to(self, program: str) -> Answers:
        """What the cases of a client gave; the client runs once."""
        if program not in self._answers:
            self._answers[program] = run(program, self.url)
        return self._answers[program]


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder: Path = tmp_path_factory.mktemp("clients")
    upstream, limit = Upstream(), ConcurrencyLimit(PLACES, "the batch of the bundle")
    metrics, config = Metrics(), GatewayConfig(queue=QueueRules(per_place=8))
    app = create_app(upstream, TritonBackend(), Nothing, limit, config, metrics=metrics)
    with running(tree(folder / "tree"), folder / "work") as server, listening(app) as url:
        upstream.set(serving_at(server.url))
        yield Device(url, metrics, {})
