"""Why a request gets no answer, with its HTTP status and when to come back."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi.responses import JSONResponse

from forge.canonical import Json
from forge.errors import ForgeError, UsageError

__all__ = [
    "BusyError",
    "LateError",
    "RefusedError",
    "UnavailableError",
    "UnknownKeyError",
    "explain",
    "headers_of",
    "json_error",
    "openai_body",
    "openai_error",
    "status_of",
]

_OPENAI_PATHS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/models")
_KINDS: Final = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


class RefusedError(ForgeError):
    """Refused by the gateway itself, before the model said anything.

    Attributes:
        status: of HTTP.
        retry_after_s: when asking again may help; 0 says nothing about it.
    """

    status = HTTPStatus.BAD_GATEWAY

    def __init__(self, what: str, *, why: str = "", hint: str = "", retry_after_s: int = 0) -> None:
        super().__init__(what, why=why, hint=hint)
        self.retry_after_s = retry_after_s


class BusyError(RefusedError):
    """As many requests as may be are in Triton, and enough wait."""

    status = HTTPStatus.TOO_MANY_REQUESTS


class UnavailableError(RefusedError):
    """No slot serves."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class LateError(RefusedError):
    """The answer was not complete in time."""

    status = HTTPStatus.GATEWAY_TIMEOUT


class UnknownKeyError(RefusedError):
    """No API key, or one that is not known here."""

    status = HTTPStatus.UNAUTHORIZED


def status_of(error: ForgeError) -> HTTPStatus:
    """The status that says whose fault it is: 4xx the asker's, 5xx the device's."""
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, UsageError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.BAD_GATEWAY


def headers_of(error: ForgeError) -> dict[str, str]:
    """Retry-After, where asking again may help."""
    if isinstance(error, RefusedError) and error.retry_after_s:
        return {"Retry-After": str(error.retry_after_s)}
    return {}


def explain(error: ForgeError) -> dict[str, Json]:
    """The body of a refusal of this API."""
    message = f"{error.what}: {error.why}" if error.why else error.what
    return {"error": {"message": message, "hint": error.hint}}


def openai_error(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Json]:
    """The body of a refusal as OpenAI's clients read it."""
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = _KINDS.get(HTTPStatus(status), "server_error" if server else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def openai_body(error: ForgeError, status: int | None = None) -> dict[str, Json]:
    """The same for an error; the hint stands in the message, since clients show nothing else."""
    message = f"{error.what}: {error.why}" if error.why else error.what
    text = f"{message} ({error.hint})" if error.hint else message
    return openai_error(status or status_of(error), text)


def json_error(path: str, error: ForgeError, status: int | None = None) -> JSONResponse:
    """The refusal in the shape that the path's clients read."""
    code = status or status_of(error)
    openai = path.startswith(_OPENAI_PATHS)
    body = openai_body(error, code) if openai else explain(error)
    return JSONResponse(body, status_code=code, headers=headers_of(error))
