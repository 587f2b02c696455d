"""The predicate of the provenance, read by in-toto's own types of SLSA provenance v1.

These are generated from the specification's schema and refuse a field that it does not have.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor

import forge
from forge.release.attest.invocation import Invocation, SourceCommit
from forge.release.attest.slsa import slsa_predicate
from forge.steps import Link

AT, COMMIT = "2026-11-24T04:00:00Z", "ab" * 20
CHECKPOINT = "pypi:llm==0.1?path=x.gguf"
LINKS = (
    Link("checkpoint", "1" * 64, {}, {"checkpoint": "a" * 64}, 1.0, AT, "local x", "hosted",
         {"download of checkpoint": f"{CHECKPOINT}#sha256={'5' * 64}&architecture=llama"}),
    Link("engine@x", "2" * 64, {"c": "a" * 64}, {"engine": "b" * 64}, 9.0, AT, "local x", "gpu",
         {"dockerfiles/openvino/requirements.lock": "6" * 64,
          "image of engine@x": f"nvcr.io/nvidia/tritonserver@sha256:{'7' * 64}"}),
    Link("repository@x", "3" * 64, {"e": "b" * 64}, {"repository": "d" * 64}, 1.0, AT, "local x",
         "hosted"),
)  # fmt: skip
SOURCE = SourceCommit(repository="https://host/owner/name", commit=COMMIT, modified=False)
INVOCATION = Invocation(
    pipeline="release", parameters={"version": "1.2.0", "fast": True, "n": 3}, source=SOURCE
)


def made(invocation: Invocation | None = INVOCATION, links: tuple[Link, ...] = LINKS) -> Any:
    return slsa_predicate(
        links, links[-1], profile="x", invocation=invocation, byproducts={"sbom": "9" * 64}
    )


def parsed(document: Any) -> Any:
    return ParseDict(document, provenance_pb2.Provenance())


NO_REMOTE = SOURCE.model_copy(update={"repository": "", "modified": True})
CASES = {
    "all": INVOCATION,
    "earlier project": None,
    "no checkout": Invocation(pipeline="p"),
    "modified, no remote": Invocation(pipeline="p", source=NO_REMOTE),
}


@pytest.mark.parametrize("invocation", CASES.values(), ids=CASES)
@pytest.mark.parametrize("signed", [True, False])
def test_predicate_follows_the_schema_of_slsa(
    invocation: Invocation | None, *, signed: bool
) -> None:
    unsigned = tuple(
        Link(
            *(
                getattr(one, name)
                for name in ("step", "key", "inputs", "outputs", "seconds", "started", "runner")
            )
        )
        for one in LINKS
    )
    document = made(invocation, LINKS if signed else unsigned)
    message = parsed(document)
    assert MessageToDict(message) == document
    # What the specification requires, beyond the types.
    assert re.match(r"[a-z]+:", message.build_definition.build_type)
    assert message.build_definition.external_parameters
    assert re.match(r"[a-z]+:", message.run_details.builder.id)
    for one in [*message.build_definition.resolved_dependencies, *message.run_details.byproducts]:
        ResourceDescriptor.copy_from_pb(one).validate()
        assert one.uri or one.digest
    metadata = message.run_details.metadata
    assert metadata.started_on.ToDatetime() <= metadata.finished_on.ToDatetime()


def test_types_refuse_what_the_schema_does_not_have() -> None:
    document = made()
    document["buildDefinition"]["commit"] = COMMIT
    with pytest.raises(ParseError):
        parsed(document)


def test_source_commit_pipeline_and_parameters_are_stated() -> None:
    definition = made()["buildDefinition"]
    source = {
        "name": "source", "uri": "git+https://host/owner/name", "digest": {"gitCommit": COMMIT}
    }  # fmt: skip
    assert definition["externalParameters"] == {
        "pipeline": "release",
        "parameters": {"version": "1.2.0", "fast": True, "n": 3},
        "profile": "x",
        "source": source,
    }
    assert definition["resolvedDependencies"][0] == source


def test_checkout_that_was_changed_is_not_presented_as_its_commit() -> None:
    source = made(CASES["modified, no remote"])["buildDefinition"]["externalParameters"]["source"]
    assert source["annotations"] == {"modified": True}
    assert "uri" not in source


def test_checkpoint_locks_and_images_are_dependencies() -> None:
    found = {one["name"]: one for one in made()["buildDefinition"]["resolvedDependencies"]}
    assert found["download of checkpoint"]["uri"] == CHECKPOINT
    assert found["download of checkpoint"]["digest"] == {"sha256": "5" * 64}
    assert found["dockerfiles/openvino/requirements.lock"]["digest"] == {"sha256": "6" * 64}
    assert found["image of engine@x"]["uri"] == "nvcr.io/nvidia/tritonserver"
    assert found["image of engine@x"]["digest"] == {"sha256": "7" * 64}
    assert found["engine@x/engine"]["digest"] == {"sha256": "b" * 64}
    assert "repository@x/repository" not in found


def test_builder_is_the_one_whose_signature_was_verified() -> None:
    predicate = made()
    assert predicate["runDetails"]["builder"] == {
        "id": "urn:forge:builder:hosted", "version": {"forge": forge.__version__}
    }  # fmt: skip
    steps = predicate["buildDefinition"]["internalParameters"]["steps"]
    assert [one["builder"] for one in steps] == [
        f"urn:forge:builder:{name}" for name in ("hosted", "gpu", "hosted")
    ]
