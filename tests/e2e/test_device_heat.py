"""Heat in the sensor files, requests at the gateway: what arrives where Triton is, is counted.

The gateway, the governor's thread and both HTTP servers are real; the sensors are files below a
folder as the kernel has them, and the governor's clock runs fast so that minutes take seconds.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from forge.device.gateway.app import create_app
from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.device.gateway.server import http_server
from forge.device.gateway.triton_backend import TritonBackend
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.release import Release
from forge.device.shared.upstream import ActiveServer, Upstream
from forge.device.thermal.monitor import ThermalMonitor
from forge.device.thermal.sensors import SensorReader
from forge.profiles import ThermalSection
from tests.support.counting_triton import CountingTriton
from tests.support.machines import JETSON

MOST = 8
CLIENTS = 16
NO_QUEUE = GatewayConfig(queue=QueueRules(per_place=0))  # so that the reason is told at once
FASTER = 200.0
THERMAL = ThermalSection(throttle_c=83, critical_c=90, batch_floor=2)


@dataclass
class Clients:
    """Keep asking until told to stop; what they were answered is counted by status."""

    url: str
    statuses: dict[int, int] = field(default_factory=dict)
    reasons: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self.over.is_set():
                response = client.post(f"{self.url}/v1/inference", json={"prompt": "a"})
                with self._lock:
                    seen = self.statuses
                    seen[response.status_code] = seen.get(response.status_code, 0) + 1
                    if response.status_code == 429:
                        self.reasons.add(response.json()["error"]["message"])
                        assert response.headers["retry-after"]
                if response.status_code != 200:
                    time.sleep(0.02)


@dataclass
class Device:
    """A gateway whose governor looks at files."""

    zone: Path
    guard: ThermalMonitor
    triton: CountingTriton
    clients: Clients

    def heat(self, celsius: float | None) -> None:
        """Write the sensor's file as a whole; None takes it away."""
        if celsius is None:
            (self.zone / "temp").unlink()
            return
        (self.zone / "new").write_text(f"{celsius * 1000:.0f}\n")
        (self.zone / "new").replace(self.zone / "temp")

    def throttle(self, state: int) -> None:
        """Let the kernel cool the GPU's clock by so many of ten states."""
        folder = self.zone.with_name("cooling_device0")
        folder.mkdir(exist_ok=True)
        for name, text in (
            ("type", "devfreq-17000000.gpu"),
            ("max_state", 10),
            ("cur_state", state),
        ):
            (folder / "new").write_text(f"{text}\n")
            (folder / "new").replace(folder / name)

    def settle(self, limit: int) -> None:
        """Until the limit is this, and those that came in before have left."""
        wait_for(lambda: self.guard.limit.current == limit, self.describe)
        time.sleep(3 * self.triton.words * self.triton.pause_s)
        self.triton.since_last()

    def serves(self, limit: int) -> None:
        """Until so many were at Triton at once, for a second at least; never were more."""
        self.settle(limit)
        peaks = [0]
        until = time.monotonic() + 1

        def reached() -> bool:
            peak, _ = self.triton.since_last()
            peaks.append(peak)
            return time.monotonic() > until and max(peaks) >= limit

        wait_for(reached, lambda: f"{max(peaks)}: {self.describe()}")
        assert max(peaks) == limit

    def describe(self) -> str:
        return repr(self.guard.report())


def wait_for(condition: Callable[[], bool], said: Callable[[], str]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, said()
        time.sleep(0.01)


@contextlib.contextmanager
def gateway(upstream: Upstream, guard: ThermalMonitor) -> Iterator[str]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    app = create_app(upstream, TritonBackend(), guard.report, guard.limit, NO_QUEUE)
    server = http_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("tj-thermal\n")
    (zone / "temp").write_text("45000\n")
    guard = ThermalMonitor(
        ConcurrencyLimit(),
        read_sensors=SensorReader(tmp_path),
        period_s=2.0 / FASTER,
        clock=lambda: time.monotonic() * FASTER,
    )
    guard.govern(THERMAL, MOST, JETSON)
    triton, upstream = CountingTriton(), Upstream()
    with triton.running() as behind, guard.running(), gateway(upstream, guard) as url:
        upstream.set(serving(behind))
        clients = Clients(url)
        threads = [threading.Thread(target=clients.ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield Device(zone, guard, triton, clients)
        finally:
            clients.over.set()
            for thread in threads:
                thread.join()


def serving(url: str) -> ActiveServer:
    release = Release(name="llm", version="1.0.0", profile="jetson", manifest="0" * 64)
    return ActiveServer(
        url=url,
        model="llm",
        slot="a",
        release=release,
        triton="2.51.0",
        runtime={},
        default_max_tokens=16,
        max_seq_len=64,
    )


def test_heat_limits_what_reaches_triton_and_cooling_gives_it_back(device: Device) -> None:
    device.serves(MOST)  # sixteen clients want more
    device.heat(95)
    device.serves(THERMAL.batch_floor)  # it never stops answering
    assert any("95.0 °C is critical (90 °C)" in reason for reason in device.clients.reasons)

    device.heat(50)
    device.serves(MOST)
    assert set(device.clients.statuses) == {200, 429}

    report = httpx.get(f"{device.clients.url}/v1/hardware", trust_env=False).json()
    assert (report["limit"], report["celsius"]) == (MOST, 50.0)
    assert [one["limit"] for one in report["decisions"]][-5:] == [2, 5, 6, 7, 8]


def test_a_temperature_that_stays_too_high_lowers_it_step_by_step(device: Device) -> None:
    device.serves(MOST)
    device.heat(84)
    device.serves(THERMAL.batch_floor)
    levels = [one.limit for one in device.guard.report().decisions][-3:]
    assert levels == [4, 3, 2]


def test_hardware_that_throttles_by_itself_is_left_to_do_so_until_it_takes_too_much(
    device: Device,
) -> None:
    device.throttle(3)
    device.heat(82)  # not above throttle_c, where a jump of the temperature is a trend, too
    device.serves(MOST)
    report = httpx.get(f"{device.clients.url}/v1/hardware", trust_env=False).json()
    assert (report["throttled"], report["throttled_share"]) == (True, 0.3)
    assert report["throttle_reasons"] == ["devfreq-17000000.gpu"]
    device.throttle(9)
    device.settle(MOST - 1)


def test_a_lost_sensor_halves_what_reaches_triton(device: Device) -> None:
    device.serves(MOST)
    device.heat(None)
    device.serves(MOST // 2)
    assert any("can no longer be read" in reason for reason in device.clients.reasons)
