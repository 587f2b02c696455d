"""Sign and verify TUF metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp

from forge.errors import ForgeError, TrustError
from forge.trust import layout

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

__all__ = ["holds", "meta_file", "other_keys_error", "sign", "verify"]


def sign(document: T, signers: list[Signer], delegator: Root | Targets, role: str) -> bytes:
    """Return the signed metadata bytes of `document`.

    Args:
        document: the metadata.
        signers: sign it; no other signature is added.
        delegator: defines the keys and the threshold of `role`.
        role: name of the role.

    Raises:
        UnsignedMetadataError: the signatures are not valid under `delegator`, so clients would
            refuse the metadata.
        UsageError: a KMS or HSM did not sign.
        ForgeError: the metadata is larger than clients accept.
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
            f"The {role} metadata would have {len(data)} bytes; clients accept {limit}",
            hint="start a new store for the next releases",
        )
    return data


def verify(
    delegator: Root | Targets,
    role: str,
    metadata: Metadata[Root] | Metadata[Timestamp] | Metadata[Snapshot] | Metadata[Targets],
) -> None:
    """Raise UnsignedMetadataError if `metadata` is not signed as `delegator` requires."""
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)


def holds(delegator: Root | Targets, role: str, metadata: Metadata[Targets]) -> bool:
    """Return whether `metadata` is signed as `delegator` requires."""
    try:
        verify(delegator, role, metadata)
    except UnsignedMetadataError:
        return False
    return True


def meta_file(version: int, data: bytes) -> MetaFile:
    """Return the entry of this metadata in a snapshot or timestamp."""
    return MetaFile.from_data(version, data, ["sha256"])


def other_keys_error(name: str, url: str) -> TrustError:
    """Return the error for an existing object that these keys did not sign."""
    return TrustError(
        f"{name} in {url} was signed with other keys",
        hint="use the keys that this store was first published with, or an empty store",
    )
