# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""A JSON Schema as alternatives without references: each keyword obeyed, or refused by name. Pure.

Draft 2020-12, with draft-07's `definitions`, `items` as a list and `additionalItems`, and
OpenAPI's `nullable`. `expand` resolves $ref, allOf, anyOf and oneOf of one place, and joins the
keywords that hold there; the places inside of it are expanded when they are needed, so a schema may
contain itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from json_facts import Facts, Place, Places, check_keywords, refuse
from turns import RequestError

MAX_ALTERNATIVES = 64  # of one place
MAX_STEPS = 50_000  # of all places
RECURSION = 5  # how often a schema that contains itself is entered


class Schema:
    """One JSON Schema.

    Args:
        root: the schema.
    """

    def __init__(self, root: Any) -> None:
        self.root = Place(root, "#")
        self.reasons: list[tuple[str, str]] = []  # why places allow nothing
        self.recursive: dict[str, bool] = {}
        self.expanded: dict[tuple[str | int, ...], list[Facts]] = {}
        self.steps = 0

    def impossible(self, pointer: str, reason: str) -> None:
        """Record why nothing is allowed at a place."""
        self.reasons.append((pointer, reason))

    def expand(self, places: Places, depth: int = 0) -> list[Facts]:
        """Return the alternatives of a place. Raises RequestError for what cannot be obeyed."""
        key = (*(one.pointer for one in places), depth)
        if key not in self.expanded:
            found = []
            for chosen in self._alternatives(list(places), _Chosen((), depth, ())):
                found.append(self._facts(chosen))
                if len(found) > MAX_ALTERNATIVES:
                    reason = f"it has more than {MAX_ALTERNATIVES} alternatives"
                    raise refuse(places[0].pointer, reason)
            self.expanded[key] = found
        return self.expanded[key]

    def resolve(self, place: Place) -> Place:
        """Return the place that a $ref names."""
        reference = place.schema["$ref"]
        pointer = f"{place.pointer}/$ref"
        if not isinstance(reference, str) or not (reference + "/").startswith("#/"):
            raise refuse(pointer, "a $ref must begin with #/, for a place in the schema itself")
        found = self.root
        for part in reference.split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            try:
                key = int(name) if isinstance(found.schema, list) and name.isdigit() else name
                found = found.at(key)
            except (KeyError, IndexError, TypeError, ValueError):
                raise refuse(pointer, f"there is no {reference}") from None
        return found

    def is_recursive(self, place: Place) -> bool:
        """Return whether a schema contains itself."""
        if place.pointer not in self.recursive:
            waiting, seen = [place], set()
            self.recursive[place.pointer] = False
            while waiting:
                for target in self._targets(waiting.pop()):
                    if target.pointer == place.pointer:
                        self.recursive[place.pointer] = True
                    if target.pointer not in seen:
                        seen.add(target.pointer)
                        waiting.append(target)
        return self.recursive[place.pointer]

    def _targets(self, place: Place) -> Iterator[Place]:
        """Yield the places that the references inside of a place name."""
        for reference in _references(place):
            with contextlib.suppress(RequestError):  # it may be a value, or a place never asked for
                yield self.resolve(reference)

    def _alternatives(self, waiting: list[Place], chosen: _Chosen) -> Iterator[_Chosen]:
        """Yield the schemas that hold together, for each choice of anyOf and oneOf."""
        choices: list[tuple[str, Place]] = []
        while waiting:
            place = waiting.pop(0)
            self._count_step(place)
            if place.schema is True or place.pointer in chosen.seen:
                continue
            if place.schema is False:
                self.impossible(place.pointer, "false allows nothing")
                return
            check_keywords(place)
            chosen = replace(chosen, places=(*chosen.places, place))
            if "$ref" in place.schema:
                target = self.resolve(place)
                if _is_inside(place, target):
                    raise refuse(f"{place.pointer}/$ref", "it refers to itself at the same place")
                chosen = replace(chosen, depth=chosen.depth + self.is_recursive(target))
                if chosen.depth > RECURSION:
                    reason = f"it contains itself more than {RECURSION} times"
                    self.impossible(place.pointer, reason)
                    return
                waiting.append(replace(target, origin=place))
            waiting += _branches(place, "allOf")
            choices += [(name, place) for name in ("anyOf", "oneOf") if name in place.schema]
        yield from self._choose(choices, chosen)

    def _count_step(self, place: Place) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise refuse(place.pointer, "the schema has too many alternatives")

    def _choose(self, choices: list[tuple[str, Place]], chosen: _Chosen) -> Iterator[_Chosen]:
        if not choices:
            yield chosen
            return
        (name, place), *others = choices
        branches = _branches(place, name)
        for branch in branches:
            rivals = [one for one in branches if one is not branch] if name == "oneOf" else []
            more = replace(chosen, rivals=(*chosen.rivals, *rivals))
            for found in self._alternatives([branch], more):
                yield from self._choose(others, found)

    def _facts(self, chosen: _Chosen) -> Facts:
        pointer = chosen.places[0].pointer if chosen.places else "#"
        facts = Facts(pointer, chosen.depth, chosen.places, chosen.rivals)
        for place in chosen.places:
            facts.join(place)
        return facts


@dataclass(frozen=True)
class _Chosen:
    """Schemas that hold together."""

    places: Places
    depth: int
    rivals: Places

    @property
    def seen(self) -> set[str]:
        """Where they are."""
        return {one.pointer for one in self.places}


def _is_inside(place: Place | None, target: Place) -> bool:
    """Return whether a schema was reached from the one that it refers to, at the same place."""
    while place is not None:
        if place.pointer == target.pointer:
            return True
        place = place.origin
    return False


def _branches(place: Place, name: str) -> list[Place]:
    if name not in place.schema:
        return []
    branches = place.schema[name]
    if not isinstance(branches, list) or not branches:
        raise refuse(f"{place.pointer}/{name}", "must be a list of schemas")
    return [replace(place.at(name, index), origin=place) for index in range(len(branches))]


def _references(place: Place) -> Iterator[Place]:
    """Yield each schema inside of a place that has a $ref."""
    if isinstance(place.schema, dict):
        if isinstance(place.schema.get("$ref"), str):
            yield place
        for name in place.schema:
            yield from _references(place.at(name))
    elif isinstance(place.schema, list):
        for index in range(len(place.schema)):
            yield from _references(place.at(index))
