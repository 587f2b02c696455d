"""The proofs that devices and auditors verify: SBOM, provenance, model signature."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forge.builders.calibration import calibration_set
from forge.canonical import Json, digest
from forge.checkpoint import url as checkpoint_url
from forge.closure import sources_of
from forge.extras import versions
from forge.files import sha256_file
from forge.profiles import Profile
from forge.release.attest.invocation import Invocation
from forge.release.attest.model_facts import BaseModelFacts, Calibration, SbomSettings
from forge.release.keys.keyring import Keyring
from forge.steps import Artifact, Step, locked
from stages import DOCKERFILES, KEY_SECRETS


def sbom(profile: Profile, repository: Artifact, model: str = "") -> Artifact:
    """Plan the CycloneDX SBOM of a model repository and its serving environment.

    Args:
        profile: the device SKU.
        repository: its model repository.
        model: URL of the checkpoint, the base model; empty: not known.
    """
    name = profile.serving.environment if profile.serving.server == "environment" else None
    installed = ("--environment", "${tools." + name + "}") if name else ()
    step = Step(
        id=f"sbom@{profile.name}",
        argv=(
            "${python}", "-m", "forge.release.steps.sbom",
            "--repository", "${inputs.repository}",
            *installed,
            "--settings", "${settings}",
            "--output", "${outputs.sbom}",
        ),
        inputs={"repository": repository},
        outputs=("sbom",),
        settings=_described(profile, model),
        environments=(locked(DOCKERFILES / name),) if name else (),
        sources=sources_of("forge.release.steps.sbom"),
        libraries=versions("build", "cyclonedx-python-lib"),
        platform=profile.platform if name else None,
    )  # fmt: skip
    return step["sbom"]


def _described(profile: Profile, model: str) -> dict[str, Json]:
    """Return what the SBOM says of the base model and of the quantisation."""
    described = SbomSettings(
        base=_base_model(checkpoint_url.parse(model)) if model else None,
        calibration=_calibration(calibration_set(profile)),
    )
    found: dict[str, Json] = described.model_dump(mode="json")
    return found


def _base_model(checkpoint: checkpoint_url.Checkpoint) -> BaseModelFacts:
    # A path of this machine says nothing elsewhere, and would make two keys of one model.
    source = checkpoint.source
    return BaseModelFacts(
        scheme=checkpoint.scheme,
        source=Path(source).name if checkpoint.scheme == "file" else source,
        sha256=checkpoint.sha256,
        licence=checkpoint.licence,
        architecture=checkpoint.architecture,
        quantisation=checkpoint.facts.quantisation,
    )


def _calibration(texts: Path | None) -> Calibration | None:
    return None if texts is None else Calibration(name=texts.name, sha256=sha256_file(texts))


@dataclass(frozen=True)
class Measured:
    """What was measured of a bundle and verified of its checkpoint, and is signed with it.

    Attributes:
        result: of the smoke benchmark.
        receipt: of the engine's accuracy.
        signature: of the checkpoint; None: no signer was named.
    """

    result: Artifact
    receipt: Artifact
    signature: Artifact | None = None


def sign(
    profile: Profile,
    repository: Artifact,
    sbom: Artifact,
    verdicts: Sequence[Artifact],
    measured: Measured,
    keys: Path,
    invocation: Invocation | None = None,
) -> Artifact:
    """Plan the signed provenance, model signature and measurements, after all gates.

    Args:
        profile: the device SKU.
        repository: its model repository.
        sbom: from `sbom`.
        verdicts: outputs of the steps that must have passed.
        measured: what is signed with the repository.
        keys: folder of the signing keys.
        invocation: what the release is planned from, for the provenance.
    """
    passed = {f"{one.step.id.partition('@')[0]}-verdict": one for one in verdicts}
    signed = {} if measured.signature is None else {"signature": measured.signature}
    more = ("--checkpoint-signature", "${inputs.signature}") if signed else ()
    step = Step(
        id=f"proofs@{profile.name}",
        argv=(
            "${python}", "-m", "forge.release.steps.prove",
            "--repository", "${inputs.repository}",
            "--sbom", "${inputs.sbom}",
            "--measured", "${inputs.result}",
            "--accuracy", "${inputs.receipt}",
            "--digests", "${digests}",
            "--chain", "${chain}",
            "--settings", "${settings}",
            "--keys", "${keys}",
            *more,
            "--output", "${outputs.proofs}",
        ),
        inputs={
            "repository": repository,
            "sbom": sbom,
            **passed,
            "result": measured.result,
            "receipt": measured.receipt,
            **signed,
        },
        references=frozenset(passed),
        outputs=("proofs",),
        settings={
            "profile": profile.name,
            "signers": _signers(keys),
            "invocation": invocation.model_dump(mode="json") if invocation else None,
        },
        sources=sources_of("forge.release.steps.prove"),
        libraries=versions("build", "model-signing", "securesystemslib"),
        secrets=KEY_SECRETS,
    )  # fmt: skip
    return step["proofs"]


def _signers(keys: Path) -> list[Json]:
    """Return the ids of the trusted keys, so that a key rotation makes new proofs."""
    if not (keys / "keys.json").is_file():
        return []  # planning does not require keys; signing reports missing ones
    trusted = Keyring(keys, passphrase=str).proof_keys()
    return [*(key.keyid for key in trusted.build), *(digest(pem) for pem in trusted.model)]
