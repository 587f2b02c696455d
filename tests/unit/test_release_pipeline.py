"""The shipped pipeline: which profile field reaches which step's key."""

import itertools
import textwrap
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from forge import profiles
from forge.errors import ConfigurationError, UsageError
from forge.plan import Plan
from forge.project import Project
from forge.release.attest.invocation import Invocation
from forge.release.catalog import Catalog
from forge.serving.repository.spec import EmbeddingSpec
from forge.steps import key_of
from forge.store import open_store
from tests.support.signed_checkpoints import key_pair

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = profiles.names(ROOT / "profiles")


def release(tmp_path: Path, *names: str, overrides: tuple[str, ...] = (), **options: str) -> Plan:
    loaded = [profiles.load(name, ROOT / "profiles", overrides=overrides).profile for name in names]
    catalog = Catalog(open_store(str(tmp_path / "store"), cache=tmp_path).objects)
    given: dict[str, object] = {"profiles": loaded, "catalog": catalog, "keys": tmp_path / "keys"}
    given["invocation"] = Invocation(pipeline="release")
    return Project(ROOT).load("release").plan(given, options)


def keys(plan: Plan) -> dict[str, str]:
    """Key of every step if each input had the same bytes: what the settings alone decide."""
    return {
        step.id: key_of(step, dict.fromkeys(step.inputs, "a" * 64)).digest for step in plan.steps
    }


def changed(tmp_path: Path, override: str) -> set[str]:
    before = keys(release(tmp_path, "development"))
    after = keys(release(tmp_path, "development", overrides=(override,)))
    return {step for step in before if before[step] != after.get(step, before[step])}


EFFECT_OF = {
    "serving.kv_cache_fraction=0.5": {"repository@development"},
    "serving.packages=index": {"repository@development"},
    "engine.max_batch_size=7": {"repository@development", "accuracy@development", "publish"},
    "accuracy.kl_mean=0.5": {"accuracy-gate@development"},
    "smoke.requests=9": {"smoke@development"},
    "smoke.thresholds.ttft_ms_p50=1": {"gate@development"},
    "smoke.regression_pct=1": {"gate@development"},
    "requires.memory_mib=4096": {"publish"},
    "thermal.throttle_c=70": {"publish"},
    "thermal.batch_floor=2": {"publish"},
    "power.mode=MAXN": {"smoke@development", "publish"},
    "power.limit_w=70": {"smoke@development", "publish"},
    "power.lock_clocks=true": {"smoke@development", "publish"},
    "description=another": set(),
}


@pytest.mark.parametrize(("override", "steps"), EFFECT_OF.items(), ids=EFFECT_OF)
def test_profile_field_changes_only_the_steps_that_declare_it(
    tmp_path: Path, override: str, steps: set[str]
) -> None:
    assert changed(tmp_path, override) == steps


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_plans_the_whole_chain(tmp_path: Path, name: str) -> None:
    plan = release(tmp_path, name)
    stages = [step.id.split("@")[0] for step in plan.steps]
    assert stages[0] == "checkpoint"
    assert stages[-1] == "publish"
    needed = {
        "engine",
        "text",
        "accuracy",
        "accuracy-gate",
        "repository",
        "smoke",
        "gate",
        "proofs",
    }
    assert needed < set(stages)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_bundle_has_the_packages_of_its_environment_unless_devices_have_an_index(
    tmp_path: Path, name: str
) -> None:
    steps = {step.id for step in release(tmp_path, name).steps}
    environment = profiles.load(name, ROOT / "profiles").profile.serving.environment
    assert (f"packages@{name}" in steps) == (environment is not None)
    without = release(tmp_path, name, overrides=("serving.packages=index",))
    assert {step.id for step in without.steps} == steps - {f"packages@{name}"}


def test_wheels_are_downloaded_by_hash_where_they_run_and_anew_if_the_lock_changes(
    tmp_path: Path,
) -> None:
    step = release(tmp_path, "development").step("packages@development")
    assert {"--require-hashes", "--no-deps", "--only-binary"} < set(step.argv)
    assert step.platform == "linux/amd64"
    assert [one.name for one in step.locks] == ["triton-openvino"]
    repository = release(tmp_path, "development").step("repository@development")
    assert repository.inputs["packages"].step.id == step.id


