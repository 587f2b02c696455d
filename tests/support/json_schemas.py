"""JSON schemas that a grammar can obey, those that none can, and answers to some of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

import jsonschema

__all__ = ["ACCEPTED", "CORPUS", "IMPOSSIBLE", "REFUSED", "validator"]

Schema = dict[str, Any] | bool
PERSON: Final[Schema] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Person",
    "description": "A person {100}{100}",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"anyOf": [{"type": "string", "format": "email"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True},
        "home": {"$ref": "#/$defs/Address"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
    "$defs": {
        "Address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "no": {"type": ["integer", "string"]}},
            "required": ["street"],
        }
    },
}
TREE: Final[Schema] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 3},
            },
            "required": ["value"],
        }
    },
    "$ref": "#/$defs/node",
}
LINKED: Final[Schema] = {
    "type": "object",
    "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["v", "next"],
}
MUTUAL: Final[Schema] = {
    "definitions": {
        "a": {"type": "object", "properties": {"b": {"$ref": "#/definitions/b"}}},
        "b": {"type": "array", "items": {"$ref": "#/definitions/a"}, "maxItems": 2},
    },
    "allOf": [{"$ref": "#/definitions/a"}, {"minProperties": 1}],
}
_BOUNDS: Final = (-1234, -100, -10, -9, -1, 0, 1, 7, 10, 99, 100, 255, 1000, 98765)
_DECIMALS: Final = (-10.5, -1, -0.25, 0, 0.001, 0.5, 1, 1.5, 2.75, 10, 99.99)
_INTEGERS: Final[list[Schema]] = [
    {"type": "integer", "minimum": low, "maximum": high}
    for low, high in itertools.combinations(_BOUNDS, 2)
    if (low + high) % 3 == 0 or high - low < 12
]
_NAMES: Final = (("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum"))
_NUMBERS: Final[list[Schema]] = [
    {"type": "number", lower: low, upper: high}
    for index, (low, high) in enumerate(itertools.combinations(_DECIMALS, 2))
    for lower, upper in (_NAMES[index % 2],)
]
_HALF_OPEN: Final[list[Schema]] = [
    {"type": kind, name: bound}
    for kind, name, bound in itertools.product(
        ("integer", "number"),
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        (-10.5, 0, 7, 1000),
    )
]
_PATTERNS: Final = (
    "^[a-z]+$", "^[A-Z]{2}[0-9]{4}$", "abc", "^a", "z$", "^(foo|bar)$", r"^\d{3}-\d{4}$", r"^\w+$",
    r"^\S+$", r"^[^\s\"\\]+$", r"^\+?[1-9]\d{1,14}$", r"^(\([0-9]{3}\))?[0-9]{3}-[0-9]{4}$", "^.*$",
    r"^#(?:[0-9a-fA-F]{3}){1,2}$", r"^v\d+\.\d+\.\d+(?:-[a-z]+)?$", r"^[äöüß一-龥]{1,5}$", "^$",
    r"^[\w.%+-]+@[\w.-]+\.[A-Za-z]{2,6}$", r"^\x41\u0042$", "^a|b$", r'^"\\\n\t"$', r"^\D\W\S$",
    r"^[^\d][^\w][^\s]$", r"^[^\D]{2}[^\W]{2}[^\S]{2}$", "^a{0}b{2,}c{1,3}?$", "^[a-]$", r"^[\b]$",
    r"^\v$", "^[\\]^-]+$", "^(a|b|)(c)*$", "^a{40,100}$",
)  # fmt: skip
_STRINGS: Final[list[Schema]] = [
    {"type": "string", **lengths}
    for lengths in (
        {}, {"minLength": 1}, {"maxLength": 0}, {"maxLength": 1}, {"minLength": 3, "maxLength": 3},
        {"minLength": 2, "maxLength": 7}, {"maxLength": 31}, {"maxLength": 32}, {"maxLength": 33},
        {"minLength": 33}, {"minLength": 64, "maxLength": 100}, {"maxLength": 10**6},
        {"minLength": 31, "maxLength": 96}, {"minLength": 2.0, "maxLength": 3.0},
    )
]  # fmt: skip
_FORMATS: Final = (
    "date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid",
)  # fmt: skip
_FITTED: Final[list[Schema]] = [
    {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
    {"type": "string", "pattern": "^[a-z]+@[a-z]+$", "minLength": 8, "maxLength": 12},
    {"type": "string", "pattern": "^(?:ab)*$", "minLength": 3, "maxLength": 7},
    {"type": "string", "pattern": "x", "maxLength": 4},
    {"type": "string", "pattern": "^(a|bbb|c*)$", "minLength": 2, "maxLength": 4},
    {"type": "string", "pattern": "^[0-9]{2,}$", "minLength": 40},
    {"type": "string", "format": "email", "maxLength": 20},
]
_OBJECTS: Final[list[Schema]] = [
    {"type": "object"},
    {"type": "object", "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
    {"type": "object", "additionalProperties": True, "maxProperties": 2},
    {"type": "object", "required": ["a", "b"]},
    {"type": "object", "required": ["a"], "additionalProperties": {"type": "null"}},
    {"type": "object", "properties": {"a": {}, "b": False}, "required": ["a"]},
    {"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}},
    {"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}, "required": ["b"]},
    {"properties": {"a": {"const": 1}, "b": {"const": 2}}, "minProperties": 1},
    {"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": True}, "maxProperties": 2},
    {"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}},
     "minProperties": 2, "maxProperties": 2, "required": ["c"]},
    {"properties": {"ab": {"type": "null"}, "a": {"type": "null"}, "": {"type": "null"}},
     "additionalProperties": {"type": "integer"}},
    {"properties": {"ab": {"type": "null"}}, "additionalProperties": {"type": "integer"},
     "minProperties": 2, "required": ["ab"]},
    {"properties": {'q"\\\n\u2028é😀\x7f': {"type": "null"}}, "required": ['q"\\\n\u2028é😀\x7f']},
    {"properties": {"enum": {"type": "null"}, "$ref": {"type": "null"}, "not": {"const": 1}}},
    {"properties": {"x": {"type": "array"}}, "dependentRequired": {}, "patternProperties": {}},
]  # fmt: skip
_ARRAYS: Final[list[Schema]] = [
    {"type": "array"},
    {"type": "array", "items": {"type": "integer"}},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "items": {"type": "boolean"}, "maxItems": 0},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3},
    {"type": "array", "items": False},
    {"type": "array", "items": {}, "maxItems": 2},
    {"type": "array", "minItems": 1, "maxItems": 100_000, "items": {"const": 0}},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3},
     "minItems": 1, "maxItems": 4},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "minItems": 3},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "maxItems": 1},
    {"type": "array", "prefixItems": [{"const": 1}, False, {"const": 2}]},
    {"type": "array", "uniqueItems": True, "maxItems": 1, "items": {"type": "integer"}},
    {"type": "array", "uniqueItems": True, "items": {"type": "boolean"}},
    {"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b", "c", "d"]}, "minItems": 2},
    {"type": "array", "uniqueItems": True, "items": {"enum": [1, 1.0, True, None, [], {}]}},
    {"type": "array", "uniqueItems": False, "items": {"const": 1}, "minItems": 2},
    {"items": {"type": "array", "items": {"type": "array", "items": {"type": "null"}}}},
]  # fmt: skip
_VALUES: Final[list[Schema]] = [
    True,
    {},
    {"type": "null"},
    {"type": "boolean"},
    {"type": ["string", "null"]},
    {"type": ["integer", "boolean", "array"], "minimum": 3},
    {"type": ["null", "boolean", "string", "array", "object", "integer", "number"]},
    {"const": None},
    {"const": 'quote " and \\ and \n and 😀 and \ud800'},
    {"const": {"a": [1, {"b": None}], "c": 1.5}},
    {"enum": ["red", "green", "blue"]},
    {"enum": ["red", 1, None, 2.5, True, [], {}]},
    {"type": "string", "enum": ["a", 1, None]},
    {"type": "integer", "enum": [1, 2.0, 2.5, "3"], "maximum": 2},
    {"enum": ["a", "b", "ccc"], "maxLength": 1},
    {"enum": ["ab", "b"], "pattern": "^a"},
    {"enum": [1, True], "const": True},
    {"enum": [[1], [1, 2], ["a"]], "items": {"type": "integer"}, "minItems": 2},
    {"enum": [{"a": 1}, {"b": 1}], "required": ["a"]},
    {"type": "integer", "multipleOf": 1},
    {"type": "integer", "multipleOf": 5, "minimum": -20, "maximum": 100},
    {"type": "integer", "multipleOf": 2.5, "minimum": 0, "maximum": 20},
    {"type": "number", "multipleOf": 0.5, "minimum": 0, "exclusiveMaximum": 5},
    {"type": "number", "multipleOf": 0.1, "minimum": 0, "maximum": 2},
    {"type": "number"},
    {"type": "integer"},
    {"type": "integer", "format": "int32"},
    {"type": "integer", "minimum": 10**17, "maximum": 10**18 + 7},
    {"type": "integer", "minimum": 10**16},
    {"type": "number", "format": "double", "exclusiveMinimum": 123456789012345.5},
    {"type": "integer", "exclusiveMinimum": 0.5, "exclusiveMaximum": 1.5},
    {"type": "number", "minimum": 1.5, "maximum": 1.5},
]
_JOINED: Final[list[Schema]] = [
    {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "string", "minLength": 5}]},
    {"anyOf": [False, {"const": 1}, {"minimum": 2, "maximum": 1}]},
    {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}},
     "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"oneOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
    {"oneOf": [{"type": "integer", "maximum": 5}, {"type": "integer", "minimum": 6}]},
    {"oneOf": [{"const": 1}, {"const": 2}, {"enum": [2, 3]}]},
    {"oneOf": [
        {"properties": {"kind": {"const": "a"}, "x": {"type": "null"}}, "required": ["kind"],
         "type": "object"},
        {"properties": {"kind": {"enum": ["b", "c"]}}, "required": ["kind"], "type": "object"}]},
    {"oneOf": [
        {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"const": 1}}, "required": ["b"]}]},
    {"oneOf": [
        {"type": "object", "properties": {"v": {"type": "string"}}, "required": ["v"]},
        {"type": "object", "properties": {"v": {"type": "integer"}}, "required": ["v"]}]},
    {"oneOf": [{"type": "array", "maxItems": 1}, {"type": "array", "minItems": 2}]},
    {"oneOf": [{"type": "string", "maxLength": 1}, {"type": "string", "minLength": 2}]},
    {"oneOf": [{"type": "array", "prefixItems": [{"const": 1}], "minItems": 1},
               {"type": "array", "prefixItems": [{"const": 2}], "minItems": 1}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}, {"type": "number"}]},
    {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]},
               {"properties": {"a": {"minimum": 5}, "b": {"type": "null"}}, "required": ["b"]}]},
    {"allOf": [{"properties": {"a": {"const": 1}}, "additionalProperties": {"type": "null"}},
               {"properties": {"b": True, "a": True}, "additionalProperties": {"type": "null"}}]},
    {"allOf": [{"prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
               {"prefixItems": [{"minimum": 2}, {"maxLength": 2}], "items": {"minLength": 1}}]},
    {"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}, {"minimum": 3}]},
    {"allOf": [{"anyOf": [{"const": 1}, {"const": 2}]}, {"anyOf": [{"const": 2}, {"const": 3}]}]},
    {"allOf": [{"type": "string", "pattern": "^a+$"}, {"pattern": "^a+$", "maxLength": 3}]},
    {"allOf": [{"type": "array", "items": {"type": "integer"}}, {"minItems": 1}, {"maxItems": 2}]},
    {"$defs": {"x": {"type": "integer"}}, "$ref": "#/$defs/x", "minimum": 0, "maximum": 9},
    {"$defs": {"a/b~c d": {"const": 1}}, "$ref": "#/$defs/a~1b~0c%20d"},
    {"prefixItems": [{"const": 1}], "items": {"$ref": "#/prefixItems/0"}},
    {"$id": "https://example.com/s", "x-order": 3, "readOnly": True, "default": 1, "const": 1},
    PERSON,
    TREE,
    LINKED,
    MUTUAL,
]  # fmt: skip
_DRAFT_7: Final[list[Schema]] = [
    {"type": "array", "items": [{"const": 1}, {"const": 2}], "additionalItems": {"const": 3}},
    {"type": "array", "items": [{"const": 1}, {"const": 2}], "additionalItems": False},
    {"type": "array", "items": [{"type": "integer"}], "minItems": 1},
    {"definitions": {"x": {"type": "boolean"}}, "items": {"$ref": "#/definitions/x"}},
]
CORPUS: Final[tuple[Schema, ...]] = (
    *_VALUES, *_INTEGERS, *_NUMBERS, *_HALF_OPEN, *_STRINGS,
    *({"type": "string", "pattern": one} for one in _PATTERNS),
    *({"type": "string", "format": one} for one in _FORMATS),
    *_FITTED, *_OBJECTS, *_ARRAYS, *_JOINED, *_DRAFT_7,
)  # fmt: skip
"""Schemas that are obeyed."""


@dataclass(frozen=True)
class Refusal:
    """A schema, and the pointer and the word that its error has."""

    schema: Any
    pointer: str
    word: str


_REFUSED: Final[tuple[tuple[Any, str, str], ...]] = (
    ({"not": {}}, "#/not", "not is not supported"),
    ({"properties": {"a/b": {"if": True}}}, "#/properties/a~1b/if", "if"),
    ({"then": True}, "#/then", "then"),
    ({"else": True}, "#/else", "else"),
    ({"items": {"contains": {}}}, "#/items/contains", "contains"),
    ({"minContains": 0}, "#/minContains", "minContains"),
    ({"patternProperties": {"a": {}}}, "#/patternProperties", "patternProperties"),
    ({"propertyNames": {"maxLength": 3}}, "#/propertyNames", "propertyNames"),
    ({"dependentRequired": {"a": ["b"]}}, "#/dependentRequired", "dependentRequired"),
    ({"dependentSchemas": {"a": True}}, "#/dependentSchemas", "dependentSchemas"),
    ({"dependencies": {"a": ["b"]}}, "#/dependencies", "dependencies"),
    ({"unevaluatedProperties": False}, "#/unevaluatedProperties", "unevaluatedProperties"),
    ({"unevaluatedItems": False}, "#/unevaluatedItems", "unevaluatedItems"),
    ({"$dynamicRef": "#a"}, "#/$dynamicRef", "$dynamicRef"),
    ({"minLenght": 3}, "#/minLenght", "is not a known keyword"),
    ({"properties": {"a": {"$id": "b"}}}, "#/properties/a/$id", "is not a known keyword"),
    ({"$ref": "https://example.com/x"}, "#/$ref", "must begin with #/"),
    ({"$ref": "#x"}, "#/$ref", "must begin with #/"),
    ({"$ref": "#"}, "#/$ref", "itself"),
    ({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "#/anyOf/1/$ref", "itself"),
    ({"$ref": "#/$defs/x"}, "#/$ref", "there is no #/$defs/x"),
    ({"prefixItems": [True], "items": {"$ref": "#/prefixItems/-1"}}, "#/items/$ref", "no"),
    ({"type": "array", "uniqueItems": True}, "#/uniqueItems", "enum"),
    ({"uniqueItems": True, "items": {"type": "string"}}, "#/uniqueItems", "enum"),
    ({"type": "integer", "multipleOf": 7}, "#/multipleOf", "bounds"),
    ({"multipleOf": 0.01, "minimum": 0, "maximum": 100}, "#/multipleOf", "512"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "#/oneOf", "anyOf"),
    ({"oneOf": [{"maxLength": 3}, {"minLength": 3}]}, "#/oneOf", "anyOf"),
    ({"oneOf": [{"type": "object"}, {"type": "object", "required": ["a"]}]}, "#/oneOf", "any"),
    ({"oneOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"a": {"const": 2}}}]},
     "#/oneOf", "anyOf"),
    ({"pattern": "a", "format": "date"}, "#", "one of pattern and format"),
    ({"pattern": "(?=a)b"}, "#/pattern", "(?="),
    ({"pattern": r"(a)\1"}, "#/pattern", r"\1"),
    ({"pattern": r"\bword"}, "#/pattern", r"\b"),
    ({"pattern": r"\p{L}"}, "#/pattern", r"\p"),
    ({"pattern": "a^b"}, "#/pattern", "^"),
    ({"pattern": "("}, "#/pattern", "ends too early"),
    ({"pattern": "a)"}, "#/pattern", ")"),
    ({"pattern": "*a"}, "#/pattern", "*"),
    ({"pattern": "[z-a]"}, "#/pattern", "range"),
    ({"pattern": "^(a{100}){100}$"}, "#", "4096"),
    ({"format": "iri"}, "#/format", "date, time"),
    ({"minLength": 5000, "type": "string"}, "#/minLength", "4096"),
    ({"minItems": 5000, "type": "array"}, "#/minItems", "4096"),
    ({"type": "text"}, "#/type", "must be one of null"),
    ({"type": []}, "#/type", "must be one of"),
    ({"type": {}}, "#/type", "must be one of"),
    ({"enum": 3}, "#/enum", "list"),
    ({"required": "a"}, "#/required", "list"),
    ({"properties": []}, "#/properties", "object"),
    ({"properties": {"a": 3}}, "#/properties/a", "a schema must be"),
    ({"anyOf": []}, "#/anyOf", "list"),
    ({"allOf": {}}, "#/allOf", "list"),
    ({"minimum": "3"}, "#/minimum", "number"),
    ({"minimum": True}, "#/minimum", "number"),
    ({"maximum": float("inf")}, "#/maximum", "number"),
    ({"maximum": 10**40}, "#/maximum", "30 digits"),
    ({"multipleOf": 0}, "#/multipleOf", "above 0"),
    ({"minLength": -1}, "#/minLength", "0 or more"),
    ({"maxItems": 1.5}, "#/maxItems", "0 or more"),
    ({"nullable": "yes"}, "#/nullable", "true or false"),
    ({"uniqueItems": 1}, "#/uniqueItems", "true or false"),
    (["a"], "#", "a schema must be"),
)  # fmt: skip
REFUSED: Final = tuple(Refusal(*one) for one in _REFUSED)
"""Schemas that no grammar obeys, and what is said of them."""

IMPOSSIBLE: Final[tuple[Schema, ...]] = (
    False,
    {"type": "integer", "minimum": 4, "maximum": 3},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4},
    {"type": "number", "minimum": 3, "exclusiveMaximum": 3},
    {"type": "integer", "multipleOf": 10, "minimum": 1, "maximum": 9},
    {"type": "string", "minLength": 3, "maxLength": 2},
    {"type": "string", "pattern": "^abc$", "maxLength": 2},
    {"type": "string", "pattern": "^[]$"},
    {"type": "array", "minItems": 3, "maxItems": 2},
    {"type": "array", "items": False, "minItems": 1},
    {"type": "array", "prefixItems": [False], "minItems": 1},
    {"type": "array", "uniqueItems": True, "items": {"type": "boolean"}, "minItems": 3},
    {"type": "object", "properties": {"a": False}, "required": ["a"]},
    {"type": "object", "required": ["a"], "additionalProperties": False},
    {"type": "object", "properties": {"a": {}}, "minProperties": 2, "additionalProperties": False},
    {"type": "object", "required": ["a", "b"], "maxProperties": 1},
    {"enum": []},
    {"enum": [1, 2], "type": "string"},
    {"enum": [1, 2], "const": 3},
    {"const": "abc", "maxLength": 2},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    {"anyOf": [False, False]},
    {"oneOf": [{"const": 1}, {"const": 1}]},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
)
"""Schemas that no value has; each is refused with its reason."""

ACCEPTED: Final[tuple[tuple[Schema, tuple[Any, ...]], ...]] = (
    (PERSON, ({"name": "Ada Lovelace", "age": 36},
              {"name": "李雷", "age": 0, "email": None, "tags": ["a", "c"],
               "home": {"street": 'Main "Street"\n5', "no": 7}},
              {"name": "x", "age": 150, "email": "ada@example.com"})),
    (TREE, ({"value": 1}, {"value": -7, "children": [{"value": 2, "children": []}, {"value": 3}]})),
    (LINKED, ({"v": True, "next": {"v": False, "next": None}},)),
    (MUTUAL, ({"b": [{}, {"b": []}]},)),
    ({}, (None, True, -1.5, "a b", [1, ["x", {}]], {"a": {"b": [None]}, "é": "😀"})),
    ({"type": "object"}, ({}, {"a": 1, "b c": [1, 2]})),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, ({"one": 1, "two": 2},)),
    ({"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}},
     ({}, {"a": 1}, {"b": 2}, {"c": 3}, {"a": 1, "c": 3}, {"b": 2, "c": 3},
      {"a": 1, "b": 2, "c": 3})),
    ({"properties": {"ab": {"type": "null"}}, "additionalProperties": {"type": "integer"}},
     ({"ab": None}, {"a": 1}, {"abc": 1, "b": 2}, {"ab": None, "x": 0})),
    ({"type": "integer"}, (0, -1, 42, 10**14)),
    ({"type": "number"}, (0, -0.5, 3.14159, 1e-09, 6.02e23, 100)),
    ({"type": "number", "minimum": 0, "maximum": 1}, (0, 1, 0.5, 0.0001, 0.999, 1.0 / 4)),
    ({"type": "number", "exclusiveMinimum": 0}, (0.001, 5, 10.25)),
    ({"type": "string"}, ("", "plain", 'q"\\/\b\f\n\r\t\u0001', "안녕 😀", "\u2028")),
    ({"type": "string", "maxLength": 33}, ("", "a" * 31, "a" * 32, "😀" * 33)),
    ({"type": "string", "minLength": 64, "maxLength": 100}, ("b" * 64, "b" * 97, "b" * 100)),
    ({"format": "date"}, ("2026-11-29", "2024-02-29", "2000-02-29", "1999-12-31")),
    ({"format": "date-time"}, ("2026-11-29T12:00:00Z", "2026-11-29T23:59:59.123+02:00")),
    ({"format": "uuid"}, ("12345678-9abc-def0-1234-56789abcdef0",)),
    ({"format": "ipv4"}, ("0.1.20.0", "255.10.99.1")),
    ({"format": "uri"}, ("https://example.com/a/b.html",)),
    ({"pattern": r"^\+?[1-9]\d{1,14}$"}, ("+4915112345678", "12")),
    ({"pattern": "foo"}, ("foo", "a foo b")),
    ({"pattern": r"^[^,]+, [^,]+$"}, ("Müller, Jörg",)),
    ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}},
     ([], [1], [1, 2], [1, 2, 3, 3])),
    ({"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b", "c"]}},
     ([], ["b"], ["a", "c"], ["a", "b", "c"])),
    ({"oneOf": [{"type": "string"}, {"type": "null"}]}, ("a", None)),
    ({"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 5}, (0, 0.5, 4.5, 5)),
    ({"type": "string", "nullable": True}, (None, "a")),
)  # fmt: skip
"""Schemas with values that a model must be able to answer."""

_DRAFT_7_WORDS: Final = ("additionalItems", "definitions")


def validator(schema: Schema) -> Any:
    """Return the reference for a schema."""
    as_7 = isinstance(schema, dict) and any(one in schema for one in _DRAFT_7_WORDS)
    as_7 = as_7 or (isinstance(schema, dict) and isinstance(schema.get("items"), list))
    kind = jsonschema.Draft7Validator if as_7 else jsonschema.Draft202012Validator
    return kind(schema, format_checker=kind.FORMAT_CHECKER)
