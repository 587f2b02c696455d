"""Elements of SVG as text. Every text and attribute is escaped here, so no other module has to.

Colours are classes of the page's style sheet: the same picture is for light, dark and paper.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from forge.wrapping import printable

__all__ = ["document", "element", "escaped", "shortened", "text"]


def element(tag: str, content: str = "", /, **attributes: str | float) -> str:
    """Return an element.

    Args:
        tag: its name.
        content: SVG, already escaped.
        attributes: their names have `_` for `-` and may end with `_`, as Python's keywords must.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def text(x: float, y: float, content: str, class_: str, anchor: str = "start") -> str:
    """Return a line of text, whose content is escaped."""
    return element("text", escaped(content), x=x, y=y, class_=class_, text_anchor=anchor)


def document(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """Return a picture with a title for readers who do not see it."""
    named = element("title", escaped(title))
    return element(
        "svg", named + "".join(parts), viewBox=f"0 0 {width:g} {height:g}", width=width,
        height=height, role="img",
    )  # fmt: skip


def escaped(content: str) -> str:
    """Return a text as the content of an element, without control characters."""
    return escape(printable(content))


def shortened(content: str, length: int) -> str:
    """Return a text of at most `length` characters; its middle may be left out."""
    if len(content) <= length:
        return content
    head = (length - 1) * 2 // 3
    return f"{content[:head]}…{content[len(content) - (length - 1 - head) :]}"


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"
