"""A store with several published versions as real releases have them: gates, SBOM, proofs, chain.

Every figure is made up; each version is a little other than the one before.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from forge.accuracy.gate import GATE_FILE as ACCURACY_GATE_FILE
from forge.accuracy.gate import AccuracySettings
from forge.accuracy.gate import gate as accuracy_gate
from forge.accuracy.receipt import Receipt
from forge.bundle import ChainLink, Manifest, TreeReference
from forge.canonical import digest
from forge.release.attest.attest import prove
from forge.release.attest.predicates import Predicate, write_predicate
from forge.release.keys.model import Expiry
from forge.release.manifest import PlannedManifest
from forge.release.publish import publish
from forge.smoke.gate import GATE_FILE, GateSettings, gate
from forge.smoke.result import Estimate, Level, RequestStatistics, Result, summary
from forge.steps import Link
from forge.store import ActionResult, Store
from forge.trust.predicates import ACCURACY, ACCURACY_TYPE, PERFORMANCE, PERFORMANCE_TYPE
from tests.support.receipts import PROFILE, receipt
from tests.support.release_world import World, manifest
from tests.support.smoke_results import measured, result

LICENCES: Final = ("MIT", "BSD-3-Clause", "Apache-2.0", "MIT AND PSF-2.0")
PACKAGES: Final = ("numpy", "tritonserver", "openvino", "openvino-genai", "jinja2", "markupsafe")
CONCURRENCY: Final = (1, 4, 8)


@dataclass
class Version:
    """What a version is made from; by default all follows from its number."""

    name: str
    number: int
    files: Mapping[str, bytes] = field(default_factory=dict)
    sbom: Mapping[str, Any] | None = None
    result: Result | None = None
    receipt: Receipt | None = None
    predicates: bool = True
    environments: Mapping[str, str] = field(default_factory=dict)


class ReportWorld:
    """Publishes versions of the bundle `demo` to a store.

    Args:
        folder: of the store, the keys and what is made.
        engine_bytes: size of the largest file of a bundle.
        now: the time; that of this machine by default, so that commands find nothing expired.
        memory: whether the store is in memory; else it is the folder `store`.
    """

    def __init__(
        self,
        folder: Path,
        engine_bytes: int = 200_000,
        now: datetime | None = None,
        *,
        memory: bool = True,
    ) -> None:
        self.now = now or datetime.now(UTC)
        folder.mkdir(parents=True, exist_ok=True)
        self.world = World(folder, now=self.now, expiry=Expiry(), memory=memory)
        self._engine_bytes = engine_bytes
        self._folder = folder

    @property
    def store(self) -> Store:
        return self.world.store

    @property
    def root(self) -> bytes:
        """The root that devices are provisioned with."""
        return (self.world.keys / "metadata" / "1.root.json").read_bytes()

    def publish(self, version: Version, *profiles: str, channel: str = "canary") -> list[Manifest]:
        """Publish a version for some profiles; returns their manifests."""
        made = [self._part(version, one) for one in profiles or ("development",)]
        planned = [PlannedManifest(one, digest([one.identity()])) for one in made]
        publish(self.store, self.world.ring(), planned, channel, now=self.now)
        return made

    def _part(self, version: Version, profile: str) -> Manifest:
        made = _Release(self, version, profile)
        made.build()
        return made.manifest()

    def put(self, files: Mapping[str, bytes]) -> tuple[Path, TreeReference]:
        """Store a folder with these files."""
        folder = Path(mkdtemp(dir=self._folder, prefix="tree-"))
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder, self.store.put_tree(folder)

    def repository(self, version: Version, profile: str) -> dict[str, bytes]:
        """Files of a model repository: the engine differs in one place from the last version's."""
        engine = bytearray(random.Random(profile).randbytes(self._engine_bytes))  # noqa: S311
        for number in range(1, version.number + 1):
            patch = random.Random(f"{profile} {number}").randbytes(self._engine_bytes // 10)  # noqa: S311
            start = number * self._engine_bytes // 12 % (self._engine_bytes - len(patch))
            engine[start : start + len(patch)] = patch
        return {
            "serving.json": b'{"repository": "models", "model": "llm"}',
            "models/llm/config.pbtxt": f"# version {version.number}\n".encode(),
            "models/llm/1/model.py": b"pass\n" * 200,
            "models/llm/1/engine/openvino_model.bin": bytes(engine),
            "models/llm/1/engine/tokenizer.json": b'{"vocab": {}}' * 4000,
            "models/llm/1/engine/LICENSE": b"Apache License 2.0\n",
            **version.files,
        }


@dataclass
class _Release:
    """One profile of one version, step by step."""

    world: ReportWorld
    version: Version
    profile: str
    links: list[Link] = field(default_factory=list)
    trees: dict[str, TreeReference] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)

    def build(self) -> None:
        at, number = f"@{self.profile}", self.version.number
        self.step("checkpoint", "weights", (), {"model.gguf": b"weights"})
        self.step(f"engine{at}", "engine", ("checkpoint",), {"engine": f"{at}{number}".encode()})
        found = self.receipt()
        self.step(f"accuracy{at}", "receipt", ("checkpoint", f"engine{at}"),
                  {"receipt.json": found.model_dump_json().encode()})  # fmt: skip
        settings = AccuracySettings.model_validate({"accuracy": PROFILE})
        verdict = accuracy_gate(found, settings).model_dump_json().encode()
        self.step(f"accuracy-gate{at}", "verdict", (f"accuracy{at}",),
                  {ACCURACY_GATE_FILE: verdict})  # fmt: skip
        self.step(f"text{at}", "verdict", ("checkpoint", f"engine{at}"), {"text.json": b"{}"})
        self.step(f"repository{at}", "repository", (f"engine{at}", f"accuracy-gate{at}"),
                  self.world.repository(self.version, self.profile))  # fmt: skip
        self.step(f"smoke{at}", "result", (f"repository{at}",),
                  {"result.json": self.result().model_dump_json().encode()})  # fmt: skip
        report = gate(self.result(), _gate_settings()).model_dump_json().encode()
        self.step(f"gate{at}", "verdict", (f"smoke{at}",), {GATE_FILE: report})
        sbom = json.dumps(self.version.sbom or sbom_of(PACKAGES, LICENCES)).encode()
        self.step(f"sbom{at}", "sbom", (f"repository{at}",), {"sbom.cdx.json": sbom})
        taken = tuple(
            f"{one}{at}" for one in ("repository", "sbom", "gate", "text", "smoke", "accuracy")
        )
        self.step(f"proofs{at}", "proofs", taken, self.proofs())

    def step(
        self, name: str, output: str, inputs: Sequence[str], files: Mapping[str, bytes]
    ) -> None:
        """Store the output of a step, and the step's own record."""
        self.folders[name], tree = self.world.put(files)
        self.trees[name] = tree
        taken = {one.partition("@")[0]: self.trees[one].digest for one in inputs}
        key = digest([name, tree.digest])
        record = ActionResult(
            key=key, step=name, fields={}, inputs=taken, outputs={output: tree}, parents=(),
            seconds=2.0, started=f"{self.world.now:%Y-%m-%dT%H:%M:%SZ}",
            runner="local linux/amd64",
        )  # fmt: skip
        self.world.store.put_action(record)
        self.links.append(
            Link(name, key, taken, {output: tree.digest}, 2.0, record.started, record.runner)
        )

    def proofs(self) -> dict[str, bytes]:
        at, output = f"@{self.profile}", Path(mkdtemp(dir=self.folders["checkpoint"].parent))
        tree, ring = self.trees[f"repository{at}"].digest, self.world.world.ring()
        prove(
            repository=self.folders[f"repository{at}"],
            sbom=self.folders[f"sbom{at}"],
            digests={"repository": tree},
            links=self.links,
            keyring=ring,
            output=output,
            profile=self.profile,
        )
        if self.version.predicates:
            result, found = (one.model_dump(mode="json") for one in (self.result(), self.receipt()))
            for each in (
                Predicate(PERFORMANCE, PERFORMANCE_TYPE, result),
                Predicate(ACCURACY, ACCURACY_TYPE, found),
            ):
                write_predicate(each, tree, ring, output)
        return {path.name: path.read_bytes() for path in output.iterdir()}

    def result(self) -> Result:
        return self.version.result or result_of(self.version.number)

    def receipt(self) -> Receipt:
        number = self.version.number
        return self.version.receipt or receipt(
            precision="int8", kl_mean=0.0091 - 0.0004 * number, same_top=0.962 + 0.002 * number
        )

    def manifest(self) -> Manifest:
        at = f"@{self.profile}"
        chain = tuple(
            ChainLink(step=one.step, key=one.key, outputs=dict(one.outputs)) for one in self.links
        )
        base = manifest(self.version.name, self.profile, created=self.world.now)
        return base.model_copy(
            update={
                "tree": self.trees[f"repository{at}"],
                "proofs": self.trees[f"proofs{at}"],
                "smoke": summary(self.result()),
                "chain": chain,
                "fit": base.fit.model_copy(
                    update={
                        "memory_mib": 1500,
                        "free_disk_mib": 600,
                        "runtime": {"openvino": "2026.4.1", "openvino-genai": "2026.4.1.0"},
                    }
                ),
                "serving": base.serving.model_copy(
                    update={"environments": dict(self.version.environments)}
                ),
            }
        )


