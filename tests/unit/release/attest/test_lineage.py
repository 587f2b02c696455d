"""Which steps a tree descends from."""

from __future__ import annotations

import json

import pytest

from forge.errors import ConfigurationError
from forge.release.attest.lineage import ancestry, makers, parse_chain
from forge.steps import Link


def link(step: str, inputs: list[str], outputs: list[str]) -> Link:
    named = {digest: digest for digest in outputs}
    return Link(step, step, {digest: digest for digest in inputs}, named, 1.0, "", "")


CHAIN = [
    link("checkpoint", [], ["weights"]),
    link("engine@one", ["weights"], ["engine one"]),
    link("engine@two", ["weights"], ["engine two"]),
    link("repository@one", ["engine one"], ["tree one"]),
    link("repository@two", ["engine two"], ["tree two"]),
]


def test_only_the_links_that_led_to_a_tree_are_kept_in_order() -> None:
    found = [one.step for one in ancestry(CHAIN, ["tree one"])]
    assert found == ["checkpoint", "engine@one", "repository@one"]


def test_several_trees_have_all_their_ancestors_once() -> None:
    assert list(ancestry(CHAIN, ["tree two", "tree one"])) == CHAIN


def test_every_step_that_wrote_a_tree_made_it() -> None:
    again = link("engine@three", ["weights"], ["engine two"])
    assert makers([*CHAIN, again], "engine two") == (CHAIN[2], again)
    assert makers(CHAIN, "strange") == ()


def test_unknown_tree_has_no_ancestors() -> None:
    assert ancestry(CHAIN, ["strange"]) == ()


def test_links_in_a_circle_end() -> None:
    circle = [link("a", ["y"], ["x"]), link("b", ["x"], ["y"])]
    assert len(ancestry(circle, ["x"])) == 2


@pytest.mark.parametrize("data", [b"", b"{}", b'[{"step": "a"}]', json.dumps([1]).encode()])
def test_chain_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigurationError, match="is not a list of links"):
        parse_chain(data)