@pytest.mark.parametrize("shared", ["checkpoint", "huggingface", "onnx"])
def test_forms_of_the_weights_are_one_step_for_all_profiles(tmp_path: Path, shared: str) -> None:
    plan = release(tmp_path, *SHIPPED)
    assert [step.id for step in plan.steps].count(shared) == 1


def test_form_of_the_weights_that_nobody_takes_is_not_made(tmp_path: Path) -> None:
    steps = {step.id for step in release(tmp_path, "development").steps}
    assert steps.isdisjoint({"huggingface", "onnx"})


def test_signature_waits_for_the_comparison_of_text_and_for_the_gate(tmp_path: Path) -> None:
    waits = release(tmp_path, "development").step("proofs@development").inputs
    assert {one.step.id for one in waits.values()} >= {"text@development", "gate@development"}


def test_text_is_compared_with_stored_answers_or_with_transformers(tmp_path: Path) -> None:
    stored = release(tmp_path, "development").step("text")
    assert (stored.environments, stored.inputs) == ((), {})
    other = f"file:/nowhere/x.gguf#sha256={'0' * 64}"
    made = release(tmp_path, "development", model=other).step("text")
    assert [one.name for one in made.environments] == ["transformers"]
    assert made.inputs["checkpoint"].step.id == "huggingface"


def test_checkpoint_without_a_signer_is_known_by_its_url_alone(tmp_path: Path) -> None:
    plan = release(tmp_path, "development")
    step = plan.step("checkpoint")
    assert step.argv[:3] == ("${python}", "-m", "forge.checkpoint")
    assert step.argv[4:] == ("${outputs.checkpoint}",)
    assert (step.outputs, step.sources, step.libraries) == (("checkpoint",), (), {})
    assert "signature" not in plan.step("proofs@development").inputs


def test_signer_is_part_of_the_checkpoints_key_and_of_the_proofs(tmp_path: Path) -> None:
    def planned(model_signer: str) -> Plan:
        return release(tmp_path, "development", model_signer=model_signer)

    key_pair(tmp_path, "first")
    key_pair(tmp_path, "second")
    plans = [planned(signer) for signer in ("", *(f"key:{tmp_path}/{name}.pub" for name in
                                                  ("first", "second")))]  # fmt: skip
    assert len({keys(plan)["checkpoint"] for plan in plans}) == 3
    for plan in plans[1:]:
        step = plan.step("checkpoint")
        code = {source.name for source in step.sources}
        assert {"forge.checkpoint.signature", "trusted"} <= code
        assert "model-signing" in step.libraries
        signature = plan.step("proofs@development").inputs["signature"]
        assert (signature.step, signature.output) == (step, "signature")


