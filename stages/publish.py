"""Publishing: one manifest per SKU, one version, one channel, by one signed metadata update."""

from collections.abc import Sequence
from dataclasses import dataclass

from forge.bundle import check_name, check_version
from forge.canonical import Json
from forge.closure import sources_of
from forge.memory import ServedMemory
from forge.memory.signed import encode_served_memory
from forge.plan import Plan
from forge.profiles import Profile, select
from forge.steps import Artifact, Step
from stages import KEY_SECRETS, STORE_SECRETS

READS = (
    "name",
    "platform",
    "hardware.match",
    "hardware.compute_capability",
    "requires",
    "power",
    "thermal",
    "serving.activation",
    "serving.start_timeout_s",
)


@dataclass(frozen=True)
class Part:
    """The parts of a bundle for one SKU."""

    profile: Profile
    repository: Artifact
    result: Artifact
    proofs: Artifact
    memory: ServedMemory | None = None


def bundle(name: str, version: str, channel: str, parts: Sequence[Part]) -> Plan:
    """Return the plan that publishes `version` of bundle `name` on `channel`."""
    inputs: dict[str, Artifact] = {}
    requests: list[Json] = []
    for part in parts:
        artifacts = {"repository": part.repository, "smoke": part.result, "proofs": part.proofs}
        names = {use: f"{use}-{part.profile.name}" for use in artifacts}
        inputs |= {names[use]: artifact for use, artifact in artifacts.items()}
        request: dict[str, Json] = {"profile": select(part.profile, READS), "inputs": dict(names)}
        if part.memory is not None:
            request["memory"] = encode_served_memory(part.memory)
        requests.append(request)
    step = Step(
        id="publish",
        argv=(
            "${python}", "-m", "forge.release.steps.publish",
            "--store", "${store}",
            "--keys", "${keys}",
            "--request", "${settings}",
            "--digests", "${digests}",
            "--chain", "${chain}",
        ),
        inputs=inputs,
        references=frozenset(inputs),
        settings={
            "name": check_name(name, "Bundle name"),
            "version": check_version(version),
            "channel": check_name(channel, "Channel"),
            "parts": requests,
        },
        sources=sources_of("forge.release.steps.publish"),
        secrets=tuple(dict.fromkeys((*KEY_SECRETS, *STORE_SECRETS))),
        effect=True,
    )  # fmt: skip
    return Plan.of("release", [], [step])
