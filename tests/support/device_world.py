"""A publisher with real keys and a real store, and devices of it: what device tests share.

The bundles hold a small model of our own that answers what a test wants. Most tests ask about the
agent, so its server is tests/support/fake_tritonserver.py, which starts in a tenth of a second; a
test with the mark `real_triton`, and every test where FORGE_TEST_TRITON is `real` (nightly), has
the real Triton. tests/e2e/test_fake_triton.py compares the two.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import pytest

from forge import canonical, device
from forge.bundle import (
    Channel,
    Fit,
    Manifest,
    Operating,
    ServingSettings,
    SmokeSummary,
    TreeReference,
    channel_path,
)
from forge.device.state.directory import StateDirectory
from forge.device.telemetry.status import DeviceStatus
from forge.errors import ForgeError
from forge.profiles import GoldenSection, MatchSection, ProbeSection
from forge.release.attest.attest import prove
from forge.release.attest.verify import check_proofs
from forge.release.keys.keyring import Keyring
from forge.release.lifecycle import keys
from forge.release.manifest import PlannedManifest
from forge.release.publish import ProofCheck, publish
from forge.release.repository import update
from forge.release.repository.edit import Edit
from forge.serving.repository.accuracy_probe import ACCURACY_FILE, AccuracyProbe
from forge.serving.repository.render import config_pbtxt
from forge.serving.repository.spec import CompileOnDevice, write_spec
from forge.steps import Link
from forge.store import Tree, TreeEntry, open_store
from forge.store.formats.names import tree_name
from tests.support import caches, cheap_keys
from tests.support.fake_triton import fake_lock
from tests.support.spec import a_spec

PROJECT = Path(__file__).parents[2]
LOCK = PROJECT / "dockerfiles" / "triton-openvino" / "requirements.lock"
TritonKind = Literal["fake", "real"]
_kind: list[TritonKind] = ["real" if os.environ.get("FORGE_TEST_TRITON") == "real" else "fake"]
NOT_SAID = {"ballast", "ballast_from", "compiled", "activation", "image", "floor"}
cheap_keys.use()  # also in programs that a test starts
PASSPHRASE = "correct horse battery staple"
FRANCE = GoldenSection(prompt="What is the capital of France?", expect=("Paris",), max_tokens=32)
PROBE = AccuracyProbe(tokens=(5, 6, 7, 8), logprobs=(-1.0, -2.0, -3.0))
WIDE = ProbeSection(ttft_ms_max=30_000, output_tokens_per_s_min=1)

# One word at a time; what it says is in engine/answer.json, so that the engine differs.
MODEL = """
import json, os, site, threading, time
site.addsitedir(os.environ["FORGE_SITE_PACKAGES"])
from pathlib import Path
import numpy as np
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        engine = Path(args["model_repository"]) / args["model_version"] / "engine"
        self.answer = json.loads((engine / "answer.json").read_text())
        time.sleep(self.answer["load_s"])
        if self.answer["fails"]:
            raise RuntimeError("the engine does not load")
        self.cancelled = set()

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            asked = given(request, "text_input")
            if given(request, "input_format") == "cancel":
                self.cancelled.add(asked)
                self.end(sender, 0, "cancelled")
                continue
            name = asked.replace("?", "").replace(" ", "-")[-40:]
            scores = self.answer["scores"] if asked.startswith("[") else None
            words = [json.dumps(scores)] if scores else self.answer["words"].split(" ")
            identity = given(request, "request_id")
            threading.Thread(target=self.say, args=(sender, name, words, identity)).start()

    def say(self, sender, name, words, identity):
        said = 0
        if self.answer["log"]:
            (Path(self.answer["log"]) / f"{name}.begun").touch()
        for word in words:
            if sender.is_cancelled() or identity in self.cancelled:
                break
            said += 1
            sender.send(triton.InferenceResponse([text("text_output", word + " ")]))
            time.sleep(self.answer["pause_s"])
        if self.answer["log"] and said < len(words):
            # A file of its own for each request that was cancelled, whole when it has its name.
            done = Path(self.answer["log"]) / f"{name}.tmp"
            done.write_text(str(said))
            done.rename(done.with_suffix(""))
        self.end(sender, said, "stop" if said == len(words) else "cancelled")

    def end(self, sender, said, reason):
        outputs = [
            text("text_output", ""), number("output_tokens", said), number("input_tokens", 1),
            text("finish_reason", reason),
        ]
        final = triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        sender.send(triton.InferenceResponse(outputs), flags=final)

