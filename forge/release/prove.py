"""Proofs of a model repository: the SBOM beside it, signed provenance, the signed engine.

Their files and how they are verified: `forge.trust.proofs`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from forge import canonical
from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.files import sha256_file, write_durably
from forge.release.chain import ancestry
from forge.release.keyring import Keyring
from forge.release.provers import build_key, model_key
from forge.steps import Link
from forge.trust.proof_keys import ProofKeys
from forge.trust.proofs import (
    MODEL_SIGNATURE,
    PROVENANCE,
    SBOM,
    engine_folder,
    verify_model_signature,
)
from forge.trust.provenance import (
    PAYLOAD_TYPE,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    TREE_SUBJECT,
    verify_provenance,
)

__all__ = ["prove", "statement"]

BUILD_TYPE: Final = "urn:forge:build-type:pipeline:1"


def prove(
    *,
    repository: Path,
    sbom: Path,
    digests: Mapping[str, str],
    links: Sequence[Link],
    ring: Keyring,
    output: Path,
    profile: str,
) -> dict[str, Any]:
    """Write the three proofs; returns the SHA-256 of each.

    Args:
        repository: the model repository, unpacked.
        sbom: folder with sbom.cdx.json.
        digests: of the inputs; `repository` is the tree that is proved.
        links: every step the repository descends from.
        ring: the build key and the model key.
        output: an empty folder.
        profile: the SKU it was built for.

    Raises:
        ConfigurationError: the chain does not say where the repository came from.
        UsageError: a key is missing.
        TrustError: the keys folder's list of believed keys is damaged, or a key is not what the
            list says.
    """
    engine = engine_folder(repository)
    shutil.copyfile(sbom / SBOM, output / SBOM)
    tree = digests.get("repository", "")
    made = statement(
        tree=tree,
        files=_hashes(repository, engine),
        links=ancestry(links, [tree]),
        profile=profile,
        sbom_sha256=sha256_file(output / SBOM),
    )
    believed = ring.proof_keys()
    envelope = _envelope(made, ring, believed)
    verify_provenance(envelope, believed, tree=tree)
    write_durably(output / PROVENANCE, envelope)
    _sign_model(engine, output / MODEL_SIGNATURE, ring, believed)
    verify_model_signature(output, repository, believed)
    return {name: sha256_file(output / name) for name in (SBOM, PROVENANCE, MODEL_SIGNATURE)}


def statement(
    *,
    tree: str,
    files: Mapping[str, str],
    links: Sequence[Link],
    profile: str,
    sbom_sha256: str,
) -> dict[str, Json]:
    """The in-toto statement; the same chain makes the same bytes.

    Args:
        tree: digest of the repository's tree.
        files: SHA-256 of the engine's files by path in the tree.
        links: the chain that ends with the tree.
        profile: the SKU.
        sbom_sha256: of the SBOM beside it.

    Raises:
        ConfigurationError: no link made the tree.
    """
    maker = next((link for link in links if tree in link.outputs.values()), None)
    if maker is None:
        raise ConfigurationError(
            f"No step of the chain made the repository {tree[:12]}",
            hint="run the pipeline again without --only, so that the chain is whole",
        )
    subjects: list[Json] = [_resource(TREE_SUBJECT, tree)]
    subjects += [_resource(path, digest) for path, digest in sorted(files.items())]
    steps: list[Json] = [
        {"step": link.step, "key": link.key, "runner": link.runner} for link in links
    ]
    finished = max(_finish(link) for link in links)
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"profile": profile},
                "internalParameters": {"steps": steps},
                "resolvedDependencies": _dependencies(links, tree),
            },
            "runDetails": {
                "builder": {"id": f"urn:forge:runner:{quote(maker.runner, safe=':-._')}"},
                "metadata": {
                    "invocationId": maker.key,
                    "startedOn": min(link.started for link in links),
                    "finishedOn": f"{finished:%Y-%m-%dT%H:%M:%SZ}",
                },
                "byproducts": [_resource(SBOM, sbom_sha256)],
            },
        },
    }


def _dependencies(links: Sequence[Link], tree: str) -> list[Json]:
    """Every tree on the way: the checkpoint, the engine, whatever a step took or made."""
    found = {
        f"{link.step}/{name}": digest
        for link in links
        for name, digest in link.outputs.items()
        if digest != tree
    }
    return [_resource(name, digest) for name, digest in sorted(found.items())]


def _resource(name: str, sha256: str) -> dict[str, Json]:
    return {"name": name, "digest": {"sha256": sha256}}


def _finish(link: Link) -> datetime:
    try:
        started = datetime.fromisoformat(link.started)
    except ValueError:
        raise ConfigurationError(f"Step {link.step} has no valid start: {link.started!r}") from None
    return started + timedelta(seconds=link.seconds)


def _hashes(repository: Path, engine: Path) -> dict[str, str]:
    return {
        path.relative_to(repository).as_posix(): sha256_file(path)
        for path in sorted(engine.rglob("*"))
        if path.is_file()
    }


def _envelope(made: Mapping[str, Json], ring: Keyring, believed: ProofKeys) -> bytes:
    from securesystemslib.dsse import Envelope

    envelope = Envelope(canonical.dumps(made), PAYLOAD_TYPE, {})
    envelope.sign(ring.signer(build_key(ring, believed)))
    return canonical.dumps(envelope.to_dict())


def _sign_model(engine: Path, target: Path, ring: Keyring, believed: ProofKeys) -> None:
    from forge.release.model_signer import sign_folder

    sign_folder(engine, target, ring.signer(model_key(ring, believed)))
