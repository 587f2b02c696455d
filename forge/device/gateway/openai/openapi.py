"""The description of the API: /openapi.json, and /docs for people.

Both are made of the models that read the requests. A page of another origin is never asked for:
a device may have no network.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from forge.device.gateway.openai import parameters
from forge.device.gateway.openai.answers import documents
from forge.device.gateway.openai.embeddings import EmbeddingsRequest
from forge.device.gateway.openai.messages import IGNORED
from forge.device.gateway.openai.protocol import ChatRequest, CompletionRequest
from forge.device.gateway.openai.responses import ResponsesRequest
from forge.device.gateway.openai.tokens import DetokenizeRequest, TokenizeRequest

__all__ = ["Operation", "description", "openapi_routes"]

_VERSION: Final = "3.1.0"
_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
_STYLE: Final = """
body { font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
td, th { text-align: left; vertical-align: top; padding: .2em .8em .2em 0 }
code { white-space: nowrap }
"""
_BOUNDS: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}
_ERRORS: Final = {
    400: "the request is not valid, or the model refuses it",
    401: "the API key is missing or not valid",
    429: "the queue is full; see Retry-After",
    502: "the model failed",
    503: "no bundle is active; see Retry-After",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        path: with parameters in braces.
        summary: what it does.
        answer: the model of the answer.
        request: the model of the body; None for GET.
        event: the model of an event of a stream; None: it is described by the summary.
        streams: whether an answer may be a stream.
    """

    path: str
    summary: str
    answer: type[BaseModel] | None
    request: type[BaseModel] | None = None
    event: type[BaseModel] | None = None
    streams: bool = False


_OPERATIONS: Final = (
    Operation(
        "/v1/chat/completions",
        "Answer a conversation",
        documents.ChatCompletion,
        ChatRequest,
        documents.ChatChunk,
        streams=True,
    ),
    Operation(
        "/v1/completions",
        "Continue a text; no chat template is applied",
        documents.TextCompletion,
        CompletionRequest,
        documents.TextCompletion,
        streams=True,
    ),
    Operation(
        "/v1/responses",
        "Answer a conversation; a stream has the events of OpenAI's Responses API",
        documents.ResponseDocument,
        ResponsesRequest,
        streams=True,
    ),
    Operation(
        "/v1/embeddings",
        "Vectors of texts, by the embedding model of the bundle if it holds one",
        documents.EmbeddingList,
        EmbeddingsRequest,
    ),
    Operation("/v1/models", "List the active models", documents.ModelList),
    Operation("/v1/models/{name}", "Describe an active model", documents.ModelCard),
    Operation("/tokenize", "Tokens of a text or of messages", documents.Tokenized, TokenizeRequest),
    Operation("/v1/tokenize", "As /tokenize", documents.Tokenized, TokenizeRequest),
    Operation("/detokenize", "Text of tokens", documents.Detokenized, DetokenizeRequest),
    Operation("/v1/detokenize", "As /detokenize", documents.Detokenized, DetokenizeRequest),
    Operation("/health/live", "200 while the process answers", None),
    Operation("/health/ready", "200 while a bundle serves, else 503", None),
)


def openapi_routes(more: Iterable[Operation] = ()) -> list[Route]:
    """Return the routes of the description; `more` are the operations of other modules."""
    operations = (*_OPERATIONS, *more)

    @cache
    def described() -> dict[str, Any]:
        return description(operations)

    async def document(_: Request) -> Response:
        return JSONResponse(described())

    async def page(_: Request) -> Response:
        return HTMLResponse(_page(described()))

    return [Route("/openapi.json", document), Route("/docs", page)]


def description(operations: Iterable[Operation] = _OPERATIONS) -> dict[str, Any]:
    """Return the OpenAPI document."""
    operations = tuple(operations)
    schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        method = "post" if one.request else "get"
        paths.setdefault(one.path, {})[method] = _operation(one)
    return {
        "openapi": _VERSION,
        "info": {"title": "Forge device", "version": "1", "summary": "An AI model on a device"},
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {_JSON: _content(one.answer)}
    if one.streams:
        content[_EVENTS] = _content(one.event)
    errors = {
        str(status): {"description": text, "content": {_JSON: _content(documents.Error)}}
        for status, text in _ERRORS.items()
        if one.request or status == 401  # noqa: PLR2004
    }
    found: dict[str, Any] = {
        "summary": one.summary,
        "operationId": one.path.strip("/").replace("/", "_").replace("{", "").replace("}", ""),
        "responses": {"200": {"description": one.summary, "content": content}, **errors},
    }
    if one.request:
        found["requestBody"] = {"required": True, "content": {_JSON: _content(one.request)}}
    if "{name}" in one.path:
        schema = {"type": "string"}
        found["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": schema}]
    return found


def _content(model: type[BaseModel] | None) -> dict[str, Any]:
    """Return a reference to a schema. The models' names differ, requests' from answers' too."""
    return {"schema": {"$ref": f"#/components/schemas/{model.__name__}"} if model else {}}


def _schemas(operations: tuple[Operation, ...]) -> dict[str, Any]:
    requests = [one.request for one in operations if one.request]
    answers = [one.answer for one in operations if one.answer]
    events = [one.event for one in operations if one.event]
    used = dict.fromkeys(answers + events + [documents.Error])
    found = {**_of(requests, "validation"), **_of(used, "serialization")}
    found["Message"]["properties"] |= {name: {} for name in IGNORED}
    for request in requests:
        known: parameters.Known = getattr(request, "known", {})
        _open(found[request.__name__], known)
    return found


def _of(models: Iterable[type[BaseModel]], mode: JsonSchemaMode) -> dict[str, Any]:
    pairs = [(model, mode) for model in dict.fromkeys(models)]
    _, schema = models_json_schema(pairs, ref_template="#/components/schemas/{model}")
    return dict(schema.get("$defs", {}))


def _open(schema: dict[str, Any], known: parameters.Known) -> None:
    """Add what a request may have besides its fields: null for each, and neutral values."""
    required = schema.get("required", [])
    for name, one in schema["properties"].items():
        if name not in required:
            schema["properties"][name] = {"anyOf": [one, {"type": "null"}]}
    if "top_k" in schema["properties"]:
        schema["properties"]["top_k"]["anyOf"].append({"const": -1, "description": "all"})
    for name, neutral in known.items():
        if neutral is None:
            schema["properties"].setdefault(name, {"description": "accepted and ignored"})
        else:
            values = {"enum": [*neutral, None], "description": "another value is refused"}
            schema["properties"].setdefault(name, values)


def _page(document: dict[str, Any]) -> str:
    """Return the description as HTML without scripts."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Forge device: API</title>",
        f"<style>{_STYLE}</style>",
        "<h1>API of this device</h1><p>For programs: <a href=/openapi.json>openapi.json</a></p>",
    ]
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            title = f"{method.upper()} {path}"
            parts.append(f"<h2><code>{html.escape(title)}</code></h2>")
            parts.append(f"<p>{html.escape(operation['summary'])}</p>")
            body = operation.get("requestBody")
            if body:
                name = body["content"][_JSON]["schema"]["$ref"].rpartition("/")[2]
                parts.append(_table(schemas[name]))
    return "\n".join(parts)


def _table(schema: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(_kind(one))}</td></tr>"
        for name, one in schema["properties"].items()
    )
    return f"<table><tr><th>Parameter</th><th>Value</th></tr>{rows}</table>"


def _kind(one: dict[str, Any]) -> str:
    """Return in words what a value may be."""
    if "anyOf" in one:
        kinds = [_kind(each) for each in one["anyOf"] if each.get("type") != "null"]
        said = " or ".join(dict.fromkeys(kinds))
    elif "$ref" in one:
        said = str(one["$ref"]).rpartition("/")[2]
    elif "enum" in one:
        said = "only " + " or ".join(str(each) for each in one["enum"])
    elif one.get("type") == "array":
        said = f"list of {_kind(one.get('items', {}))}"
    else:
        said = str(one.get("type", "any"))
    bounds = [text.format(one[name]) for name, text in _BOUNDS.items() if name in one]
    described = [str(one["description"])] if "description" in one else []
    return "; ".join([said, *bounds, *described])
