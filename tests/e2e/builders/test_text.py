"""What turns text into tokens, beside the real transformers: families, damage, stored answers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import serving
from tests.support.serving import ROOT, environment
from tests.support.tokenizers_of import FAMILIES, folder_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.builders,
    pytest.mark.timeout(1800),  # the first test installs 5 GB
]

TOOLS = ROOT / "forge" / "builders" / "tools"
TEMPLATES = ROOT / "forge" / "serving" / "repository" / "templates"
RECORDED = ROOT / "tests" / "unit" / "serving" / "repository" / "templates" / "chat_answers.json"
STORED = ROOT / "references" / f"{serving.GGUF_SHA256}.text.json"


def run(python: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python / "bin" / "python"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def check(checkpoint: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Compare the serving text module with transformers."""
    output.mkdir(exist_ok=True)
    script, text = TOOLS / "text_check.py", TEMPLATES / "shared" / "text.py"
    argv = (script, "--checkpoint", checkpoint, "--text", text, "--output", output)
    return run(environment("transformers"), *argv)


def ask(engine: Path, expected: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Compare an engine's text with stored answers, where it is served."""
    output.mkdir(exist_ok=True)
    script, text = TOOLS / "text_engine_check.py", TEMPLATES / "shared" / "text.py"
    runtime = TEMPLATES / "openvino" / "runtime_tokenizer.py"
    argv = (script, "--engine", engine, "--expected", expected, "--text", text)
    return run(environment("triton-openvino"), *argv, "--runtime", runtime, "--output", output)


def change(folder: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a JSON file of a tokenizer."""
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    edit(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the reference's answers for Qwen3."""
    folder = tmp_path_factory.mktemp("qwen3")
    done = check(folder_of("qwen3", folder / "checkpoint"), folder / "answers")
    assert done.returncode == 0, done.stderr
    return folder / "answers"


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_and_prompts_of_a_family_are_those_of_transformers(
    family: str, tmp_path: Path
) -> None:
    done = check(folder_of(family, tmp_path / "checkpoint"), tmp_path / "answers")
    assert done.returncode == 0, done.stderr
    assert "are equal to" in done.stderr
    # The same files answer the same where an engine is served, without transformers.
    asked = ask(tmp_path / "checkpoint", tmp_path / "answers", tmp_path / "asked")
    assert asked.returncode == 0, asked.stderr


def test_answers_of_transformers_that_the_unit_tests_know_are_those_it_gives(
    tmp_path: Path,
) -> None:
    script = ROOT / "tests" / "support" / "chat_cases.py"
    done = run(environment("transformers"), script, tmp_path / "answers.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answers.json").read_bytes() == RECORDED.read_bytes()


def _cut_digits(tokenizer: dict[str, Any]) -> None:
    split = tokenizer["pre_tokenizer"]["pretokenizers"][0]
    split["pattern"]["Regex"] = split["pattern"]["Regex"].replace(r"\p{N}", r"\p{N}{1,3}")


def _another_normal_form(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = {"type": "NFKC"}


def _lost_merges(tokenizer: dict[str, Any]) -> None:
    del tokenizer["model"]["merges"][1000:1200]


def _swapped_tokens(tokenizer: dict[str, Any]) -> None:
    words = tokenizer["model"]["vocab"]
    words["Ġthe"], words["Ġbrown"] = words["Ġbrown"], words["Ġthe"]


# What the class of transformers makes anew from vocabulary and merges shows a damaged rest.
DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "digits cut otherwise": _cut_digits,
    "another normal form": _another_normal_form,
    "no byte level": lambda one: one.update(pre_tokenizer=None),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_tokenizer_json_that_contradicts_its_class_is_refused_with_both_texts(
    damage: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    folder = folder_of("qwen3", tmp_path / "checkpoint")
    change(folder, "tokenizer.json", damage)
    done = check(folder, tmp_path / "answers")
    assert done.returncode == 3
    assert "differ from the reference's at token" in done.stderr
    assert "\n  here:      [" in done.stderr
    assert "\n  reference: [" in done.stderr
    assert "\n  → tokenizer.json and the class Qwen2Tokenizer" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "answers").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [*DAMAGES.values(), _lost_merges, _swapped_tokens],
    ids=[*DAMAGES, "lost merges", "swapped tokens"],
)
def test_engine_with_another_tokenizer_is_refused_where_it_is_served(
    damage: Callable[[dict[str, Any]], object], answers: Path, tmp_path: Path
) -> None:
    folder = folder_of("qwen3", tmp_path / "engine")
    change(folder, "tokenizer.json", damage)
    done = ask(folder, answers, tmp_path / "asked")
    assert done.returncode == 3, done.stderr
    assert "of the probe's" in done.stderr
    assert list((tmp_path / "asked").iterdir()) == []


TEMPLATE_DAMAGES = {
    "a blank": ("<|im_start|>assistant\\n", "<|im_start|>assistant\\n "),
    "tools that are given but empty": ("if tools", "if tools is not none"),
    "JSON escaped for HTML": ("tool | tojson", "tool | tojson | replace('<', '&lt;')"),
}


@pytest.mark.parametrize(("old", "new"), TEMPLATE_DAMAGES.values(), ids=TEMPLATE_DAMAGES)
def test_engine_with_another_chat_template_is_refused(
    old: str, new: str, answers: Path, tmp_path: Path
) -> None:
    folder = folder_of("qwen3", tmp_path / "engine")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = config["chat_template"]
    assert old in template
    (folder / "chat_template.jinja").write_text(template.replace(old, new))
    done = ask(folder, answers, tmp_path / "asked")
    assert done.returncode == 3, done.stderr
    assert "the chat template with" in done.stderr


def test_engine_of_another_family_is_refused(answers: Path, tmp_path: Path) -> None:
    done = ask(folder_of("llama3_1", tmp_path / "engine"), answers, tmp_path / "asked")
    assert done.returncode == 3
    assert "the tokens of the probe's 'short' differ" in done.stderr


def test_settings_of_training_in_tokenizer_json_change_nothing(tmp_path: Path) -> None:
    folder = folder_of("qwen3", tmp_path / "checkpoint")
    cut = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    fill = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}  # fmt: skip
    change(folder, "tokenizer.json", lambda one: one.update(truncation=cut, padding=fill))
    done = check(folder, tmp_path / "answers")
    assert done.returncode == 0, done.stderr


def test_tokens_that_only_the_configuration_has_are_those_of_transformers(tmp_path: Path) -> None:
    folder = folder_of("qwen3", tmp_path / "checkpoint")
    more = {"content": "<tool!>", "single_word": False, "lstrip": True, "rstrip": True,
            "normalized": False, "special": False}  # fmt: skip
    size = 151_669
    change(
        folder,
        "tokenizer_config.json",
        lambda one: one["added_tokens_decoder"].update({str(size): more}),
    )
    done = check(folder, tmp_path / "answers")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "answers" / "text.json").read_text())["pieces"]
    special = next(one for one in found if one["name"] == "special tokens")
    assert size in special["tokens"] or "<tool!>" not in special["text"]
    assert any(size in one["tokens"] for one in found)


