"""What a step is made of: imports followed, comments left out, data files declared."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forge import closure, profiles
from forge.canonical import sha256
from forge.closure import sources_of
from forge.errors import ConfigurationError
from forge.images.documents import PlatformImage, sbom_file
from forge.project import Project
from forge.release.attest.invocation import Invocation
from forge.release.catalog import Catalog
from forge.serving.repository.spec import write_spec
from forge.steps import key_of
from forge.store import open_store
from tests.support.loads import PACKAGE, outside_of_closure, watched
from tests.support.receipts import PROFILE, receipt
from tests.support.serving import profile_fields
from tests.support.smoke_results import result
from tests.support.spec import a_spec

ROOT = PACKAGE.parent
# Every module that a stage runs with `python -m`, found where they are.
ENTRIES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in PACKAGE.glob("*/steps/*.py")
    if path.stem not in {"__init__", "common"}
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Writes modules of a package named forge, in which closures are then found."""
    root = tmp_path / "forge"

    def write(**files: str) -> Path:
        closure.clear_cache()
        for name, text in {"__init__": "", **files}.items():
            path = root / (name.replace("__", "/") if not name.startswith("__") else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f"{path.name}.py").write_text(text)
        return root

    monkeypatch.setattr(closure, "_ROOT", root)
    yield write
    closure.clear_cache()


def names(module: str, **fill: str) -> list[str]:
    return [source.name for source in sources_of(module, **fill)]


def digest(module: str) -> str:
    return next(source.sha256 for source in sources_of(module) if source.name == module)


def packages(root: Path, *folders: str) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "__init__.py").touch()


def test_imports_are_followed_in_functions_and_through_every_package(
    package: Callable[..., Path],
) -> None:
    root = package(
        start="import json\ndef main():\n    from forge.store.disk import read\n",
        store__disk="from .paths import join",
        store__paths="",
        store__unused="",
    )
    packages(root, "store")
    (root / "store/__init__.py").write_text("from forge import errors")
    (root / "errors.py").write_text("")
    assert names("forge.start") == [
        "forge", "forge.errors", "forge.start", "forge.store", "forge.store.disk",
        "forge.store.paths",
    ]  # fmt: skip


def test_import_for_the_type_checker_alone_never_runs_and_does_not_count(
    package: Callable[..., Path],
) -> None:
    text = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {}\nelse:\n    import forge.b\n"
    )
    package(a=text.format("import forge.c"), b="", c="")
    assert names("forge.a") == ["forge", "forge.a", "forge.b"]
    before = digest("forge.a")
    package(a=text.format("import forge.d"))
    assert digest("forge.a") == before


SOURCE = '''"""A module."""

def first(x: int) -> str:
    """Return it."""
    return f"{x:{5}}" + 'a'
'''


@pytest.mark.parametrize(
    "same",
    [
        SOURCE.replace("def", "# a comment\n\n\ndef"),
        SOURCE.replace("Return it.", "Return something else."),
        SOURCE.replace('"""A module."""', ""),
        SOURCE.replace("'a'", '"a"').replace(" + ", "  +  "),
    ],
    ids=["comment", "docstring", "no docstring", "layout"],
)
def test_what_does_not_run_does_not_count(package: Callable[..., Path], same: str) -> None:
    package(a=SOURCE)
    before = digest("forge.a")
    package(a=same)
    assert digest("forge.a") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'a'", "'b'"),
        ("'a'", "''"),
        ("'a'", "b'a'"),
        ("'a'", "None"),
        ("x: int", "x: str"),
        ("x: int", "x: int = 0"),
        ("x: int", "*x: int"),
        ("first", "second"),
        ("{5}", "{6}"),
        ("return", "print(1); return"),
        ("def first", "@cached\ndef first"),
    ],
)
def test_every_change_that_runs_counts(package: Callable[..., Path], old: str, new: str) -> None:
    package(a=SOURCE)
    before = digest("forge.a")
    package(a=SOURCE.replace(old, new))
    assert digest("forge.a") != before


def test_digest_is_the_same_on_every_python(package: Callable[..., Path]) -> None:
    package(a=SOURCE)
    assert digest("forge.a") == "08b4f465bea453ebb3b2616f566285f06475b924e4603f37387e51f271c1457e"


