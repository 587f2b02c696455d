"""How long each role's signatures still hold, and when to worry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from forge.errors import TrustError
from forge.release.index import later_roots, read_index
from forge.release.keyring import Keyring, Role
from forge.store.objects import Objects
from forge.trust import layout

__all__ = ["RoleStatus", "status"]

Alarm = Literal["ok", "due", "warning", "expired"]
# Below this share of its life a role should have been signed anew long ago (it is due at a half).
_WARNING_SHARE: Final = 0.25
_KEYS_OF: Final[dict[str, Role]] = {"snapshot": "online", "timestamp": "online"}


class RoleStatus(BaseModel):
    """One role's metadata and the keys that sign it."""

    model_config = ConfigDict(frozen=True)

    role: str
    version: int
    threshold: int
    keys: tuple[str, ...] = Field(description="names; a key id where the folder knows no name")
    signable: bool = Field(description="whether enough private keys are in this folder")
    expires: str = Field(description="RFC 3339, UTC")
    days_left: float
    alarm: Alarm = Field(
        description="due: the next refresh signs it; warning: a refresh was missed; "
        "expired: devices refuse updates"
    )


def status(objects: Objects, ring: Keyring, now: datetime) -> list[RoleStatus]:
    """Every role that is published, as devices see it; only root and targets for a new store.

    Raises:
        TrustError: the metadata cannot be read as such.
        StoreError: the store is out of reach.
    """
    index = read_index(objects)
    expires = dict(index.expires)
    versions = dict(index.versions)
    root = _newest_root(objects, ring)
    targets = _targets(objects, ring, versions.get("targets"))
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
            found.append(_row(role, versions[role], rule, expires[role], ring, now))
    return found


def _row(
    role: str, version: int, rule: Mapping[str, Any], expires: datetime, ring: Keyring,
    now: datetime,
) -> RoleStatus:  # fmt: skip
    key_role: Role = _KEYS_OF.get(role, role)  # type: ignore[arg-type]  # the rest are Roles
    named = {entry.keyid: entry for entry in ring.entries(key_role)}
    here = [named[keyid] for keyid in rule["keyids"] if keyid in named and ring.has(named[keyid])]
    left = expires - now
    share = left / ring.file.expiry_days.of(role)
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
    return "due" if share < 0.5 else "ok"  # noqa: PLR2004  half a life, as publish and refresh


def _newest_root(objects: Objects, ring: Keyring) -> dict[str, Any]:
    documents = ring.documents("root")
    if not documents:
        raise TrustError(f"{ring.folder} has no root metadata", hint="restore metadata/*.root.json")
    version, data = max(documents.items())
    for _, later in later_roots(objects, version + 1):
        data = later
    return _signed(data, "root")


def _targets(objects: Objects, ring: Keyring, version: int | None) -> dict[str, Any]:
    if version is not None:
        name = layout.metadata_name("targets", version)
        return _signed(
            objects.read(name, max_bytes=layout.max_metadata_bytes("targets")).data, name
        )
    documents = ring.documents("targets")
    if not documents:
        hint = "restore metadata/*.targets.json"
        raise TrustError(f"{ring.folder} has no targets metadata", hint=hint)
    return _signed(documents[max(documents)], "targets")


def _signed(data: bytes, what: str) -> dict[str, Any]:
    try:
        signed = json.loads(data)["signed"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrustError(f"The {what} metadata is not valid", why=str(error)) from None
    if not isinstance(signed, dict):
        raise TrustError(f"The {what} metadata is not valid")
    return signed