def test_class_that_transformers_makes_wrongly_is_refused_and_the_hint_helps(
    tmp_path: Path,
) -> None:
    folder = folder_of("deepseek_v3", tmp_path / "checkpoint")
    (folder / "config.json").unlink()  # so that LlamaTokenizerFast is believed, which loses blanks
    done = check(folder, tmp_path / "answers")
    assert done.returncode == 3
    assert "set tokenizer_class to PreTrainedTokenizerFast" in done.stderr
    change(
        folder,
        "tokenizer_config.json",
        lambda one: one.update(tokenizer_class="PreTrainedTokenizerFast"),
    )
    assert check(folder, tmp_path / "answers").returncode == 0


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer.json": (
        lambda one: (one / "tokenizer.json").unlink(),
        "there is no tokenizer.json\n  → write one",
    ),
    "a cut file": (
        lambda one: (one / "tokenizer.json").write_text('{"version": '),
        "tokenizer.json cannot be read",
    ),
    "code of its own": (
        lambda one: change(
            one,
            "tokenizer_config.json",
            lambda own: own.update(
                auto_map={"AutoTokenizer": ["mine.Mine", "mine.Mine"]}, tokenizer_class="Mine"
            ),
        ),
        "tokenizer_config.json names code of its own",
    ),
    "a template that is not valid": (
        lambda one: (one / "chat_template.jinja").write_text("{% for x in y %}"),
        "The chat template 'default' is not valid",
    ),
    "a template that refuses everyone": (
        lambda one: (one / "chat_template.jinja").write_text("{{ raise_exception('closed') }}"),
        "the chat template refuses one message of a user: TemplateError: closed",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_tokenizer_that_cannot_serve_is_refused_without_a_traceback(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    folder = folder_of("qwen3", tmp_path / "checkpoint")
    spoil(folder)
    done = check(folder, tmp_path / "answers")
    assert done.returncode == 3, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_engine_of_the_demo_has_the_stored_tokens_and_prompts(tmp_path: Path) -> None:
    expected = tmp_path / "expected"
    expected.mkdir()
    shutil.copyfile(STORED, expected / "text.json")
    done = ask(serving.engine(), expected, tmp_path / "asked")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "asked" / "text.json").read_text())
    assert report["texts"] > 40
    assert report["conversations"] > 10


def test_stored_answers_are_those_made_from_the_checkpoint(tmp_path: Path) -> None:
    argv = ("--checkpoint", serving.checkpoint(), "--output", tmp_path / "huggingface")
    (tmp_path / "huggingface").mkdir()
    made = run(environment("transformers"), TOOLS / "to_huggingface.py", *argv)
    assert made.returncode == 0, made.stderr
    done = check(tmp_path / "huggingface", tmp_path / "answers")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answers" / "text.json").read_bytes() == STORED.read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_are_the_whole_text_and_typed_control_tokens_are_text(
    family: str, tmp_path: Path
) -> None:
    """The reference is the package `tokenizers`: its text of all tokens at once."""
    folder = folder_of(family, tmp_path / "checkpoint")
    script = ROOT / "tests" / "support" / "text_properties.py"
    done = run(environment("triton-openvino"), script, TEMPLATES, folder, 500)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["pieces"], found["read"], found["changed"]) == ([], [], [])
    assert found["template"] == found["reference"]  # the template's own, and no others
    assert found["reference"] > 0 or family == "gptoss"  # whose package has no chat template
    if family == "deepseek_v3":  # they separate turns and are not called special
        assert {"<｜User｜>", "<｜Assistant｜>"} <= set(found["separators"])  # noqa: RUF001