def test_lazy_package_counts_only_the_submodule_of_the_name_that_is_imported(
    package: Callable[..., Path],
) -> None:
    lazy = '_MODULES = {"Store": "store", "Tree": "deep.trees"}\ndef __getattr__(name):\n    '
    lazy += "return getattr(import_module(_MODULES[name]), name)\n"
    root = package(one="from forge.lazy import Tree", all="import forge.lazy\nforge.lazy.Store")
    packages(root, "lazy", "lazy/deep")
    (root / "lazy/__init__.py").write_text(lazy)
    (root / "lazy/store.py").write_text("")
    (root / "lazy/deep/trees.py").write_text("")
    one = ["forge", "forge.lazy", "forge.lazy.deep", "forge.lazy.deep.trees", "forge.one"]
    assert names("forge.one") == one
    assert "forge.lazy.store" in names("forge.all")
    assert "forge.lazy.deep.trees" in names("forge.all")


def test_data_files_count_by_their_bytes_and_only_those_of_the_case(
    package: Callable[..., Path],
) -> None:
    root = package(a='DATA_FILES = ("templates/{kind}/*", "templates/shared/*")\nx = __file__\n')
    for name in ("one/model.py", "two/model.py", "shared/base.j2"):
        (root / "templates" / name).parent.mkdir(parents=True)
        (root / "templates" / name).write_text("# text\n")
    base, one = "forge/templates/shared/base.j2", "forge/templates/one/model.py"
    assert names("forge.a", kind="one")[2:] == [one, base]
    assert len(names("forge.a")) == 5
    before = sources_of("forge.a", kind="one")
    closure.clear_cache()
    (root / "templates/one/model.py").write_text("# another\n")
    after = sources_of("forge.a", kind="one")
    assert [old.name for old, new in zip(before, after, strict=True) if old != new] == [one]


def test_script_that_is_a_module_is_followed_as_one(package: Callable[..., Path]) -> None:
    package(a='DATA_FILES = ("b.py",)\nx = __file__\n', b="import forge.c", c="")
    assert names("forge.a") == ["forge", "forge.a", "forge.b", "forge.c"]


def test_version_counts_only_where_it_is_read(package: Callable[..., Path]) -> None:
    version = '__version__ = "1"\n'
    package(
        __init__=version, a="import forge", b="from forge import __version__", c="import forge.b"
    )
    before = {name: sources_of(name) for name in ("forge.a", "forge.b", "forge.c")}
    package(__init__=version.replace("1", "2"))
    changed = {name for name, sources in before.items() if sources_of(name) != sources}
    assert changed == {"forge.b", "forge.c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import forge.nothing", "forge.nothing"),
        (
            "from importlib import resources\nx = resources.files(__name__)",
            "declare its data files",
        ),
        ("x = __file__", "declare its data files"),
        ('DATA_FILES = ("none.json",)\nx = __file__', "none.json"),
        ("from importlib import import_module\nimport_module(f'forge.{x}')", "it computes"),
        ("def broken(:", "cannot be read"),
    ],
)
def test_module_that_cannot_be_followed_is_refused(
    package: Callable[..., Path], text: str, message: str
) -> None:
    package(a=text)
    with pytest.raises(ConfigurationError, match=message):
        sources_of("forge.a")


# --- The release pipeline ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def edit(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., set[str]]:
    """Edits a copy of Forge for a moment; returns the steps of a release with other keys."""
    folder = tmp_path_factory.mktemp("edit")
    copy = folder / "forge"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    catalog = Catalog(open_store(str(folder / "store"), cache=folder).objects)
    profile = profiles.load("development", ROOT / "profiles").profile
    given = {
        "profiles": [profile],
        "catalog": catalog,
        "keys": folder / "keys",
        "invocation": Invocation(pipeline="release"),
    }
    pipeline = Project(ROOT).load("release")

    def keys() -> dict[str, str]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(closure, "_ROOT", copy)
            closure.clear_cache()
            steps = pipeline.plan(given, {}).steps
        closure.clear_cache()
        return {one.id: key_of(one, dict.fromkeys(one.inputs, "a" * 64)).digest for one in steps}

    before = keys()

    def change(path: str, old: str, new: str) -> set[str]:
        text = (copy / path).read_text()
        assert old in text
        (copy / path).write_text(text.replace(old, new, 1))
        after = keys()
        (copy / path).write_text(text)
        return {step.partition("@")[0] for step in before if before[step] != after[step]}

    assert change("__init__.py", "", "") == set(), "equal files give equal keys"
    return change


