"""Proofs of a model repository: SBOM, signed provenance and the signature of the engine.

`forge.trust.proofs` defines their files and verifies them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from in_toto_attestation.v1.statement import Statement

from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.files import sha256_file, write_durably
from forge.release.attest.invocation import Invocation
from forge.release.attest.lineage import ancestry
from forge.release.attest.predicates import signed_statement
from forge.release.attest.signing_keys import model_key
from forge.release.attest.slsa import resource, slsa_predicate
from forge.release.keys.keyring import Keyring
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
    PREDICATE_TYPE,
    TREE_SUBJECT,
    verify_provenance,
)

__all__ = ["prove", "statement"]


def prove(  # noqa: PLR0913  each is a document that the proofs are made of
    *,
    repository: Path,
    sbom: Path,
    digests: Mapping[str, str],
    links: Sequence[Link],
    keyring: Keyring,
    output: Path,
    profile: str,
    invocation: Invocation | None = None,
) -> dict[str, Any]:
    """Write the three proofs of a model repository.

    Args:
        repository: the unpacked model repository.
        sbom: folder with sbom.cdx.json.
        digests: tree digest by input name; `repository` is the tree of the model repository.
        links: every step that the repository was built by.
        keyring: holds the build key and the model key.
        output: an empty folder.
        profile: the SKU that the repository was built for.
        invocation: what the release was planned from; None: not known.

    Returns:
        SHA-256 of each proof, by file name.

    Raises:
        ConfigurationError: the chain does not contain the step that built the repository.
        UsageError: a private key is missing, or does not belong to its entry in keys.json.
        TrustError: the list of trusted keys in the keys folder is damaged, or a proof is not valid
            under it.
    """
    engine = engine_folder(repository)
    shutil.copyfile(sbom / SBOM, output / SBOM)
    tree = digests.get("repository", "")
    provenance = statement(
        tree=tree,
        files=_hashes(repository, engine),
        links=ancestry(links, [tree]),
        profile=profile,
        sbom_sha256=sha256_file(output / SBOM),
        invocation=invocation,
    )
    trusted = keyring.proof_keys()
    envelope = signed_statement(provenance, keyring)
    verify_provenance(envelope, trusted, tree=tree)
    write_durably(output / PROVENANCE, envelope)
    _sign_model(engine, output / MODEL_SIGNATURE, keyring, trusted)
    verify_model_signature(output, repository, trusted)
    return {name: sha256_file(output / name) for name in (SBOM, PROVENANCE, MODEL_SIGNATURE)}


def statement(
    *,
    tree: str,
    files: Mapping[str, str],
    links: Sequence[Link],
    profile: str,
    sbom_sha256: str,
    invocation: Invocation | None = None,
) -> dict[str, Json]:
    """Return the in-toto statement with SLSA provenance; equal chains give equal bytes.

    Args:
        tree: digest of the repository's tree.
        files: SHA-256 of the engine's files by path in the tree.
        links: the chain that ends with the tree.
        profile: the SKU.
        sbom_sha256: SHA-256 of the SBOM.
        invocation: what the release was planned from; None: not known.

    Raises:
        ConfigurationError: no link produced the tree, or a start time is not valid.
    """
    producer = next((link for link in links if tree in link.outputs.values()), None)
    if producer is None:
        raise ConfigurationError(
            f"No step of the chain produced the repository {tree[:12]}",
            hint="run the pipeline again without --only, so that the chain is complete",
        )
    subjects = [resource(TREE_SUBJECT, tree)]
    subjects += [resource(path, digest) for path, digest in sorted(files.items())]
    predicate = slsa_predicate(
        links,
        producer,
        profile=profile,
        invocation=invocation,
        byproducts={SBOM: sbom_sha256},
    )
    attestation = Statement(subjects, PREDICATE_TYPE, predicate)
    attestation.validate()
    written: dict[str, Json] = MessageToDict(attestation.pb)
    return written


def _hashes(repository: Path, engine: Path) -> dict[str, str]:
    return {
        path.relative_to(repository).as_posix(): sha256_file(path)
        for path in sorted(engine.rglob("*"))
        if path.is_file()
    }


def _sign_model(engine: Path, target: Path, keyring: Keyring, trusted: ProofKeys) -> None:
    from forge.release.attest.model_signer import sign_folder

    sign_folder(engine, target, keyring.signer(model_key(keyring, trusted)))