def given(request, name):
    tensor = triton.get_input_tensor_by_name(request, name)
    return "" if tensor is None else tensor.as_numpy().reshape(-1)[0].decode()

def text(name, value):
    return triton.Tensor(name, np.array([value.encode()], dtype=np.object_))

def number(name, value):
    return triton.Tensor(name, np.array([value], dtype=np.int32))
"""


def use_triton(kind: TritonKind) -> None:
    """Publish bundles that are served by this server from now on."""
    _kind[0] = kind


def triton_of(request: pytest.FixtureRequest) -> TritonKind:
    """Return the server of a test or module."""
    marked = request.node.get_closest_marker("real_triton") is not None
    return "real" if marked or os.environ.get("FORGE_TEST_TRITON") == "real" else "fake"


def serving_lock() -> Path:
    """Return the lock of the environment that serves bundles published now."""
    return LOCK if _kind[0] == "real" else fake_lock(environments().parent / "fake-triton")


@dataclass(frozen=True)
class Says:
    """What a bundle's model does, and how a device changes to it."""

    words: str = "The capital is Paris"
    pause_s: float = 0.0
    load_s: float = 0.0
    fails: bool = False
    log: str = ""
    ballast: int = 300_000  # bytes of the engine that stay the same from version to version
    ballast_from: int = 0  # their place in one endless ballast: another one has nothing in common
    activation: Literal["swap", "blue-green"] = "swap"
    image: str = ""  # container image it is served in, instead of an environment
    compiled: CompileOnDevice | None = None  # the device makes answer.json from source/answer.json
    floor: ProbeSection = WIDE
    scores: tuple[float, ...] = ()  # of its probe's tokens; without them the bundle has no probe


@dataclass
class World:
    """One publisher and its store."""

    folder: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    fresh_keys: bool = False

    def __post_init__(self) -> None:
        if not (self.folder / "keys").is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            made = _make_keys() if self.fresh_keys else _keys()
            shutil.copytree(made, self.folder / "keys")
            (self.folder / "store").mkdir()

    @property
    def store_url(self) -> str:
        return str(self.folder / "store")

    @property
    def root(self) -> bytes:
        return (self.folder / "keys" / "metadata" / "1.root.json").read_bytes()

    def publish(  # noqa: PLR0913 - what a test may want otherwise
        self,
        version: str,
        says: Says | None = None,
        *,
        channel: str = "stable",
        proofs: TreeReference | None = None,
        tamper: str = "",
        operating: Operating | None = None,
        escape: str = "",
        profile: str = "development",
        **fit: Any,
    ) -> Manifest:
        """Build, prove and publish a version of the bundle `llm` for a profile.

        Args:
            version: a new one.
            says: what its model does.
            channel: to point to it.
            proofs: of another bundle, instead of its own.
            tamper: proof file whose content is changed after it was signed.
            operating: power and temperatures; None as in bundles from before there were any.
            escape: path of one file more in the tree's document, which nothing checks.
            profile: its name; one version may be published for several, one after another.
            fit: fields of the manifest's fit.
        """
        work = self.folder / f"work-{version}-{profile}"
        says = says or Says()
        tree = bundle_tree(work / "tree", says)
        manifest = self._store(version, profile, tree, work, tamper, escape)
        serving = _serving(says.image).model_copy(update={"activation": says.activation})
        changes = {"fit": _fit(fit), "operating": operating, "serving": serving}
        manifest = manifest.model_copy(update={**changes, **({"proofs": proofs} if proofs else {})})
        planned = PlannedManifest(manifest, canonical.digest([manifest.identity()]))
        store = open_store(self.store_url, environment={})
        # A careful publisher refuses what a device is to refuse here.
        check: ProofCheck = (lambda *_: None) if tamper or proofs else check_proofs
        publish(store, self.ring(), [planned], channel, now=self.clock(), check=check)
        return manifest

    def ring(self) -> Keyring:
        return Keyring(self.folder / "keys", lambda: PASSPHRASE)

    def device(self, name: str = "device", **options: Any) -> Device:
        """A provisioned device; environments are shared with all tests of this machine."""
        state = self.folder / name
        if not (state / "device.json").exists():
            state.mkdir()
            (state / "environments").symlink_to(environments())
            device.provision(state, self.store_url, self.root, "llm", "stable", **options)
        return Device(state)

    def point(self, **changes: Any) -> None:
        """Sign a document for the channel `stable` that no publisher of ours would."""

        def change(edit: Edit) -> None:
            channel = Channel(name="llm", channel="stable", version="1.0.0", profiles={})
            data = channel.model_copy(update=changes).encode()
            edit.put("channels", channel_path("llm", "stable"), data, {})

        objects = open_store(self.store_url, environment={}).objects
        update.update(objects, self.ring(), change, now=self.clock())

    def _store(
        self, version: str, profile: str, tree: Path, work: Path, tamper: str, escape: str
    ) -> Manifest:
        store = open_store(self.store_url, environment={})
        stored = store.put_tree(tree)
        if escape:
            entries = store.tree(stored.digest).entries
            more = TreeEntry(path=escape, mode=0o644, size=0, sha256=canonical.sha256(b""))
            bad = Tree(entries=tuple(sorted((*entries, more), key=lambda one: one.path)))
            stored = bad.reference()
            store.objects.write(tree_name(stored.digest), bad.encode())
        (work / "sbom").mkdir()
        (work / "sbom" / "sbom.cdx.json").write_text("{}")
        (work / "proofs").mkdir()
        link = Link(
            step=f"repository@{profile}",
            key="0" * 64,
            inputs={},
            outputs={"repository": stored.digest},
            seconds=1.0,
            started="2026-11-24T00:00:00Z",
            runner="local linux/amd64",
        )
        prove(
            repository=tree,
            sbom=work / "sbom",
            digests={"repository": stored.digest},
            links=[link],
            keyring=self.ring(),
            output=work / "proofs",
            profile=profile,
        )
        if tamper:
            path = work / "proofs" / tamper
            path.write_bytes(path.read_bytes().replace(b"A", b"B", 1))
        return Manifest(
            name="llm",
            version=version,
            profile=profile,
            created=f"{self.clock():%Y-%m-%dT%H:%M:%SZ}",
            tree=stored,
            proofs=store.put_tree(work / "proofs"),
            fit=_fit({}),
            serving=_serving(""),
            smoke=SmokeSummary(
                concurrency=1,
                ttft_ms_p50=1,
                inter_token_ms_p50=1,
                output_tokens_per_s=1,
                error_rate=0,
                peak_rss_mib=1,
                machine="test",
            ),
            chain=(),
        )