OURS = {"repository", "smoke", "gate", "sbom", "proofs", "publish"}  # all that runs Forge's code
EDITS = {
    "a comment in the client": ("serving/triton/client.py", "def ", "# A comment.\ndef ", set()),
    "a docstring in the client": ("serving/triton/client.py", '"""', '"""Another text. ', set()),
    "the client": ("serving/triton/client.py", "import time", "import time, json", {"smoke"}),
    "the gateway's pool": ("serving/triton/http_pool.py", "import asyncio", "import os, asyncio", set()),  # noqa: E501
    "link_or_copy": (
        "files.py", "def link_or_copy(", "def link_or_copy(other: int = 0, *,",
        {*OURS, "accuracy-gate"},
    ),
    "the provenance": (
        "trust/provenance.py", "from __future__", "X = 1\nfrom __future__",
        {"sbom", "proofs", "publish"},
    ),
    "the profile's sections": (
        "profiles/sections.py", "ge=1, le=1024", "ge=1, le=1025", {*OURS, "accuracy-gate"},
    ),
    "the builder's template": (
        "serving/repository/templates/openvino/model.py", "import os", "import os  # here", {"repository"},  # noqa: E501
    ),
    "another builder's template": (
        "serving/repository/templates/tensorrt-llm/model.py", "import os", "import json, os", set(),
    ),
    "the supervisor of Triton": ("serving/triton/supervisor.py", "import os", "import os, re", {"smoke"}),  # noqa: E501
    "the golden prompts": ("smoke/prompts/default.json", "[", "[ ", {"smoke"}),
    "how the gate judges": ("smoke/gate.py", "import ", "import os, ", {"gate"}),
    "a limit of accuracy": ("accuracy/gate.py", "kl_mean=0.02", "kl_mean=0.021", {"accuracy-gate"}),
    # Signing and publishing may reach a store by HTTP, whose requests name the version.
    "a new release of Forge": (
        "__init__.py", '__version__ = "', '__version__ = "9', {"proofs", "publish"},
    ),
    "the gateway": ("device/gateway/app.py", "import ", "import os, ", set()),
}  # fmt: skip


@pytest.mark.parametrize(("path", "old", "new", "steps"), EDITS.values(), ids=EDITS)
def test_edit_changes_the_keys_of_the_steps_that_run_it(
    edit: Callable[..., set[str]], path: str, old: str, new: str, steps: set[str]
) -> None:
    assert edit(path, old, new) == steps


# --- What a command loads is in its key --------------------------------------------------------


def render(folder: Path) -> list[str]:
    (folder / "engine").mkdir()
    facts = {"builder": "openvino", "runtime": {}}
    (folder / "engine/engine.json").write_text(json.dumps(facts))
    (folder / "settings.json").write_text(json.dumps(profile_fields()))
    (folder / "lock").write_text("")
    return [
        "--engine",
        "engine",
        "--settings",
        "settings.json",
        "--lock",
        "lock",
        "--output",
        "out",
    ]


def gate(folder: Path) -> list[str]:
    (folder / "result.json").write_text(result().model_dump_json())
    thresholds = dict.fromkeys(("ttft_ms_p50", "inter_token_ms_p50", "output_tokens_per_s",
                                "peak_rss_mib")) | {"error_rate": 0}  # fmt: skip
    settings = {"smoke": {"thresholds": thresholds, "regression_pct": 10}, "baseline": None}
    (folder / "settings.json").write_text(json.dumps(settings))
    return ["--result", ".", "--settings", "settings.json", "--output", "out"]


