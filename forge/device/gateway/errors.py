"""Errors of the API: HTTP status, Retry-After, and the JSON body.

Every error, on every path, has OpenAI's shape: {"error": {"message", "type", "param", "code"}}. On
the paths of Forge's own API the advice is apart, in `hint`; OpenAI's clients show the message only,
so on the others it is part of that.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse

from forge.canonical import Json
from forge.errors import ForgeError, UsageError
from forge.serving.sampling import Sampling

__all__ = [
    "GatewayError",
    "InvalidRequestError",
    "InvalidValueError",
    "ModelNotFoundError",
    "RequestTimeoutError",
    "ServiceUnavailableError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnsupportedParameterError",
    "explain",
    "headers_of",
    "json_error",
    "openai_body",
    "openai_error",
    "status_of",
]

_OWN_PATHS: Final = ("/v1/inference", "/v1/hardware", "/health", "/metrics")
_KINDS: Final = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
_CODES: Final = {
    HTTPStatus.BAD_REQUEST: "invalid_value",
    HTTPStatus.UNAUTHORIZED: "invalid_api_key",
    HTTPStatus.NOT_FOUND: "unknown_url",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_supported",
    HTTPStatus.REQUEST_TIMEOUT: "request_timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    HTTPStatus.MISDIRECTED_REQUEST: "misdirected_request",
    HTTPStatus.UNPROCESSABLE_ENTITY: "invalid_value",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_exceeded",
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
    HTTPStatus.BAD_GATEWAY: "model_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "service_unavailable",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout",
}
_PROMPTS: Final = {  # the parameter that is the prompt
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/responses": "input",
    "/v1/inference": "prompt",
}
# What a model says of a prompt that is too long: templates/shared/{model_io,embedding_batches}.py,
# edge-llm/model.py
_TOO_LONG: Final = re.compile(
    r"prompt (?:has (?P<given>\d+) tokens\b(?: in (?P<place>input\[\d+\]))?.*\bat most"
    r"|may have at most) (?P<most>\d+)"
)
_TOO_LONG_CODE: Final = "context_length_exceeded"
# A model begins what it says of a parameter with its name: templates/shared/sampling.py
_NAMED: Final = re.compile(r"(?P<name>[a-z_]+)(?P<sign>:| must\b)")
_INTERNAL_URL: Final = re.compile(
    r"https?://(?:127(?:\.\d{1,3}){3}|\[::1\]|localhost)(?::\d+)?(?:/[^\s,;)'\"]*)?"
)


class GatewayError(ForgeError):
    """An error of the gateway itself, before the model was involved.

    Attributes:
        status: of HTTP.
        retry_after_s: when a retry may help; 0 gives no advice.
        param: the parameter that is at fault.
        code: for programs; None: the status' own.
    """

    status = HTTPStatus.BAD_GATEWAY
    param: str | None = None
    code: str | None = None

    def __init__(self, what: str, *, why: str = "", hint: str = "", retry_after_s: int = 0) -> None:
        super().__init__(what, why=why, hint=hint)
        self.retry_after_s = retry_after_s


class TooManyRequestsError(GatewayError):
    """Triton has as many requests as it may have, and the queue is full."""

    status = HTTPStatus.TOO_MANY_REQUESTS


class ServiceUnavailableError(GatewayError):
    """No slot is active."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class RequestTimeoutError(GatewayError):
    """The answer was not complete in time."""

    status = HTTPStatus.GATEWAY_TIMEOUT


class UnauthorizedError(GatewayError):
    """The API key is missing or not valid."""

    status = HTTPStatus.UNAUTHORIZED


class InvalidRequestError(GatewayError):
    """A request of Forge's own API is not valid."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, message: str, *, param: str | None, code: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.param, self.code = param, code


class InvalidValueError(GatewayError):
    """A parameter has a value that the active model cannot take."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, param: str, must: str) -> None:
        super().__init__(f"{param} must {must}")
        self.param = param


