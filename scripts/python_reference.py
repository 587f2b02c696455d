"""Write docs/reference/python.md: the Python API of pipelines and stages, read from the sources.

    .venv/bin/python scripts/python_reference.py          write it
    .venv/bin/python scripts/python_reference.py --check  exit code 1 if it is not up to date

The sources are parsed, not imported, so that the page is the same under every version of Python.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "reference" / "python.md"
# In the order in which the author of a pipeline meets them.
MODULES: Final = (
    "stages.checkpoint",
    "stages.engine",
    "stages.model_repository",
    "stages.smoke",
    "stages.proofs",
    "stages.publish",
    "stages.image",
    "forge.plan",
    "forge.steps",
    "forge.builders",
    "forge.profiles",
    "forge.bundle",
)
INTRODUCTION: Final = """\
# Python API

Generated from the sources by `make docs-reference`; a test fails when it differs.

What the author of a pipeline, stage or builder imports. A pipeline is a function of `pipelines/`
that composes stages and returns a `forge.plan.Plan`; [pipelines](../explanation/pipelines.md)
says how it is called and [add a builder](../how-to/add-a-builder.md) shows a stage's step in
full. `stages` is the folder of your project: edit it. Everything else of `forge` is internal and
may change without notice.
"""
Definition = ast.FunctionDef | ast.ClassDef


def main(arguments: Sequence[str]) -> int:
    """Write or check the page; returns the exit code."""
    text = render()
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    if "--check" in arguments:
        text = f"{PAGE.name} is not what the sources say; run: make docs-reference"
        print(text, file=sys.stderr)  # noqa: T201
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


def render() -> str:
    """The whole page."""
    lines = [INTRODUCTION, "| module | |", "|---|---|"]
    for name in MODULES:
        anchor = name.replace(".", "")
        lines.append(f"| [`{name}`](#{anchor}) | {_cell(_first(_tree(name)))} |")
    for name in MODULES:
        lines += ["", *_module(name)]
    return "\n".join(lines).rstrip() + "\n"


def public_names(module: str) -> list[str]:
    """What a module offers: its `__all__`, else its functions and classes without underscore."""
    tree = _tree(module)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    defined = (node.name for node in tree.body if isinstance(node, Definition))
    return [name for name in defined if not name.startswith("_")]


def _module(name: str) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield from _paragraphs(ast.get_docstring(_tree(name)) or "")
    for public in public_names(name):
        yield ""
        yield f"### {public}"
        yield ""
        node = _find(name, public)
        if isinstance(node, ast.FunctionDef):
            yield from _function(node, "def ")
        elif isinstance(node, ast.ClassDef):
            yield from _class(node)
        else:
            yield from ("```python", _source(name, node), "```")


def _source(module: str, node: ast.stmt) -> str:
    """The line as it is written, which ruff has formatted."""
    return ast.get_source_segment(_text(module), node) or ast.unparse(node)


def _find(module: str, name: str) -> ast.stmt:
    """The definition of a name, in the module that it is imported from if need be."""
    for node in _tree(module).body:
        if isinstance(node, Definition) and node.name == name:
            return node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            return node
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return _find(str(node.module), name)
    message = f"{module} offers {name}, which is not defined there"
    raise LookupError(message)


def _tree(module: str) -> ast.Module:
    return ast.parse(_text(module))


def _text(module: str) -> str:
    path = ROOT / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8")


def _function(node: ast.FunctionDef, prefix: str) -> Iterator[str]:
    yield "```python"
    yield from _signature(node, prefix)
    yield "```"
    yield ""
    yield from _paragraphs(ast.get_docstring(node) or "")


def _signature(node: ast.FunctionDef, prefix: str) -> Iterator[str]:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    whole = f"{prefix}{node.name}({ast.unparse(node.args)}){returns}"
    if len(whole) <= 88:  # noqa: PLR2004  a line of a code block
        yield whole
        return
    yield f"{prefix}{node.name}("
    for part in _split(ast.unparse(node.args)):
        yield f"    {part},"
    yield f"){returns}"


def _split(arguments: str) -> list[str]:
    """Split at the commas that are in no bracket."""
    parts, depth = [""], 0
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _class(node: ast.ClassDef) -> Iterator[str]:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    yield "```python"
    yield f"class {node.name}({bases})" if bases else f"class {node.name}"
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_"):
            yield f"    {ast.unparse(item.target)}: {ast.unparse(item.annotation)}{_default(item)}"
        elif isinstance(item, ast.Assign) and ast.unparse(item.targets[0]).isupper():
            yield f"    {ast.unparse(item)}"
    yield "```"
    yield ""
    yield from _paragraphs(ast.get_docstring(node) or "")
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    public = [item for item in methods if not item.name.startswith("_")]
    if public:
        yield ""
    for item in public:
        kinds = {ast.unparse(decorator) for decorator in item.decorator_list}
        said = " ".join((ast.get_docstring(item) or "").split("\n\n")[0].split())
        called = item.name if "property" in kinds else f"{item.name}({_arguments(item)})"
        yield f"- `{called}`: {said}" if said else f"- `{called}`"


def _arguments(node: ast.FunctionDef) -> str:
    return ", ".join(part for part in _split(ast.unparse(node.args)) if part not in {"self", "cls"})


def _default(item: ast.AnnAssign) -> str:
    if item.value is None:
        return ""
    if isinstance(item.value, ast.Call):
        named = {word.arg: word.value for word in item.value.keywords}
        if "default" in named:
            return f" = {ast.unparse(named['default'])}"
        return " = …" if "default_factory" in named else ""
    return f" = {ast.unparse(item.value)}"


def _paragraphs(docstring: str) -> Iterator[str]:
    """The docstring as Markdown: code blocks stay, sections become lists."""
    for number, block in enumerate(docstring.split("\n\n")):
        if number:
            yield ""
        lines = block.splitlines()
        if lines and lines[0] in {"Args:", "Attributes:", "Raises:", "Returns:"}:
            yield f"{lines[0]}"
            yield ""
            yield from _items(lines[1:])
        elif lines and all(line.startswith("    ") for line in lines):
            yield from ("```text", *(line[4:] for line in lines), "```")
        else:
            yield from lines


def _items(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("        "):
            yield f"  {line.strip()}"
        else:
            name, colon, said = line.strip().partition(": ")
            yield f"- `{name}`: {said}" if colon else f"- {name}"


def _first(tree: ast.Module) -> str:
    return " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
