"""What a model says of itself: the answer to the input format `describe`."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.device.shared.upstream import ActiveServer
from forge.errors import StepFailedError, UsageError
from forge.serving.triton.client import endpoint, event_parser
from forge.serving.triton.request import GenerateRequest, HttpTimeouts
from forge.serving.triton.stream import Token

if TYPE_CHECKING:
    from forge.serving.triton.http_pool import TritonConnectionPool

__all__ = ["ModelDescription", "describe"]

_REQUEST: Final = GenerateRequest("{}", input_format="describe")
_TIMEOUTS: Final = HttpTimeouts(connect=5.0, first=5.0, gap=5.0)


class ModelDescription(BaseModel):
    """What a model can do besides what its inputs say; a later version may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tool_calls: str | None = Field(
        default=None, description="format of its calls of tools; null: it makes none"
    )


async def describe(pool: TritonConnectionPool, serving: ActiveServer) -> ModelDescription:
    """Ask the model, which answers without its engine; one of an earlier version says nothing.

    Raises:
        StepFailedError: Triton or the model failed.
    """
    url = endpoint(serving.url, serving.model)
    body = json.dumps(_REQUEST.body()).encode()
    try:
        with closing(await pool.request("POST", url, body, _TIMEOUTS)) as response:
            await response.head()
            parser = event_parser(response.status, response.content_type)
            events = [event async for piece in response for event in parser.feed(piece)]
            parser.close()
        text = "".join(event.text for event in events if isinstance(event, Token))
        return ModelDescription.model_validate_json(text)
    except UsageError:  # it does not know the format
        return ModelDescription()
    except (OSError, ValidationError) as error:
        message = f"Model {serving.model!r} does not say what it can do"
        raise StepFailedError(message, why=str(error), hint="see Triton's log") from None
