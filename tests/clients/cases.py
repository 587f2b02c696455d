"""Cases of one client: a program of that client's environment runs all of them and prints JSON.

Each result is {"value": …} or {"error": TYPE, "message": TEXT}. Only the standard library is used.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

FRANCE = "What is the capital of France?"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PERSON_REQUEST = "Ada Lovelace is 36 years old. Give her name and age as JSON."
WEATHER = "What is the weather in Paris?"
WEATHER_PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather in a city",
        "parameters": WEATHER_PARAMETERS,
    },
}
COUNT = "Count from 1 to 10."

_cases: dict[str, Callable[[], Any]] = {}


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    """Add a case; its name is the function's."""
    _cases[function.__name__] = function
    return function


def refused(what: Callable[[], Any]) -> dict[str, Any]:
    """Return type and text of the error that a call raises."""
    try:
        value = what()
    except Exception as error:
        return {"type": type(error).__name__, "text": str(error)}
    return {"type": None, "text": repr(value)}


def _outcome(function: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": function()}
    except Exception as error:
        traceback.print_exc()
        return {"error": type(error).__name__, "message": str(error)[:2000]}


def main() -> None:
    """Run all cases, or those named in the arguments after the URL."""
    names = sys.argv[2:] or list(_cases)
    results = {name: _outcome(_cases[name]) for name in names}
    sys.stdout.write("\nRESULTS " + json.dumps(results) + "\n")
