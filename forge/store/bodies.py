"""Bodies of S3's answers, as they come and not slower than the least rate."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import IncompleteReadError, ResponseStreamingError
from urllib3.exceptions import HTTPError

from forge.store import stopping
from forge.store.pace import Patience

if TYPE_CHECKING:
    from botocore.response import StreamingBody

__all__ = ["BROKEN_OFF", "blocks"]

BROKEN_OFF: Final = (IncompleteReadError, ResponseStreamingError)
"""What `blocks` raises."""
_BLOCK: Final = 64 * 1024


def blocks(body: StreamingBody, length: int, patience: Patience) -> Iterator[bytes]:
    """The `length` bytes of a body, which is the caller's to close. Raises BROKEN_OFF."""
    # botocore's own `read` comes back when all of a block is there: one byte every 20 s is never
    # too slow for it.
    raw: Any = body._raw_stream  # type: ignore[attr-defined]  # noqa: SLF001
    left = length
    while left:
        stopping.check()
        begun = time.monotonic()
        try:
            block = raw.read1(min(left, _BLOCK))
        except (HTTPError, http.client.HTTPException, OSError) as error:
            raise ResponseStreamingError(error=error) from error
        if not block:
            raise IncompleteReadError(actual_bytes=length - left, expected_bytes=length)
        left -= len(block)
        patience.note(time.monotonic() - begun, len(block))
        if left and patience.left_s <= 0:
            slow = f"slower than {patience.bytes_per_s} bytes a second"
            raise ResponseStreamingError(error=slow)
        yield block
