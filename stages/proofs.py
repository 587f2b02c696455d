"""What a device and an auditor need to believe a bundle: SBOM, provenance, model signature."""

from importlib.metadata import version
from pathlib import Path

import forge.release
from forge.canonical import Json, digest
from forge.profiles import Profile
from forge.release.keyring import Keyring
from forge.steps import Artifact, Step, sources
from stages import KEY_SECRETS

SOURCES = Path(forge.release.__path__[0])


def sbom(profile: Profile, repository: Artifact) -> Artifact:
    """CycloneDX document of what the repository holds and serves with."""
    step = Step(
        id=f"sbom@{profile.name}",
        argv=(
            "${python}", "-m", "forge.release", "sbom",
            "--repository", "${inputs.repository}",
            "--output", "${outputs.sbom}",
        ),
        inputs={"repository": repository},
        outputs=("sbom",),
        sources=sources(SOURCES),
        libraries={"cyclonedx-python-lib": version("cyclonedx-python-lib")},
    )  # fmt: skip
    return step["sbom"]


def sign(
    profile: Profile, repository: Artifact, sbom: Artifact, verdict: Artifact, keys: Path
) -> Artifact:
    """SBOM, signed provenance and signed model; needs the gate's verdict, so it comes after it."""
    step = Step(
        id=f"proofs@{profile.name}",
        argv=(
            "${python}", "-m", "forge.release", "prove",
            "--repository", "${inputs.repository}",
            "--sbom", "${inputs.sbom}",
            "--digests", "${digests}",
            "--chain", "${chain}",
            "--settings", "${settings}",
            "--keys", "${keys}",
            "--output", "${outputs.proofs}",
        ),
        inputs={"repository": repository, "sbom": sbom, "verdict": verdict},
        references=frozenset({"verdict"}),
        outputs=("proofs",),
        settings={"profile": profile.name, "signers": _signers(keys)},
        sources=sources(SOURCES),
        libraries={name: version(name) for name in ("model-signing", "securesystemslib")},
        secrets=KEY_SECRETS,
    )  # fmt: skip
    return step["proofs"]


def _signers(keys: Path) -> list[Json]:
    """Ids of the keys that devices believe, so that a rotated or revoked key is proved anew."""
    if not (keys / "keys.json").is_file():
        return []  # planning needs no keys; signing says how to make them
    believed = Keyring(keys, passphrase=str).proof_keys()
    return [*(key.keyid for key in believed.build), *(digest(pem) for pem in believed.model)]
