"""Steps: complete keys, placeholders, and the order of the graph."""

import os
from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.steps import (
    Artifact,
    Environment,
    SourceFile,
    Step,
    key_of,
    locked,
    source,
    substitute,
    tool,
    walk,
)

DIGEST = "a" * 64


def a_step(**changes: object) -> Step:
    values: dict[str, object] = {
        "id": "engine@thor",
        "argv": ("compile", "${inputs.weights}", "${outputs.engine}"),
        "inputs": {"weights": weights()},
        "outputs": ("engine",),
        "settings": {"engine": {"precision": "fp8"}},
        "env": {"MODE": "quick"},
        "environments": (Environment("openvino", Path("x"), "1" * 64, "3.11"),),
        "sources": (SourceFile("tool.py", Path("y"), "2" * 64),),
        "libraries": {"jinja2": "3.1.6"},
        "platform": "linux/arm64",
    }
    return Step(**(values | changes))  # type: ignore[arg-type]  # the test's own keywords


def weights() -> Artifact:
    return Step(id="checkpoint", argv=("fetch",), outputs=("weights",))["weights"]


CHANGES = {
    "argv": {"argv": ("compile", "-O3", "${inputs.weights}", "${outputs.engine}")},
    "outputs": {"argv": ("compile",), "outputs": ("engine", "log")},
    "setting": {"settings": {"engine": {"precision": "fp16"}}},
    "new setting": {"settings": {"engine": {"precision": "fp8", "batch": 1}}},
    "env": {"env": {"MODE": "slow"}},
    "lock": {"environments": (Environment("openvino", Path("x"), "3" * 64, "3.11"),)},
    "python": {"environments": (Environment("openvino", Path("x"), "1" * 64, "3.12"),)},
    "source": {"sources": (SourceFile("tool.py", Path("y"), "4" * 64),)},
    "library": {"libraries": {"jinja2": "3.1.7"}},
    "image": {"image": "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"},
    "platform": {"platform": "linux/amd64"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_key_changes_when_anything_that_decides_the_result_changes(
    change: dict[str, object],
) -> None:
    before = key_of(a_step(), {"weights": DIGEST}).digest
    assert key_of(a_step(**change), {"weights": DIGEST}).digest != before


def test_measurement_holds_for_the_kind_of_machine_it_was_made_on() -> None:
    ours, theirs = a_step(exclusive=True), a_step(exclusive=True, labels=("gpu-sm61",))
    assert key_of(ours, {"weights": DIGEST}) != key_of(theirs, {"weights": DIGEST})


def test_key_changes_with_the_bytes_of_an_input() -> None:
    step = a_step()
    assert key_of(step, {"weights": DIGEST}) != key_of(step, {"weights": "b" * 64})


UNIMPORTANT = {
    "id": {"id": "engine@orin"},
    "where files lie": {"sources": (SourceFile("tool.py", Path("/elsewhere"), "2" * 64),)},
    "labels": {"labels": ("gpu-sm110",)},
    "secrets": {"secrets": ("TOKEN",)},
    "exclusive": {"exclusive": True},
}


@pytest.mark.parametrize("change", UNIMPORTANT.values(), ids=UNIMPORTANT.keys())
def test_key_stays_when_the_result_cannot_change(change: dict[str, object]) -> None:
    before = key_of(a_step(), {"weights": DIGEST}).digest
    assert key_of(a_step(**change), {"weights": DIGEST}).digest == before


def test_step_is_refused_when_its_command_names_an_undeclared_input() -> None:
    with pytest.raises(ConfigurationError, match=r"\$\{inputs.other\} is not declared"):
        a_step(argv=("compile", "${inputs.other}"))


def test_step_is_refused_when_its_command_wants_a_referenced_input_unpacked() -> None:
    with pytest.raises(ConfigurationError, match=r"\$\{inputs.weights\} is not declared"):
        a_step(references=frozenset({"weights"}))


def test_step_is_refused_when_its_id_is_no_id() -> None:
    with pytest.raises(ConfigurationError, match="'Engine Thor'"):
        a_step(id="Engine Thor")


def test_output_that_a_step_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no output 'log'"):
        a_step()["log"]


def test_substitute_fills_in_every_placeholder() -> None:
    argv = ("--in=${inputs.a}", "${settings}", "plain")
    assert substitute(argv, lambda kind, name: f"<{kind}:{name}>") == [
        "--in=<inputs:a>",
        "<settings:None>",
        "plain",
    ]


def test_walk_gives_makers_before_users_and_each_once() -> None:
    shared = weights()
    first = a_step(id="engine@a", inputs={"weights": shared})
    second = a_step(id="engine@b", inputs={"weights": shared})
    order = [step.id for step in walk([second["engine"], first["engine"], first["engine"]])]
    assert order == ["checkpoint", "engine@b", "engine@a"]


def test_walk_refuses_two_different_steps_with_one_id() -> None:
    with pytest.raises(ConfigurationError, match="Two different steps have the id 'engine@thor'"):
        walk([a_step()["engine"], a_step()["engine"]])


def test_script_of_a_builder_counts_by_what_runs_and_data_by_its_bytes(tmp_path: Path) -> None:
    script, data = tmp_path / "compile.py", tmp_path / "samples.jsonl"
    script.write_text("x = 1\n")
    data.write_text("{}\n")
    before = source(script), source(data)
    script.write_text('"""Compile."""\nx = 1  # one\n')
    data.write_text("{} \n")
    assert source(script) == before[0]
    assert source(data) != before[1]
    script.write_text("x = 2\n")
    assert source(script) != before[0]


def test_script_that_is_not_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "compile.py").write_text("def broken(:")
    with pytest.raises(ConfigurationError, match="is not valid Python"):
        source(tmp_path / "compile.py")


def test_tool_counts_with_the_modules_of_its_folder_that_it_imports(tmp_path: Path) -> None:
    (tmp_path / "compile.py").write_text("def main():\n    import reader\n    import json\n")
    (tmp_path / "reader.py").write_text("from formats import TYPES\n")
    (tmp_path / "formats.py").write_text("TYPES = 1\n")
    (tmp_path / "other.py").write_text("import reader\n")
    before = tool(tmp_path / "compile.py")
    assert [one.name for one in before] == ["compile", "reader", "formats"]
    (tmp_path / "formats.py").write_text("TYPES = 2\n")
    assert tool(tmp_path / "compile.py") != before


def test_file_that_kept_its_size_and_its_old_time_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "openvino"
    folder.mkdir()
    files = (folder / "requirements.lock", folder / "compile.py")

    def write(text: str) -> tuple[object, ...]:
        for path in files:
            path.write_text(text)
            os.utime(path, (1e9, 1e9))  # old enough to be remembered
        return locked(folder), tool(folder / "compile.py")

    before = write("x = 1\n")
    assert write("x = 1\n") == before
    lock, script = write("x = 2\n")
    assert lock != before[0]
    assert script != before[1]