@dataclass
class Agent:
    """`forge device run` as a process of its own."""

    process: subprocess.Popen[str]
    state: Path
    log: Path

    @property
    def url(self) -> str:
        agent = device.status(self.state).agent
        if agent is None or agent.url is None:
            raise AssertionError(self.log.read_text())
        return agent.url

    def wait(self, condition: Callable[[DeviceStatus], bool], timeout_s: float = 60) -> None:
        """Until the device's status is as wanted. Fails with the agent's log."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if condition(device.status(self.state)):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"{device.status(self.state)}\n{self.log.read_text()}")

    def wait_ready(self, version: str) -> None:
        """Until this version answers through the gateway."""
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            if self.ready() == version:
                return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def ready(self) -> str | None:
        """Version that serves, None while none does."""
        import httpx

        try:
            response = httpx.get(f"{self.url}/health/ready", trust_env=False, timeout=10)
        except (httpx.HTTPError, AssertionError):
            return None
        return str(response.json()["release"]["version"]) if response.is_success else None

    def ask(self, prompt: str = "What is the capital of France?") -> str:
        """The answer of the gateway."""
        import httpx

        body = {"prompt": prompt}
        response = httpx.post(f"{self.url}/v1/inference", json=body, trust_env=False, timeout=60)
        return str(response.raise_for_status().json()["text"]).strip()

    def stop(self) -> int:
        """SIGTERM and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@dataclass
