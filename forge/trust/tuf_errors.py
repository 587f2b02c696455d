"""Translate the exceptions of python-tuf into Forge errors.

An attack or invalid metadata is a TrustError; a network or server failure is a StoreError.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from forge.errors import ForgeError, StoreError, TrustError

__all__ = ["tuf_errors"]

_KEEP: Final = "nothing was changed"
_ASK: Final = "contact the publisher; if the store is a mirror, compare it with its origin"


@contextlib.contextmanager
def tuf_errors(place: str) -> Iterator[None]:
    """Raise exceptions of python-tuf in the body as TrustError or StoreError.

    Args:
        place: URL of the store, for the message.
    """
    from tuf.api import exceptions

    try:
        yield
    except (exceptions.RepositoryError, exceptions.DownloadError) as error:
        raise _explain(error, place) from None


def _explain(error: Exception, place: str) -> ForgeError:
    from tuf.api import exceptions

    why = str(error)
    match error:
        case exceptions.ExpiredMetadataError():
            what = f"The release metadata in {place} has expired"
            hint = (
                f"the publisher must run 'forge keys refresh'; "
                f"check this machine's clock with 'date -u'; {_KEEP}"
            )
        case exceptions.UnsignedMetadataError():
            what = f"The release metadata in {place} is not signed by enough trusted keys"
            hint = f"{_ASK}; {_KEEP}"
        case exceptions.BadVersionNumberError():
            what = (
                f"The release metadata in {place} is older than the metadata seen before, "
                "or inconsistent"
            )
            hint = f"{_ASK}; {_KEEP}"
        case exceptions.LengthOrHashMismatchError():
            what = f"The release metadata in {place} is inconsistent or altered"
            hint = f"{_ASK}; {_KEEP}"
        case exceptions.DownloadLengthMismatchError():
            what = f"{place} sent more bytes than this metadata may have"
            hint = f"{_ASK}; {_KEEP}"
        case exceptions.DownloadHTTPError():
            hint = "try again; if it keeps failing, the publisher must run 'forge keys refresh'"
            return StoreError(f"Release metadata is missing in {place}", why=why, hint=hint)
        case exceptions.DownloadError():
            return StoreError(
                f"Could not read {place}", why=why, hint="check the network, then try again"
            )
        case _:
            what = f"The release metadata in {place} is not valid"
            hint = f"{_ASK}; {_KEEP}"
    return TrustError(what, why=why, hint=hint)