def result_of(number: int, concurrency: Sequence[int] = CONCURRENCY) -> Result:
    """A result whose figures get better from version to version."""
    return result(*(_level(number, one) for one in concurrency))


def _level(number: int, concurrency: int) -> Level:
    first = (210 - 9 * number) * concurrency**0.8
    rate = (44 + 2.2 * number) * concurrency**0.55
    joules = 1.9 / concurrency**0.4 - 0.04 * number
    found = measured(concurrency, ttft_ms=first, rate=rate)
    return found.model_copy(
        update={
            "time_to_first_token": _percentiles(first, 1.5 + 0.1 * concurrency),
            "inter_token_latency": _percentiles(
                (16 - 0.6 * number) * (1 + 0.12 * concurrency), 1.3 + 0.05 * concurrency
            ),
            "output_token_throughput": Estimate(mean=rate, ci_low=rate - 2, ci_high=rate + 2),
            "energy_per_output_token": Estimate(
                mean=joules, ci_low=joules - 0.03, ci_high=joules + 0.03
            ),
        }
    )


def _percentiles(p50: float, spread: float) -> RequestStatistics:
    low, mid, high = (
        Estimate(mean=value, ci_low=value * 0.97, ci_high=value * 1.03)
        for value in (p50, p50 * (1 + spread) / 2, p50 * spread)
    )
    return RequestStatistics(avg=mid, p50=low, p90=mid, p99=high)


