"""What is wrong with a document, without words of Python or of pydantic."""

from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import yaml_loader
from forge.validation import validation_text, yaml_text


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    count: int = Field(gt=0)
    flag: bool = False
    names: list[str] = []
    kind: Literal["a", "b"] | None = "a"
    text: str = Field(default="", max_length=3)


class Whole(BaseModel):
    part: Part


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({}, "part.count: is missing"),
        ({"count": "x"}, "part.count: must be a whole number"),
        ({"count": 0}, "part.count: must be greater than 0"),
        ({"count": 1, "flag": 1}, "part.flag: must be true or false"),
        ({"count": 1, "names": "x"}, "part.names: must be a list"),
        ({"count": 1, "kind": "c"}, "part.kind: must be 'a' or 'b'"),
        ({"count": 1, "text": "long"}, "part.text: must have at most 3 characters"),
        ({"count": 1, "other": 1}, "part.other: is not a known key"),
        (3, "part: must be a mapping"),
    ],
)
def test_a_place_is_named_with_what_is_required_there(part: Any, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate_json(yaml_or_json({"part": part}))
    assert validation_text(caught.value) == says


def yaml_or_json(document: object) -> str:
    import json

    return json.dumps(document)


def test_of_many_places_three_are_named() -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate({"part": {"count": 1, "a": 1, "b": 1, "c": 1, "d": 1}})
    assert validation_text(caught.value).endswith("part.c: is not a known key; and 1 more")


def test_a_text_that_is_not_json_is_said_to_be_so() -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate_json("{")
    assert validation_text(caught.value).startswith("it is not valid JSON: EOF")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "line 1, column 5: expected the node content, but found the end of the text"),
        ("a: 1\na: 2\n", "line 2, column 1: duplicate key 'a'"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
    ],
)
def test_yaml_is_wrong_in_a_line_and_not_in_a_unicode_string(text: str, says: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml_loader.load(text)
    assert yaml_text(caught.value) == says
