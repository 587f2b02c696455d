"""An HTML page as a tree of what it says: read by html.parser, strict about its nesting."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

VOID: Final = ("meta", "br", "img", "link", "input")


@dataclass
class Node:
    """An element; `parts` are texts and elements in their order."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    parts: list[str | Node] = field(default_factory=list)

    def all(self, tag: str = "", **attributes: str) -> list[Node]:
        """Every element below it with this tag and these attributes, in order."""
        found = []
        for part in self.parts:
            if isinstance(part, Node):
                wanted = all(part.attributes.get(key.strip("_")) == value
                             for key, value in attributes.items())  # fmt: skip
                if wanted and tag in ("", part.tag):
                    found.append(part)
                found += part.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> Node:
        """The only such element."""
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self) -> str:
        """What it says, with single spaces."""
        return " ".join(self._raw().split())

    def _raw(self) -> str:
        return "".join(part if isinstance(part, str) else part._raw() for part in self.parts)

    def rows(self) -> list[list[str]]:
        """The cells of a table, its titles first."""
        return [
            [cell.text for cell in row.all() if cell.tag in ("th", "td")] for row in self.all("tr")
        ]

    def shape(self) -> list[tuple[str, ...]]:
        """Tags and names of attributes, without any text or value."""
        return [(node.tag, *node.attributes) for node in self.all()]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].parts.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def parse_page(text: str) -> Node:
    """Parse a page. Fails if an element is not closed, or not in its order."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert len(parser.open) == 1, [node.tag for node in parser.open]
    return parser.open[0]
