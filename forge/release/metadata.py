"""TUF metadata as the publisher signs and verifies it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp

from forge.errors import ForgeError, TrustError
from forge.trust import layout

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

__all__ = ["foreign", "holds", "meta_file", "sign", "verify"]


def sign(document: T, signers: list[Signer], delegator: Root | Targets, role: str) -> bytes:
    """Metadata bytes of `document` with these signatures and no others.

    Raises:
        UnsignedMetadataError: a signature does not hold under `delegator`: nothing a client would
            refuse leaves this machine.
        UsageError: a KMS or HSM did not sign.
        ForgeError: larger than clients read.
    """
    metadata = Metadata(document)
    for signer in signers:
        try:
            metadata.sign(signer, append=True)
        except UnsignedMetadataError as error:
            if isinstance(error.__cause__, ForgeError):
                raise error.__cause__ from None
            raise
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    data = metadata.to_bytes()
    limit = layout.max_metadata_bytes(role)
    if len(data) > limit:
        raise ForgeError(
            f"The {role} metadata would have {len(data)} bytes, clients read {limit}",
            hint="start a new store for the next releases",
        )
    return data


def verify(
    delegator: Root | Targets,
    role: str,
    metadata: Metadata[Root] | Metadata[Timestamp] | Metadata[Snapshot] | Metadata[Targets],
) -> None:
    """Raise UnsignedMetadataError if `metadata` is not signed as `delegator` asks."""
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)


def holds(delegator: Root | Targets, role: str, metadata: Metadata[Targets]) -> bool:
    """Whether `metadata` is signed as `delegator` asks."""
    try:
        verify(delegator, role, metadata)
    except UnsignedMetadataError:
        return False
    return True


def meta_file(version: int, data: bytes) -> MetaFile:
    """How a snapshot or a timestamp refers to this metadata."""
    return MetaFile.from_data(version, data, ["sha256"])


def foreign(name: str, url: str) -> TrustError:
    """The error for an object that is there and is not ours."""
    return TrustError(
        f"{name} in {url} was made with other keys",
        hint="use the keys this store was started with, or an empty store",
    )
