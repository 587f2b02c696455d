"""Each text of a schema's grammar is a valid answer; what cannot be obeyed is refused by name."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import json_schemas
from tests.support.ebnf import Grammar
from tests.support.templates import load

json_grammar = load("shared", "json_grammar")
RequestError = load("shared", "json_schema").RequestError
DRAWS = 40


def names(value: Any) -> str:
    return json.dumps(value)[:100]


def grammar_of(schema: Any) -> Grammar:
    return Grammar(json_grammar.grammar_of(schema))


def refusal(schema: Any) -> str:
    with pytest.raises(RequestError) as caught:
        json_grammar.grammar_of(schema)
    return str(caught.value)


def drawn(schema: Any, seed: int, count: int) -> list[str]:
    grammar, numbers = grammar_of(schema), random.Random(seed)  # noqa: S311 - no key
    return [grammar.draw(numbers) for _ in range(count)]


def test_the_corpus_is_large_and_has_every_keyword() -> None:
    assert len(json_schemas.CORPUS) >= 200
    text = json.dumps(list(json_schemas.CORPUS))
    obeyed = load("shared", "json_facts").OBEYED - {"nullable"}
    assert [name for name in obeyed if f'"{name}"' not in text] == []


@pytest.mark.parametrize("schema", json_schemas.CORPUS, ids=names)
def test_every_text_of_the_grammar_is_json_that_has_the_schema(schema: Any) -> None:
    reference = json_schemas.validator(schema)
    for text in drawn(schema, 1, DRAWS):
        value = json.loads(text)
        assert reference.is_valid(value), text


@pytest.mark.parametrize(("schema", "values"), json_schemas.ACCEPTED, ids=names)
def test_values_that_have_the_schema_can_be_answered(schema: Any, values: tuple[Any, ...]) -> None:
    grammar = grammar_of(schema)
    for value in values:
        assert grammar.accepts(json.dumps(value, ensure_ascii=False)), value


@pytest.mark.parametrize("one", json_schemas.REFUSED, ids=lambda one: names(str(one.schema)))
def test_what_cannot_be_obeyed_is_refused_by_name_and_place(one: json_schemas.Refusal) -> None:
    said = refusal(one.schema)
    assert one.pointer in said
    assert one.word in said


@pytest.mark.parametrize("schema", json_schemas.IMPOSSIBLE, ids=names)
def test_a_schema_that_no_value_has_is_refused_with_the_reason(schema: Any) -> None:
    assert "no answer is possible: " in refusal(schema)


def test_the_reason_of_an_impossible_schema_is_that_of_the_innermost_place() -> None:
    schema = {"properties": {"a": {"items": {"maxLength": 1, "minLength": 2}, "minItems": 1}},
              "required": ["a"]}  # fmt: skip
    assert "at #/properties/a/items: no answer is possible: minLength 2" in refusal(schema)


def test_white_space_is_one_space_after_a_comma_and_a_colon() -> None:
    grammar = grammar_of({"properties": {"a": {"type": "array", "items": {"const": 1}}}})
    assert grammar.accepts('{"a": [1, 1]}')
    for text in ('{"a":[1, 1]}', '{"a":  [1, 1]}', '{"a": [1,1]}', '{ "a": []}', '{"a": [] }',
                 '{"a": []}\n', '{"a": [\n]}', "{}  ", '{"a": [ ]}'):  # fmt: skip
        assert not grammar.accepts(text), text


def test_properties_come_in_the_order_of_the_schema_and_no_other_ones() -> None:
    grammar = grammar_of({"properties": {"b": {"const": 1}, "a": {"const": 2}}})
    assert grammar.accepts('{"b": 1, "a": 2}')
    for text in ('{"a": 2, "b": 1}', '{"b": 1, "c": 1}', '{"b": 1, "b": 1}', '{"b": 1, }'):
        assert not grammar.accepts(text), text


def test_a_name_of_additional_properties_is_none_of_the_named_ones() -> None:
    grammar = grammar_of({"properties": {"ab": False, "x": {"const": 1}},
                          "additionalProperties": {"type": "integer"}})  # fmt: skip
    for name, accepted in {"a": True, "ab": False, "abc": True, "b": True, "xx": True}.items():
        assert grammar.accepts(f'{{"{name}": 7}}') == accepted, name
    assert not grammar.accepts('{"x": 7}')


def test_strings_patterns_and_arrays_without_a_bound_get_one_and_larger_ones_are_obeyed() -> None:
    for schema in ({"type": "string"}, {"pattern": "^a*$"}, {"type": "string", "minLength": 9}):
        assert grammar_of(schema).accepts(f'"{"a" * 1024}"')
        assert not grammar_of(schema).accepts(f'"{"a" * 1025}"')
    for bound in ("minLength", "maxLength"):
        assert grammar_of({"type": "string", bound: 2000}).accepts(f'"{"a" * 2000}"')
    bounds: tuple[tuple[int, dict[str, int]], ...]
    bounds = ((64, {}), (100, {"maxItems": 100}), (90, {"minItems": 90}))
    for count, bound_of_items in bounds:
        grammar = grammar_of({"items": {"const": 1}, **bound_of_items})
        assert grammar.accepts(f"[{', '.join('1' * count)}]")
        assert not grammar.accepts(f"[{', '.join('1' * (count + 1))}]")


def test_numbers_nesting_and_free_members_end() -> None:
    assert not grammar_of({"type": "integer"}).accepts("1" * 16)
    assert not grammar_of({"type": "number"}).accepts("0." + "1" * 16)
    free = grammar_of({})
    assert free.accepts("[[[[]]]]")
    assert not free.accepts("[" * 7 + "]" * 7)
    assert free.accepts("[" + ", ".join("1" * 16) + "]")
    assert not free.accepts("[" + ", ".join("1" * 17) + "]")
    tree = grammar_of(json_schemas.TREE)
    inner = '{"value": 1}'
    for level in range(2, 8):
        inner = f'{{"value": 1, "children": [{inner}]}}'
        assert tree.accepts(inner) == (level <= 5)


def test_any_object_is_an_object() -> None:
    grammar = Grammar(json_grammar.any_object())
    assert grammar.accepts('{"a": [1, {"b": null}], "c": "d"}')
    assert not grammar.accepts("[]")
    for _ in range(DRAWS):
        assert isinstance(json.loads(grammar.draw(random.Random(1))), dict)  # noqa: S311


def test_openapis_nullable_allows_null() -> None:
    texts = drawn({"type": "integer", "nullable": True}, 2, 30)
    assert {type(json.loads(text)) for text in texts} == {int, type(None)}


def test_a_large_schema_is_refused_and_a_wide_one_is_not() -> None:
    wide = {"properties": {f"p{index}": {"type": "string"} for index in range(600)}}
    assert len(json_grammar.grammar_of(wide)) < 64 * 1024
    values = {"enum": [f"{index} {'x' * 200}" for index in range(1500)]}
    assert "too large" in refusal(values)
    many = {"allOf": [{"anyOf": [{"minimum": index}, {"maxLength": index}]} for index in range(20)]}
    assert "alternatives" in refusal(many)


def schemas() -> st.SearchStrategy[Any]:
    small = st.integers(0, 4)
    numbers = st.one_of(st.integers(-30, 30), st.sampled_from([-2.5, 0.25, 0.5, 9.75]))
    scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=4))
    leaves = st.one_of(
        st.booleans(),
        st.fixed_dictionaries({}, optional={
            "type": st.sampled_from(["integer", "number"]), "minimum": numbers, "maximum": numbers,
            "exclusiveMinimum": numbers, "exclusiveMaximum": numbers}),
        st.fixed_dictionaries({"type": st.just("string")}, optional={
            "minLength": small, "maxLength": small, "pattern": st.sampled_from(["^a*$", "b"])}),
        st.fixed_dictionaries({"enum": st.lists(scalars, max_size=4)}),
        st.fixed_dictionaries({"const": scalars}),
        st.sampled_from([{"type": "null"}, {"type": ["boolean", "null"]}, {"$ref": "#"}]),
    )  # fmt: skip

    def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        some = st.lists(inner, min_size=1, max_size=3)
        properties = st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
        return st.one_of(
            st.fixed_dictionaries({}, optional={
                "type": st.just("object"), "properties": properties,
                "required": st.lists(st.sampled_from("abcde"), max_size=2, unique=True),
                "additionalProperties": inner, "minProperties": small, "maxProperties": small}),
            st.fixed_dictionaries({}, optional={
                "type": st.just("array"), "items": inner, "prefixItems": some,
                "minItems": small, "maxItems": small, "uniqueItems": st.booleans()}),
            st.fixed_dictionaries({"anyOf": some}, optional={"properties": properties}),
            st.fixed_dictionaries({"oneOf": some}, optional={"required": st.just(["a"])}),
            st.fixed_dictionaries({"allOf": some}, optional={"type": st.just("object")}),
        )  # fmt: skip

    return st.recursive(leaves, deeper, max_leaves=8)


@given(schemas(), st.integers(0, 2**32))
@example({"oneOf": [{}, {"const": None}]}, 0)
@example({"uniqueItems": True}, 232)
@example({"oneOf": [{"minLength": 1}, {"const": 5}]}, 0)  # only texts are answered
def test_any_schema_is_obeyed_or_refused(schema: Any, seed: int) -> None:
    try:
        text = json_grammar.grammar_of(schema)
    except RequestError:
        return
    grammar, numbers = Grammar(text), random.Random(seed)  # noqa: S311 - no key
    reference = json_schemas.validator(schema)
    for _ in range(5):
        answer = grammar.draw(numbers, 100)
        assert reference.is_valid(json.loads(answer)), answer


@given(st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3)),
    lambda one: st.one_of(
        st.lists(one, max_size=3),
        st.dictionaries(st.sampled_from(sorted(load("shared", "json_facts").OBEYED)), one)),
    max_leaves=6))  # fmt: skip
def test_what_is_no_schema_is_refused(value: Any) -> None:
    with contextlib.suppress(RequestError):
        Grammar(json_grammar.grammar_of(value))