class ModelNotFoundError(GatewayError):
    """No model of the active bundle is the one that is asked for, or does what is asked."""

    status = HTTPStatus.NOT_FOUND
    param = "model"
    code = "model_not_found"


class UnsupportedParameterError(GatewayError):
    """The active model does not support a sampling parameter."""

    status = HTTPStatus.BAD_REQUEST
    code = "unsupported_parameter"

    def __init__(self, param: str) -> None:
        hint = f"leave {param} out; which models support it: docs/reference/api.md"
        super().__init__(f"{param} is not supported by this device's model", hint=hint)
        self.param = param


def status_of(error: ForgeError) -> HTTPStatus:
    """Return the HTTP status: 4xx if the request is at fault, 5xx if the device is."""
    if isinstance(error, GatewayError):
        return error.status
    if isinstance(error, UsageError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.BAD_GATEWAY


def headers_of(error: ForgeError) -> dict[str, str]:
    """Return Retry-After where a retry may help."""
    if isinstance(error, GatewayError) and error.retry_after_s:
        return {"Retry-After": str(error.retry_after_s)}
    return {}


def explain(error: ForgeError, status: int | None = None) -> dict[str, Json]:
    """Return the body of an error of Forge's own API."""
    body = openai_error(
        status or status_of(error), _said(error), param=_param(error), code=_code(error)
    )
    return {"error": {**body["error"], "hint": _without_urls(error.hint)}}


def openai_error(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> dict[str, dict[str, Json]]:
    """Return the body of an error as OpenAI's clients read it."""
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = _KINDS.get(HTTPStatus(status), "server_error" if server else "invalid_request_error")
    code = code or _CODES.get(HTTPStatus(status))
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def openai_body(
    error: ForgeError, status: int | None = None, path: str = ""
) -> dict[str, dict[str, Json]]:
    """Return it for an error; the hint is part of the message, since clients show only that."""
    status = status or status_of(error)
    message, hint = _said(error), _without_urls(error.hint)
    if too_long := _too_long(error):
        param = _PROMPTS.get(path)
        message = _context_length(too_long, too_long["place"] or param or "the prompt")
        return openai_error(status, message, param=param, code=_TOO_LONG_CODE)
    text = f"{message} ({hint})" if hint else message
    return openai_error(status, text, param=_param(error), code=_code(error))


def json_error(path: str, error: ForgeError, status: int | None = None) -> JSONResponse:
    """Return the response in the format of the path's API."""
    code = status or status_of(error)
    own = path.startswith(_OWN_PATHS)
    body = explain(error, code) if own else openai_body(error, code, path)
    return JSONResponse(body, status_code=code, headers=headers_of(error))


def _said(error: ForgeError) -> str:
    return _without_urls(f"{error.what}: {error.why}" if error.why else error.what)


def _without_urls(text: str) -> str:
    """Return the text without addresses of this machine, which are no business of a client."""
    return _INTERNAL_URL.sub("the model server", text)


def _param(error: ForgeError) -> str | None:
    if isinstance(error, GatewayError):
        return error.param
    named = _named(error)
    return named["name"] if named else None


def _code(error: ForgeError) -> str | None:
    if isinstance(error, GatewayError):
        return error.code
    if _too_long(error):
        return _TOO_LONG_CODE
    named = _named(error)
    return "unsupported_value" if named and named["sign"] == ":" else None


def _named(error: ForgeError) -> re.Match[str] | None:
    """Return the parameter of which the model says something."""
    found = _NAMED.match(error.why) if isinstance(error, UsageError) else None
    return found if found and found["name"] in Sampling.model_fields else None


def _too_long(error: ForgeError) -> re.Match[str] | None:
    return _TOO_LONG.search(_said(error)) if isinstance(error, UsageError) else None


def _context_length(found: re.Match[str], subject: str) -> str:
    """Return the message in the words by which clients of OpenAI's API recognise it."""
    most, given = found["most"], found["given"]
    least = f"{subject} resulted in {given} tokens" if given else f"{subject} resulted in more"
    return f"This model's maximum context length is {most} tokens for a prompt. However, {least}."