def test_signer_that_does_not_exist_exits_3_while_it_is_planned(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.pub cannot be read"):
        release(tmp_path, "development", model_signer="key:none.pub")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_engine_is_asked_with_the_code_that_serves_it(tmp_path: Path, name: str) -> None:
    step = release(tmp_path, name).step(f"text@{name}")
    assert step.inputs["engine"].step.id == f"engine@{name}"
    served = {source.path.name for source in step.sources}
    assert {"text.py", "chat_template.py", "turns.py", "text_answers.py"} <= served


def test_compiling_ahead_of_time_needs_no_gpu_and_measuring_does(tmp_path: Path) -> None:
    plan = release(tmp_path, "rtx-pro-4000-aot")
    assert plan.step("engine@rtx-pro-4000-aot").labels == ()
    assert "gpu-sm120" in plan.step("smoke@rtx-pro-4000-aot").labels


def test_sku_independent_steps_have_equal_keys_for_equal_inputs(tmp_path: Path) -> None:
    plan = release(tmp_path, *SHIPPED)
    found = {
        one.id: (one.environments, one.platform, one.settings["calibration"])
        for one in plan.steps
        if one.id.startswith("sbom@")
    }
    equal = keys(plan)
    for first, second in itertools.combinations(found, 2):
        assert (equal[first] == equal[second]) == (found[first] == found[second])
    assert len({equal[one] for one in found}) < len(found)


def test_planning_runs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    release(tmp_path, *SHIPPED)
    assert not (tmp_path / "store").exists()


EMBEDDING = "file:/models/minilm#sha256=" + "e" * 64


def test_an_embedding_model_is_compiled_compared_and_part_of_the_repository(
    tmp_path: Path,
) -> None:
    plan = release(tmp_path, "development", embedding=EMBEDDING, embedding_name="minilm")
    inputs = plan.step("repository@development").inputs
    assert inputs["embedding"].step.id == "embedding@development"
    assert inputs["embedding-probe"].step.id == "embedding-accuracy@development"
    assert "embedding-accuracy@development" in {
        one.step.id for one in plan.step("proofs@development").inputs.values()
    }
    assert plan.step("embedding-reference").environments[0].name == "transformers"


def test_a_release_without_one_has_the_steps_that_it_had(tmp_path: Path) -> None:
    without = keys(release(tmp_path, "development"))
    with_it = keys(release(tmp_path, "development", embedding=EMBEDDING))
    added = {one for one in with_it if one not in without}
    assert {one.split("@")[0] for one in added} == {
        "embedding", "embedding-accuracy", "embedding-checkpoint", "embedding-reference"
    }  # fmt: skip
    changed_steps = {one for one in without if without[one] != with_it[one]}
    assert changed_steps == {"repository@development", "proofs@development"}


@pytest.mark.parametrize("name", [one for one in SHIPPED if one != "development"])
def test_a_builder_that_compiles_no_embedding_models_refuses_by_name(
    tmp_path: Path, name: str
) -> None:
    builder = profiles.load(name, ROOT / "profiles").profile.engine.builder
    if builder == "openvino":
        pytest.skip("it compiles them")
    with pytest.raises(ConfigurationError, match=f"{builder}.*no embedding") as refused:
        release(tmp_path, name, embedding=EMBEDDING)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize(
    "name",
    ["sentence-transformers/all-MiniLM-L6-v2", "mini lm", "", "-minilm", ".", "ö", "a\n", "a" * 65],
)
def test_a_name_that_clients_cannot_use_is_refused_when_the_plan_is_made(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="name of the embedding model is not valid") as refused:
        release(tmp_path, "development", embedding=EMBEDDING, embedding_name=name)
    assert "--embedding-name" in refused.value.hint


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "0", "a" * 64, "a.b_c-1"])
def test_a_name_is_accepted_by_the_plan_exactly_if_the_bundle_can_hold_it(
    tmp_path: Path, name: str
) -> None:
    assert release(tmp_path, "development", embedding=EMBEDDING, embedding_name=name).steps
    facts = {"dimensions": 1, "max_seq_len": 2, "pooling": "cls", "normalize": True}
    limits = {"model": "embedding", "max_batch_size": 1, "max_inputs": 1}
    assert EmbeddingSpec.model_validate({"name": name, **facts, **limits}).name == name


def test_an_embedding_model_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not pinned"):
        release(tmp_path, "development", embedding="file:/models/minilm")


def test_the_hosted_builder_of_the_how_to_may_make_each_step_of_the_development_profile(
    tmp_path: Path,
) -> None:
    page = (ROOT / "docs" / "how-to" / "sign-results.md").read_text("utf-8")
    block = next(one for one in page.split("```yaml\n")[1:] if "builders:" in one)
    globs = yaml.safe_load(textwrap.dedent(block.partition("```")[0]))["builders"]["hosted"][
        "steps"
    ]
    plan = release(tmp_path, "development", embedding=EMBEDDING)
    left = [
        step.id
        for step in plan.steps
        if not step.effect and not any(fnmatchcase(step.id, glob) for glob in globs)
    ]
    assert left == ["proofs@development"]  # whose maker has the key of the release