def accuracy_gate(folder: Path) -> list[str]:
    (folder / "receipt.json").write_text(receipt(precision="int8").model_dump_json())
    (folder / "probe.json").write_text('{"tokens": [1, 2], "logprobs": [-1]}')
    (folder / "settings.json").write_text(json.dumps({"accuracy": PROFILE}))
    (folder / "probe").mkdir()
    argv = ["--receipt", ".", "--settings", "settings.json", "--output", "out"]
    return [*argv, "--probe", "probe"]


def sbom(folder: Path) -> list[str]:
    (folder / "tree/models/llm/1/engine").mkdir(parents=True)
    (folder / "tree/models/llm/1/engine/engine.bin").write_bytes(b"weights")
    (folder / "tree/runtime").mkdir()
    (folder / "tree/runtime/requirements.lock").write_text(f"numpy==2 --hash=sha256:{'a' * 64}\n")
    write_spec(folder / "tree", a_spec())
    return ["--repository", "tree", "--output", "."]


def index(folder: Path) -> list[str]:
    image = PlatformImage(
        platform="linux/amd64",
        digest=f"sha256:{'a' * 64}",
        manifest_bytes=1,
        size=1,
        layers=1,
        base=f"x@sha256:{'b' * 64}",
        sbom=f"sha256:{sha256(b'{}')}",
    )
    (folder / "image.json").write_text(image.model_dump_json())
    (folder / sbom_file(image.platform)).write_text("{}")
    (folder / "settings.json").write_text('{"image": "x", "repository": "localhost/x"}')
    (folder / "out").mkdir()
    return ["--settings", "settings.json", "--images", ".", "--output", "out"]


def nothing(option: str, *others: str) -> Callable[[Path], list[str]]:
    """Inputs that are not there: all that the module loads at once, and its error."""
    words = [word for name in (option, *others) for word in (f"--{name}", "none")]
    return lambda _folder: words


# Module: its inputs, and its exit code. Those that need a store, keys, Triton or buildah do their
# work under the same watch in tests/e2e.
COMMANDS: dict[str, tuple[Callable[[Path], list[str]], int]] = {
    "forge.serving.steps.render": (render, 0),
    "forge.smoke.steps.gate": (gate, 0),
    "forge.accuracy.steps.gate": (accuracy_gate, 0),
    "forge.release.steps.sbom": (sbom, 0),
    "forge.images.steps.index": (index, 0),
    "forge.smoke.steps.benchmark": (nothing("repository", "settings", "output"), 3),
    "forge.smoke.steps.last": (nothing("store", "settings", "output"), 3),
    "forge.images.steps.build": (nothing("settings", "dockerfile", "layout", "image"), 3),
    "forge.images.steps.push": (nothing("settings", "index", "layouts"), 3),
    "forge.release.steps.publish": (nothing("store", "keys", "request", "digests", "chain"), 3),
    "forge.release.steps.prove": (
        nothing("repository", "sbom", "digests", "chain", "settings", "keys", "output"), 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("module", ENTRIES)
def test_command_loads_nothing_of_forge_that_is_not_in_its_key(module: str, tmp_path: Path) -> None:
    inputs, code = COMMANDS[module]
    work, watch = tmp_path / "work", tmp_path / "watch"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", module, *inputs(work)],
        cwd=work, env={**os.environ, **watched(watch)}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert outside_of_closure(watch, module, {"builder": "openvino"}) == set()


def test_watch_sees_a_module_and_a_file_that_are_not_in_the_key(tmp_path: Path) -> None:
    """A check that could see nothing would pass for every command."""
    module = "forge.serving.steps.render"
    (tmp_path / "work").mkdir()
    subprocess.run(
        [sys.executable, "-m", module, *render(tmp_path / "work")], cwd=tmp_path / "work",
        env={**os.environ, **watched(tmp_path / "watch")}, check=True, capture_output=True,
    )  # fmt: skip
    strange = outside_of_closure(tmp_path / "watch", module, {"builder": "edge-llm"})
    assert {Path(path).parent.name for path in strange} == {"openvino"}
    seen = json.loads((tmp_path / "watch/loads.json").read_text())
    (tmp_path / "watch/loads.json").write_text(
        json.dumps({**seen, "modules": [*seen["modules"], "forge.device"]})
    )
    assert outside_of_closure(tmp_path / "watch", module) == {"forge.device"}
