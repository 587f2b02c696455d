"""Read response bodies of S3 in blocks, with a minimum rate."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import IncompleteReadError, ResponseStreamingError
from urllib3.exceptions import HTTPError

from forge.store import cancellation
from forge.store.backends.throttle import MinimumRate

if TYPE_CHECKING:
    from botocore.response import StreamingBody

__all__ = ["BROKEN_OFF", "blocks"]

BROKEN_OFF: Final = (IncompleteReadError, ResponseStreamingError)
"""Exceptions that `blocks` raises."""
_BLOCK: Final = 64 * 1024


def blocks(body: StreamingBody, length: int, minimum_rate: MinimumRate) -> Iterator[bytes]:
    """Yield the `length` bytes of a body; the caller closes it. Raises BROKEN_OFF."""
    # botocore's own `read` returns when a whole block has arrived, and its timeout is per byte: one
    # byte every 20 s would never time out.
    raw: Any = body._raw_stream  # type: ignore[attr-defined]  # noqa: SLF001
    left = length
    while left:
        cancellation.check()
        begun = time.monotonic()
        try:
            block = raw.read1(min(left, _BLOCK))
        except (HTTPError, http.client.HTTPException, OSError) as error:
            raise ResponseStreamingError(error=error) from error
        if not block:
            raise IncompleteReadError(actual_bytes=length - left, expected_bytes=length)
        left -= len(block)
        minimum_rate.note(time.monotonic() - begun, len(block))
        if left and minimum_rate.left_s <= 0:
            slow = f"slower than {minimum_rate.bytes_per_s} bytes per second"
            raise ResponseStreamingError(error=slow)
        yield block
