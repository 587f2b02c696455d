"""What is wrong with a document, in words of a user: for pydantic's and YAML's errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import yaml
    from pydantic import ValidationError

__all__ = ["message_text", "validation_text", "yaml_text"]

_MOST: Final = 3
# What pydantic says about a value → what a user reads.
_WORDS: Final[Sequence[tuple[str, str]]] = (
    (r"^Field required$", "is missing"),
    (r"^Extra inputs are not permitted$", "is not a known key"),
    (r"^Unexpected keyword argument$", "is not a known key"),
    (r"^Value error, ", ""),
    (r"^Assertion failed, ", ""),
    (r"^Invalid JSON: ", "it is not valid JSON: "),
    (r"^(Input|Value) should be ", "must be "),
    (r"^(Input|Value) should have ", "must have "),
    (r"^String should ", "must "),
    (r"^(List|Tuple|Set|Dictionary) should ", "must "),
    (r"\ba valid (array|list|tuple|set)\b", "a list"),
    (r"\ba valid (dictionary|mapping)\b( or object to extract fields from)?", "a mapping"),
    (r"\ban object\b", "a mapping"),
    (r"\ba valid boolean\b", "true or false"),
    (r"\ba valid integer\b", "a whole number"),
    (r"\ba valid (number|decimal)\b", "a number"),
    (r"\ba valid string\b", "a text"),
    (r"\bNone\b", "null"),
    (r"\bTrue\b", "true"),
    (r"\bFalse\b", "false"),
)


def validation_text(error: ValidationError) -> str:
    """Return where a document is wrong and what is required there, at most three places."""
    errors = error.errors(include_url=False)
    lines = [_place(item) for item in errors[:_MOST]]
    more = f"; and {len(errors) - _MOST} more" if len(errors) > _MOST else ""
    return "; ".join(lines) + more


def message_text(message: str) -> str:
    """Return one message of pydantic without words of Python."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


def yaml_text(error: yaml.YAMLError) -> str:
    """Return what is wrong with a YAML text and in which line."""
    problem = getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + " ".join(problem.replace("'<stream end>'", "the end of the text").split())


def _place(item: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    text = message_text(item["msg"])
    return f"{place}: {text}" if place else text
