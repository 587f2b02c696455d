"""The docs: commands exist with their options, links and anchors lead somewhere, pages are listed.

Generated pages and diagrams are equal to what the code makes.
"""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
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
INDEX = ROOT / "docs" / "index.md"
DECISIONS = sorted((ROOT / "docs" / "explanation" / "decisions").glob("[0-9]*.md"))
GLOSSARY = ROOT / "docs" / "glossary.md"
ANCHORED = re.compile(r"\]\(([^)#:]*)#([^)]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
CODE_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
WORD = re.compile(r"^\| \*\*([\w -]+)\*\* \| .+ \|$", re.MULTILINE)
MODULE = re.compile(r"`((?:forge|stages|scripts|tests|pipelines)/[\w./-]+)`")
STATUS = re.compile(r"^\*\*Status:\*\* (accepted|superseded)\b.*, \d{4}-\d{2}-\d{2}", re.MULTILINE)
# Each has a plainer word; generated pages and the list of sources are excepted.
AVOIDED = re.compile(
    r"\b(anew|anybody|blam(?:e|es|ed)|beliefs?|believ(?:e|es|ed)|errand|for ever|heed(?:s|ed)?"
    r"|in peace|meanwhile|nobody|obeys?|patience|somebody|stands|strangers?|thief|thieves"
    r"|unlike|whoever|wish(?:es)?|lies|mended)\b",
    re.IGNORECASE,
)
WRITTEN = [
    page
    for page in PAGES
    if page.name not in {"commands.md", "python.md", "nvidia-facts.md"}
    and "template" not in page.parts
]
GENERATED = ("command_reference", "python_reference", "diagrams")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
INLINE = re.compile(r"`(forge [^`…]+)`")
FENCED = re.compile(r"^\s*(?:\$ )?(forge [^…\n]+)$", re.MULTILINE)
MESSAGE = re.compile(r"`([^`]+)`")
PLACEHOLDER = re.compile(r"%(?:\.\d)?[sdgf]")
VARIABLE = re.compile(r"vars\.(\w+)")
SHELL = re.compile(r"\s(?:#|\||&&|&|>|;).*$")


def commands() -> list[str]:
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = "\n".join(re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL))
        blocks = re.sub(r"\\\n\s*", "", blocks)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_of_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wanted = [(page.parent / name if name else page, a) for name, a in ANCHORED.findall(text)]
    broken = [f"{to.name}#{anchor}" for to, anchor in wanted if anchor not in anchors(to)]
    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    seen: set[Path] = set()
    waiting = [INDEX]
    while waiting:
        page = waiting.pop()
        if page not in seen:
            seen.add(page)
            waiting += linked_pages(page)
    pages = set((ROOT / "docs").rglob("*.md"))
    assert sorted(str(page.relative_to(ROOT)) for page in pages - seen) == []


def test_the_index_of_decisions_has_each_decision_once() -> None:
    index = DECISIONS[0].with_name("index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[\d{4}\]\(([^)]+)\)", index, re.MULTILINE)
    assert listed == [page.name for page in DECISIONS]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: str(page.name))
def test_a_decision_has_a_status_and_a_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    status = STATUS.search(text)
    assert status, "no line **Status:** accepted, DATE"
    if status[1] == "superseded":
        assert re.search(r"\*\*Status:\*\* superseded .*\]\(\d{4}-", text), "by which decision?"


@pytest.mark.parametrize("script", GENERATED)
def test_generated_pages_are_what_the_code_makes(script: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{script}.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_the_glossary_has_one_line_for_each_word_in_order() -> None:
    words = [word.lower() for word in WORD.findall(GLOSSARY.read_text("utf-8"))]
    assert len(words) >= 30
    assert words == sorted(set(words))


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_use_plain_words(page: Path) -> None:
    assert AVOIDED.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_folders_of_forge_that_a_page_names_exist(page: Path) -> None:
    if page.name == "add-a-builder.md":  # a test makes the files that it names
        return
    named = MODULE.findall(page.read_text(encoding="utf-8"))
    assert [path for path in named if not module_exists(path)] == []


def module_exists(path: str) -> bool:
    return (ROOT / path).exists() or (ROOT / f"{path}.py").exists()


def linked_pages(page: Path) -> list[Path]:
    targets = (page.parent / target for target in LINK.findall(page.read_text(encoding="utf-8")))
    return [target.resolve() for target in targets if target.suffix == ".md" and target.exists()]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings: a second equal heading gets -1."""
    return set(_anchors(CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))))


def _anchors(text: str) -> Iterator[str]:
    seen: dict[str, int] = {}
    for heading in HEADING.findall(text):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        number = seen.get(anchor, 0)
        seen[anchor] = number + 1
        yield f"{anchor}-{number}" if number else anchor


def test_docs_name_no_package_registry_and_no_path_of_a_machine() -> None:
    forbidden = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|/root/|/tmp/lab|/work/")
    pages = [*PAGES, *ROOT.glob("requirements*.lock"), *ROOT.glob("*/*/requirements.lock")]
    assert [page.name for page in pages if forbidden.search(page.read_text("utf-8"))] == []


def test_messages_that_the_recovery_page_quotes_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "how-to" / "recover-a-device.md").read_text("utf-8")
    rows = page.partition("| message |")[2].partition("| symptom |")[0].splitlines()
    quoted = [one for row in rows[2:] if row for one in MESSAGE.findall(row.split(" | ")[0])]
    texts = list(device_texts())
    assert len(quoted) >= 12
    assert [one for one in quoted if not any(one in text for text in texts)] == []


def device_texts() -> Iterator[str]:
    """Every string of the device's code, with … for each value put in."""
    for path in [*(ROOT / "forge/device").rglob("*.py"), *(ROOT / "forge/trust").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(literal(part) for part in node.values)
            elif isinstance(node, ast.Constant):
                yield PLACEHOLDER.sub("…", literal(node))


def literal(part: ast.expr) -> str:
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "…"


@pytest.mark.parametrize("page", ["docs/how-to/github-actions.md", "forge/template/README.md"])
def test_every_variable_of_the_workflows_is_explained(page: str) -> None:
    workflows = (ROOT / ".github" / "workflows").glob("*.yml")
    used = {name for path in workflows for name in VARIABLE.findall(path.read_text())}
    assert "FORGE_KEYS" in used
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in sorted(used) if f"`{name}`" not in text] == []
