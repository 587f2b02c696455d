"""Report when each role's signatures expire, and which are overdue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from forge.errors import TrustError
from forge.release.keys.keyring import Keyring
from forge.release.keys.model import Role
from forge.release.repository.root_chain import check_same_root
from forge.release.repository.unverified_index import later_roots, read_index
from forge.store.backends.protocol import Objects
from forge.trust import layout

__all__ = ["RoleStatus", "status"]

Alarm = Literal["ok", "due", "warning", "expired"]
# A role is due at half its validity; below this share a refresh was missed.
_WARNING_SHARE: Final = 0.25
_KEYS_OF: Final[dict[str, Role]] = {"snapshot": "online", "timestamp": "online"}


class RoleStatus(BaseModel):
    """One role's metadata and the keys that sign it."""

    model_config = ConfigDict(frozen=True)

    role: str
    version: int
    threshold: int
    keys: tuple[str, ...] = Field(description="names; a key id if the folder does not know the key")
    signable: bool = Field(description="whether enough private keys are in this folder")
    expires: str = Field(description="RFC 3339, UTC")
    days_left: float
    alarm: Alarm = Field(
        description="due: the next refresh signs it; warning: a refresh was missed; "
        "expired: devices refuse updates"
    )


def status(objects: Objects, keyring: Keyring, now: datetime) -> list[RoleStatus]:
    """Return the status of every published role; of a new store, root and targets only.

    Args:
        objects: the store; its metadata is not verified here.
        keyring: names of the keys, and which private keys are available.
        now: time to compare the expiry with.

    Raises:
        TrustError: the metadata is not valid, the keys folder has none, or its root is not the
            store's.
        StoreError: the store cannot be reached.
    """
    index = read_index(objects)
    expires = dict(index.expires)
    versions = dict(index.versions)
    root = _newest_root(objects, keyring)
    targets = _targets(objects, keyring, versions.get("targets"))
    for role, document in (("root", root), ("targets", targets)):
        expires[role] = datetime.strptime(document["expires"], "%Y-%m-%dT%H:%M:%SZ").replace(
            tzinfo=UTC
        )
        versions[role] = document["version"]
    delegations = {one["name"]: one for one in targets["delegations"]["roles"]}
    found = []
    for role in ("root", "targets", "bundles", "channels", "snapshot", "timestamp"):
        if role in expires:
            rule = delegations.get(role) or root["roles"][role]
            found.append(_row(role, versions[role], rule, expires[role], keyring, now))
    return found


def _row(
    role: str, version: int, rule: Mapping[str, Any], expires: datetime, keyring: Keyring,
    now: datetime,
) -> RoleStatus:  # fmt: skip
    key_role: Role = _KEYS_OF.get(role, role)  # type: ignore[arg-type]  # the rest are Roles
    named = {entry.keyid: entry for entry in keyring.entries(key_role)}
    here = [
        named[keyid] for keyid in rule["keyids"] if keyid in named and keyring.has(named[keyid])
    ]
    left = expires - now
    share = left / keyring.file.expiry_days.of(role)
    return RoleStatus(
        role=role,
        version=version,
        threshold=rule["threshold"],
        keys=tuple(named[k].name if k in named else k[:12] for k in rule["keyids"]),
        signable=len(here) >= rule["threshold"],
        expires=f"{expires:%Y-%m-%dT%H:%M:%SZ}",
        days_left=left.total_seconds() / 86400,
        alarm=_alarm(share),
    )


def _alarm(share: float) -> Alarm:
    if share <= 0:
        return "expired"
    if share < _WARNING_SHARE:
        return "warning"
    return "due" if share < 0.5 else "ok"  # noqa: PLR2004  half of the validity, as publish and refresh


def _newest_root(objects: Objects, keyring: Keyring) -> dict[str, Any]:
    documents = keyring.documents("root")
    if not documents:
        raise TrustError(
            f"{keyring.folder} has no root metadata", hint="restore metadata/*.root.json"
        )
    check_same_root(objects, documents)
    version, data = max(documents.items())
    for _, later in later_roots(objects, version + 1):
        data = later
    return _signed(data, "root")


def _targets(objects: Objects, keyring: Keyring, version: int | None) -> dict[str, Any]:
    if version is not None:
        name = layout.metadata_name("targets", version)
        return _signed(
            objects.read(name, max_bytes=layout.max_metadata_bytes("targets")).data, name
        )
    documents = keyring.documents("targets")
    if not documents:
        hint = "restore metadata/*.targets.json"
        raise TrustError(f"{keyring.folder} has no targets metadata", hint=hint)
    return _signed(documents[max(documents)], "targets")


def _signed(data: bytes, what: str) -> dict[str, Any]:
    try:
        signed = json.loads(data)["signed"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrustError(f"The {what} metadata is not valid", why=str(error)) from None
    if not isinstance(signed, dict):
        raise TrustError(f"The {what} metadata is not valid")
    return signed
