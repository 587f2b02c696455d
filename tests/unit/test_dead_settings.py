"""A setting that nothing would obey is refused; what a backend declares is what its code reads."""

import ast
from pathlib import Path

import pytest

from forge import builders, dead_settings, profiles
from forge.cli import main
from forge.errors import ConfigurationError
from forge.profiles import EngineSection, Profile, RuntimeSection
from forge.serving.repository import render

ROOT = Path(__file__).resolve().parents[2]
# A parameter of config.pbtxt, which the template's Limits have by its name, and its field.
LIMITS = {
    **{name: f"engine.{name}" for name in EngineSection.model_fields},
    **{name: f"serving.{name}" for name in (*RuntimeSection.model_fields, "default_max_tokens")},
}
# Written by a template's own config.pbtxt, and no setting of a profile.
OWN = {"execution_provider"}


def check(name: str, *overrides: str, folder: Path = ROOT / "profiles") -> None:
    dead_settings.check(profiles.load(name, folder, overrides=overrides))


def attributes(source: bytes, *owners: str) -> set[str]:
    """Names read of an object: `limits.x`, `self.limits.x`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            found |= {node.attr} if name in owners else set()
    return found


@pytest.mark.parametrize("name", builders.names())
def test_backend_declares_exactly_the_settings_that_its_code_reads(name: str) -> None:
    builder = builders.load(name)
    template = render._sources(name).values()
    found = {field for source in template for field in attributes(source, "limits")}
    read = {LIMITS[field] for field in found - OWN}
    module = Path(str(getattr(builder, "__file__", ""))).read_bytes()
    engine = attributes(module, "engine", "limits") - {"builder", "precision"}
    read |= {f"engine.{field}" for field in engine}
    assert set(builder.SETTINGS) == read


def test_every_field_of_engine_and_serving_is_obeyed_by_a_backend_or_read_for_all() -> None:
    fields = {
        f"{section}.{field}"
        for section in ("engine", "serving")
        for field in Profile.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    }
    obeyed = {field for name in builders.names() for field in builders.load(name).SETTINGS}
    assert obeyed | dead_settings._COMMON == fields


@pytest.mark.parametrize("name", profiles.names(ROOT / "profiles"))
def test_shipped_profile_sets_nothing_in_vain(name: str) -> None:
    check(name)


DEAD = {
    "development": (
        "serving.kv_cache_fraction=0.5", "engine.build_on=device", "engine.mode=llmapi",
        "serving.image=x:1", "power.limit_w=70", "power.mode=MAXN", "power.lock_clocks=true",
    ),
    "rtx-pro-4000": (
        "serving.kv_cache_mib=100", "engine.build_on=runner", "serving.environment=triton",
        "serving.packages=index", "power.mode=MAXN",
    ),
    "rtx-pro-4000-aot": ("serving.kv_cache_fraction=0.3", "engine.mode=engine"),
    "jetson-agx-thor": (
        "serving.kv_cache_mib=100", "serving.kv_cache_fraction=0.3", "power.limit_w=70",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "override"), [(name, one) for name, overrides in DEAD.items() for one in overrides]
)
def test_setting_that_nothing_obeys_is_refused_with_its_name_and_place(
    name: str, override: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(name, override)
    assert override.partition("=")[0] in str(caught.value)
    assert f"--set {override}" in str(caught.value)


ALIVE = {
    "development": (
        "serving.kv_cache_mib=100",
        "serving.kv_cache_mib=null",
        "engine.max_seq_len=9",
    ),
    "rtx-pro-4000": ("serving.kv_cache_fraction=0.5", "engine.mode=llmapi", "power.limit_w=70"),
    "jetson-agx-thor": ("engine.build_on=runner", "power.mode=90W", "power.lock_clocks=true"),
    "tesla-p40": ("power.limit_w=150",),
}


@pytest.mark.parametrize(
    ("name", "override"), [(name, one) for name, overrides in ALIVE.items() for one in overrides]
)
def test_setting_that_is_obeyed_is_taken(name: str, override: str) -> None:
    check(name, override)


def test_refusal_names_the_backends_that_obey() -> None:
    with pytest.raises(ConfigurationError, match="builder openvino does not obey") as caught:
        check("development", "serving.kv_cache_fraction=0.5")
    assert "tensorrt-llm" in caught.value.why
    assert "serving.kv_cache_mib" in caught.value.hint


@pytest.mark.parametrize(
    ("child", "refused"),
    [
        ("extends: middle\n", True),  # the parent chose the builder that cannot obey its setting
        ("extends: middle\nengine: {builder: tensorrt-llm}\n", False),
        ("extends: top\nengine: {builder: openvino}\n", False),  # set for the parent's own builder
        ("extends: top\nengine: {builder: openvino}\nserving: {kv_cache_fraction: 0.4}\n", True),
    ],
)
def test_parents_setting_is_for_the_builder_that_the_parent_chose(
    tmp_path: Path, child: str, *, refused: bool
) -> None:
    for name in ("defaults", "rtx-pro-4000", "development"):
        (tmp_path / f"{name}.yaml").write_text((ROOT / f"profiles/{name}.yaml").read_text())
    (tmp_path / "top.yaml").write_text("extends: rtx-pro-4000\n")
    fraction = "serving: {kv_cache_fraction: 0.4}\n"
    (tmp_path / "middle.yaml").write_text(f"extends: development\n{fraction}")
    (tmp_path / "child.yaml").write_text(child)
    if refused:
        with pytest.raises(ConfigurationError, match="kv_cache_fraction"):
            check("child", folder=tmp_path)
    else:
        check("child", folder=tmp_path)


def test_builder_of_a_projects_own_obeys_what_its_stage_says() -> None:
    check("development", "engine.builder=my-own", "serving.kv_cache_fraction=0.5")


def test_plan_ends_with_3_before_anything_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "release", "--profile", "development", "--project", str(ROOT)]
    assert main([*words, "--set", "serving.kv_cache_fraction=0.5"]) == 3
    printed = capsys.readouterr()
    assert "serving.kv_cache_fraction" in printed.err
    assert printed.out == ""