class Device:
    """One device's state folder."""

    state: Path

    @property
    def home(self) -> StateDirectory:
        return StateDirectory(self.state)

    def follow(self, world: World) -> None:
        """Be provisioned for this world, whatever it was before."""
        device.provision(self.state, world.store_url, world.root, "llm", "stable")

    @property
    def status(self) -> DeviceStatus:
        return device.status(self.state)

    def once(self) -> None:
        """One look, in this process."""
        device.run(self.state, once=True)

    @contextmanager
    def running(self, *, poll_s: float = 1.0) -> Iterator[Agent]:
        """The agent as a process, stopped afterwards, with nothing of it left."""
        log = self.state.parent / f"{self.state.name}.log"
        argv = [sys.executable, "-c", "from forge.cli import main; main()", "device", "run"]
        argv += ["--state", str(self.state), "--port", "0", "--poll-s", str(poll_s)]
        with log.open("a") as output:
            process = subprocess.Popen(argv, stdout=output, stderr=output, text=True)
        agent = Agent(process, self.state, log)
        try:
            agent.wait(lambda status: status.agent is not None, 30)
            yield agent
        finally:
            try:
                if process.poll() is None:
                    agent.stop()
            finally:
                agent.kill()  # nothing happens if it has ended


@contextmanager
def refused(device: Device, kind: type[ForgeError], said: str) -> Iterator[None]:
    """The body raises this; the slot that served is as it was, and serves."""
    before = device.status
    with pytest.raises(kind, match=said) as caught:
        yield
    assert caught.value.exit_code == kind.exit_code
    assert device.home.current() == "a"
    assert device.status.state == "idle"
    assert device.status.release == before.release
    assert not [path for path in device.home.tmp.rglob("*") if path.is_file()]


def answers(device: Device) -> str:
    with device.running(poll_s=600) as agent:
        agent.wait_ready("1.0.0")
        return agent.ask()


@lru_cache(maxsize=1)
def environments() -> Path:
    """Where virtual environments are kept between test runs."""
    caches.ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    return caches.ENVIRONMENTS


def triton_processes(state: Path) -> list[int]:
    """Process ids of servers that serve from this state folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes()
                folder = (entry / "cwd").readlink()
            except OSError:
                continue
            server = b"\0--model-repository=" in words
            server &= not any(one in words for one in (b"supervisor.py", b"sandbox.py"))
            if server and folder.is_relative_to(state.resolve()):
                found.append(int(entry.name))
    return found


def _serving(image: str) -> ServingSettings:
    return ServingSettings(
        activation="swap",
        start_timeout_s=60,
        environments={}
        if image
        else {"triton-openvino": canonical.sha256(serving_lock().read_bytes())},
        images={"server": image} if image else {},
    )


def bundle_tree(folder: Path, says: Says) -> Path:
    """Write the rendered tree of a bundle."""
    contained = {"server": "container", "environment": None, "lock": None, "image": says.image}
    spec = a_spec(
        runtime={"openvino-genai": "2026.4.1.0"},
        max_batch_size=4,
        max_input_len=100,
        max_seq_len=200,
        default_max_tokens=32,
        golden=(FRANCE,),
        probe=says.floor,
        compile_on_device=says.compiled,
        **(contained if says.image else {}),
    )
    engine = folder / "models" / "llm" / "1" / "engine"
    source = engine / says.compiled.source if says.compiled else engine
    source.mkdir(parents=True)
    answer = {key: value for key, value in vars(says).items() if key not in NOT_SAID}
    (source / "answer.json").write_text(json.dumps(answer))
    # The same in every version, and not compressible.
    first = says.ballast_from // 32
    numbers = range(first, first + says.ballast // 32)
    blocks = [bytes.fromhex(canonical.digest(number)) for number in numbers]
    (engine / "weights.bin").write_bytes(b"".join(blocks))
    (engine.parent / "model.py").write_text(MODEL)
    (engine.parent.parent / "config.pbtxt").write_text(config_pbtxt(spec))
    (folder / "runtime").mkdir()
    shutil.copyfile(serving_lock(), folder / "runtime" / "requirements.lock")
    if says.scores:
        (folder / ACCURACY_FILE).write_text(PROBE.model_dump_json())
    write_spec(folder, spec)
    return folder


def _fit(changes: Mapping[str, Any]) -> Fit:
    plain: dict[str, Any] = {
        "platform": "linux/amd64",
        "match": MatchSection.model_validate({}),
        "compute_capability": None,
        "memory_mib": 64,
        "free_disk_mib": 16,
        "driver_min": None,
        "jetpack": (),
        "runtime": {},
        "power_mode": None,
    }
    return Fit(**{**plain, **changes})


@lru_cache(maxsize=1)
def _keys() -> Path:
    return _make_keys()


def _make_keys() -> Path:
    folder = Path(mkdtemp(prefix="forge-test-keys-")) / "keys"
    keys.init(folder, passphrase=PASSPHRASE, now=datetime.now(UTC))
    return folder
