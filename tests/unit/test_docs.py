"""The docs: every command in them exists with its options, every link leads somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from forge.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "artifacts" / "README.md",
    ROOT / "forge" / "template" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
INLINE = re.compile(r"`(forge [^`…]+)`")
FENCED = re.compile(r"^\s*(?:\$ )?(forge [^…\n]+)$", re.MULTILINE)
VARIABLE = re.compile(r"vars\.(\w+)")
SHELL = re.compile(r"\s(?:#|\||&&|&|>|;).*$")


def commands() -> list[str]:
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = "\n".join(re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL))
        found |= {SHELL.sub("", line).strip() for line in FENCED.findall(blocks)}
        found |= {SHELL.sub("", line).strip() for line in INLINE.findall(text)}
    return sorted(found)


@pytest.mark.parametrize("command", commands())
def test_command_in_the_docs_exists_with_its_options(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command.replace("|", " "))[1:]
    assert main([*arguments, "--help"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    broken = [target for target in targets if not (page.parent / target).exists()]
    assert broken == []


def test_docs_name_no_package_registry_and_no_path_of_a_machine() -> None:
    forbidden = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|/root/|/tmp/lab|/work/")
    pages = [*PAGES, *ROOT.glob("requirements*.lock"), *ROOT.glob("*/*/requirements.lock")]
    assert [page.name for page in pages if forbidden.search(page.read_text("utf-8"))] == []


@pytest.mark.parametrize("page", ["docs/ci.md", "forge/template/README.md"])
def test_every_variable_of_the_workflows_is_explained(page: str) -> None:
    workflows = (ROOT / ".github" / "workflows").glob("*.yml")
    used = {name for path in workflows for name in VARIABLE.findall(path.read_text())}
    assert "FORGE_KEYS" in used
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in sorted(used) if f"`{name}`" not in text] == []