def sbom_of(packages: Sequence[str], licences: Sequence[str]) -> dict[str, Any]:
    """A CycloneDX document whose packages have these licences in turn; an empty one: none."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {
            "component": {
                "type": "machine-learning-model",
                "name": "llm",
                "properties": [
                    {"name": "forge:builder", "value": "openvino"},
                    {"name": "forge:runtime:openvino", "value": "2026.4.1"},
                ],
                "components": [
                    {"type": "file", "name": f"models/llm/1/engine/{name}"}
                    for name in ("LICENSE", "openvino_model.bin", "tokenizer.json")
                ],
            }
        },
        "components": [
            {"type": "library", "name": name, "version": f"{place}.1.0"} | _licence(licence)
            for place, name in enumerate(packages)
            for licence in (licences[place % len(licences)],)
        ],
    }


def _licence(text: str) -> dict[str, Any]:
    if not text:
        return {}
    named = {"expression": text} if " " in text else {"license": {"id": text}}
    return {"licenses": [named]}


def _gate_settings() -> GateSettings:
    thresholds = {"ttft_ms_p50": 500.0, "inter_token_ms_p50": None, "output_tokens_per_s": 20.0,
                  "peak_rss_mib": 900.0, "error_rate": 0.0}  # fmt: skip
    return GateSettings.model_validate({"smoke": {"thresholds": thresholds, "regression_pct": 10}})
