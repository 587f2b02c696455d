"""Hooks of mkdocs (mkdocs.yml): the navigation, and links of a page to files outside docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE = re.compile(r"\]\(([\w./-]+\.md)\)")
_LINK = re.compile(r"!?\[([^\]]*)\]\s*\(([^)#:\s]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
_INDEXES = ("explanation/decisions/index.md", "results/index.md")


def on_config(config: Any, **_: Any) -> Any:
    """Set the navigation: the sections of docs/index.md, then the pages of the other indexes."""
    docs = Path(config.docs_dir)
    text = (docs / "index.md").read_text(encoding="utf-8")
    _, *parts = _SECTION.split(text)
    sections = zip(parts[::2], parts[1::2], strict=True)
    navigation: list[Any] = ["index.md"]
    for title, body in sections:
        pages = [one for one in _PAGE.findall(body) if one not in (*_INDEXES, "glossary.md")]
        navigation.append({title: pages})
    decisions, results = (_pages(docs, one) for one in _INDEXES)
    config.nav = [*navigation, {"Decisions": decisions}, {"Results": results}, "glossary.md"]
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page with links to files outside docs/ as text: the site has none of them."""
    parts = _CODE.split(markdown)
    return "".join(
        part if number % 2 else _without_outside_links(part, page.file.src_uri)
        for number, part in enumerate(parts)
    )


def _pages(docs: Path, index: str) -> list[str]:
    """Return an index and the pages that it lists, in order and once."""
    folder = posixpath.dirname(index)
    found = _PAGE.findall((docs / index).read_text(encoding="utf-8"))
    beside = [f"{folder}/{one}" for one in found if "/" not in one]
    return list(dict.fromkeys([index, *beside]))


def _without_outside_links(text: str, page: str) -> str:
    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[2]))
        return match[1] if target.startswith("../") else match[0]

    return _LINK.sub(link, text)
