"""What is wrong with a request, in the words of the API. Pure."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from forge.device.gateway.openai.parameters import UNSUPPORTED

__all__ = ["RequestProblem", "problem"]

_WORDS: Final = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "extra_forbidden": "is not a valid parameter of this device",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be an integer",
    "int_parsing_size": "is too large",
    "int_type": "must be an integer",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be a string",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "tuple_type": "must be a list",
}
_CODES: Final = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "no_content": "missing_required_parameter",
    "unsupported_value": "unsupported_value",
    UNSUPPORTED: UNSUPPORTED,
}


class RequestProblem(BaseModel):
    """What is wrong with a request, in OpenAI's terms."""

    message: str
    param: str | None
    code: str


def problem(error: ValidationError) -> RequestProblem:
    """Return the first problem."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind, context = first["type"], first.get("ctx", {})
    code = _CODES.get(kind, "invalid_value")
    if kind == UNSUPPORTED:
        return RequestProblem(message=first["msg"], param=str(context["name"]), code=code)
    param = (
        str(context["param"])
        if "param" in context
        else _path((*first["loc"], *([context["field"]] if "field" in context else ())))
    )
    return RequestProblem(message=_message(first, param), param=param or None, code=code)


def _message(first: ErrorDetails, param: str) -> str:
    kind, context = first["type"], first.get("ctx", {})
    if kind == "json_invalid":
        return f"The body is not valid JSON: {context['error']}"
    words = _WORDS.get(kind) if context.get("min_length") != 1 else "must not be empty"
    said = words.format_map(context) if words else first["msg"].removeprefix("Value error, ")
    subject = param or "The body"
    return (
        f"{subject} {said}" if said.startswith(("must", "is ", "belongs")) else f"{subject}: {said}"
    )


def _path(loc: tuple[Any, ...]) -> str:
    """Return the place as OpenAI writes it: messages[0].content[1]."""
    path = ""
    for one in loc:
        if isinstance(one, int):
            path += f"[{one}]"
        elif str(one).isidentifier():  # others are the names of a union's branches
            path += f".{one}" if path else str(one)
    return path
