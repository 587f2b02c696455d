"""The predicate of a bundle's provenance: SLSA provenance v1.

https://slsa.dev/spec/v1.1/provenance says what each field means; `docs/explanation/trust.md` which
level is claimed, and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

from google.protobuf.json_format import MessageToDict
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor

import forge
from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.release.attest.invocation import Invocation, SourceCommit
from forge.steps import Link

__all__ = ["BUILD_TYPE", "described", "resource", "slsa_predicate"]

BUILD_TYPE: Final = "urn:forge:build-type:pipeline:2"
_PINNED = re.compile(r"(?P<uri>.+?)(?:#|@)sha256[=:](?P<sha256>[0-9a-f]{64})(?P<rest>.*)")


def slsa_predicate(
    links: Sequence[Link],
    producer: Link,
    *,
    profile: str,
    invocation: Invocation | None,
    byproducts: Mapping[str, str],
) -> dict[str, Json]:
    """Return the predicate; equal arguments give equal predicates.

    Args:
        links: the chain that ends with the repository.
        producer: the link that made the repository.
        profile: the SKU.
        invocation: what the release was planned from; None: a project of an earlier version.
        byproducts: SHA-256 by name.

    Raises:
        ConfigurationError: a start time is not valid.
    """
    finished = max(_finish(link) for link in links)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": _external(profile, invocation),
            "internalParameters": {"steps": [_step(link) for link in links]},
            "resolvedDependencies": _dependencies(links, producer, invocation),
        },
        "runDetails": {
            "builder": {"id": _builder(producer), "version": {"forge": forge.__version__}},
            "metadata": {
                "invocationId": producer.key,
                "startedOn": min(link.started for link in links),
                "finishedOn": f"{finished:%Y-%m-%dT%H:%M:%SZ}",
            },
            "byproducts": [described(name, sha) for name, sha in sorted(byproducts.items())],
        },
    }


def resource(name: str, sha256: str) -> ResourceDescriptor:
    """Return in-toto's descriptor of something with a name and a SHA-256."""
    descriptor = ResourceDescriptor(name=name, digest={"sha256": sha256})
    descriptor.validate()
    return descriptor.pb


def described(name: str, sha256: str) -> dict[str, Json]:
    """Return the same as JSON."""
    found: dict[str, Json] = MessageToDict(resource(name, sha256))
    return found


def _external(profile: str, invocation: Invocation | None) -> dict[str, Json]:
    if invocation is None:
        return {"profile": profile}
    found: dict[str, Json] = {
        "pipeline": invocation.pipeline,
        "parameters": dict(invocation.parameters),
        "profile": profile,
    }
    if invocation.source is not None:
        found["source"] = _source(invocation.source)
    return found


def _source(source: SourceCommit) -> dict[str, Json]:
    kind = "gitCommit"  # in-toto's name, for SHA-1 and SHA-256
    found: dict[str, Json] = {"name": "source", "digest": {kind: source.commit}}
    if source.repository:
        found["uri"] = f"git+{source.repository}"
    if source.modified:
        found["annotations"] = {"modified": True}
    return found


def _step(link: Link) -> dict[str, Json]:
    signed: dict[str, Json] = {"builder": _builder(link)} if link.builder else {}
    return {"step": link.step, "key": link.key, "runner": link.runner, **signed}


def _builder(link: Link) -> str:
    """Return the identity that signed the result, else what the unsigned record states."""
    if link.builder:
        return f"urn:forge:builder:{link.builder}"
    return f"urn:forge:runner:{quote(link.runner, safe=':-._')}"


def _dependencies(
    links: Sequence[Link], producer: Link, invocation: Invocation | None
) -> list[Json]:
    """Return the source, what the steps were given, and every tree that they made on the way."""
    found: list[Json] = []
    if invocation is not None and invocation.source is not None:
        found.append(_source(invocation.source))
    materials = {name: text for link in links for name, text in link.materials.items()}
    found += [_material(name, text) for name, text in sorted(materials.items())]
    found += [described(name, digest) for name, digest in sorted(_trees(links, producer))]
    return found


def _trees(links: Sequence[Link], producer: Link) -> Iterator[tuple[str, str]]:
    made = set(producer.outputs.values())
    for link in links:
        for name, digest in link.outputs.items():
            if digest not in made:
                yield f"{link.step}/{name}", digest


def _material(name: str, text: str) -> dict[str, Json]:
    """Return a dependency that is named by a digest, or by a URI that may be pinned by one."""
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return described(name, text)
    pinned = _PINNED.fullmatch(text)
    if pinned is None:
        return {"name": name, "uri": text}
    return {"name": name, "uri": pinned["uri"], "digest": {"sha256": pinned["sha256"]}}


def _finish(link: Link) -> datetime:
    try:
        started = datetime.fromisoformat(link.started)
    except ValueError:
        raise ConfigurationError(
            f"The start time of step {link.step} is not valid: {link.started!r}"
        ) from None
    return started + timedelta(seconds=link.seconds)
