"""The life of the keys: made, watched, renewed, replaced.

`init` and `rotate` need the offline keys (root, targets); `refresh` needs the online key, and the
others only for what is near its expiry.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forge.errors import UsageError
from forge.files import fsync_directory, write_durably
from forge.release.keyring import Expiry, Keyring, KeysFile, Role
from forge.store.disk import disk_errors

if TYPE_CHECKING:
    from forge.store.objects import Objects

__all__ = ["init", "refresh", "rotate"]

_MAX_ROOT_KEYS: Final = 16
_ROLES: Final[tuple[Role, ...]] = ("targets", "bundles", "channels", "online", "model")
_NO_URIS: Final[Mapping[str, str]] = {}


def init(  # noqa: PLR0913 - all that a set of keys is made from
    folder: Path,
    *,
    passphrase: str,
    now: datetime,
    root_keys: int = 3,
    threshold: int = 2,
    expiry: Expiry | None = None,
    store_url: str | None = None,
    uris: Mapping[str, str] = _NO_URIS,
) -> KeysFile:
    """Make every key and the first signed root and targets metadata.

    All or nothing: the folder appears complete or not at all, and one that holds anything is
    never touched.

    Args:
        folder: where; outside the store and not tracked by git.
        passphrase: encrypts every private key.
        now: time of the signatures.
        root_keys: how many root keys.
        threshold: how many of them must sign a root.
        expiry: life of each role's signatures.
        store_url: the store that is going to be published to, if it is known.
        uris: by name of the key: keys that are in a KMS or HSM already, and are not made.

    Raises:
        UsageError: keys are there already, the place is bad, or the numbers are; a key of `uris`
            cannot be used, or there is no key of that name.
        StoreError: the disk is full, read-only or refuses.
    """
    with disk_errors(f"The keys folder {folder} cannot be made", folder):
        return _init(
            folder, passphrase=passphrase, now=now, root_keys=root_keys, threshold=threshold,
            expiry=expiry or Expiry(), store_url=store_url, uris=uris,
        )  # fmt: skip


def _init(  # noqa: PLR0913 - as init
    folder: Path,
    *,
    passphrase: str,
    now: datetime,
    root_keys: int,
    threshold: int,
    expiry: Expiry,
    store_url: str | None,
    uris: Mapping[str, str],
) -> KeysFile:
    from forge.release import ceremony
    from forge.release.private_keys import check_folder, make_key

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} is not empty",
            why="keys are never overwritten",
            hint=f"see it with 'forge keys status --keys {folder}', or choose another folder",
        )
    if not 1 <= threshold <= root_keys <= _MAX_ROOT_KEYS:
        raise UsageError(f"{threshold} of {root_keys} root keys is not a threshold")
    if not passphrase:
        raise UsageError("The passphrase of the keys is empty")
    check_folder(folder, store_url)
    names: list[tuple[str, Role]] = [(f"root-{n}", "root") for n in range(1, root_keys + 1)]
    names += [(role, role) for role in _ROLES]
    if strange := sorted(set(uris) - {name for name, _ in names}):
        known = ", ".join(name for name, _ in names)
        raise UsageError(f"There is no key {strange[0]!r}", hint=f"name one of: {known}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    secret = passphrase.encode()
    building = Path(tempfile.mkdtemp(prefix=".forge-keys-", dir=folder.parent))
    try:
        entries = tuple(
            make_key(building, name, role, lambda: secret, uris.get(name)) for name, role in names
        )
        file = KeysFile(
            created=f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            expiry_days=expiry,
            keys=entries,
        )
        write_durably(building / "keys.json", file.encode())
        ring = Keyring(building, lambda: passphrase)
        root = ceremony.first_root(ring, threshold, now)
        ceremony.first_targets(ring, root, now)
        building.rename(folder)
        fsync_directory(folder.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return file


def refresh(objects: Objects, ring: Keyring, *, now: datetime, force: bool = False) -> bool:
    """Sign anew what is past half its life, and finish what was begun in the keys folder.

    Roles whose keys are not at hand are left as they are; `status` says when that becomes urgent.

    Args:
        objects: the store.
        ring: the keys; root and targets only if those are due.
        now: time of the signatures.
        force: sign snapshot and timestamp even if they are fresh.

    Returns:
        Whether anything was signed.

    Raises:
        TrustError: the store holds what the trusted keys did not sign.
        ConflictError: another publisher was faster each time.
        UsageError, StoreError: a key is missing; the store is out of reach.
    """
    from forge.release import ceremony, repository
    from forge.release.state import load_state

    state = load_state(objects, ring)
    ceremony.adopt(ring, objects, state)
    if ceremony.renew_old(ring, state, now):
        state = load_state(objects, ring)
    return repository.update(objects, ring, lambda _: None, now=now, always=force)


def rotate(
    objects: Objects,
    ring: Keyring,
    role: Role,
    *,
    now: datetime,
    replace: str | None = None,
    revoke: bool = False,
    uri: str | None = None,
) -> str:
    """Replace a role's key by a new one; clients with the old root follow by themselves.

    For online and targets two roots are signed: one with both keys, one without the old. Between
    them everything is signed with the new key, so at no moment a client refuses. Killed anywhere,
    `refresh` finishes it.

    Args:
        objects: the store.
        ring: the keys; root and targets are needed, whatever the role.
        role: whose key.
        now: time of the signatures.
        replace: name of the root key to replace, for example root-2; for other roles not used.
        revoke: for bundles and model: do not believe proofs of the old key any more.
        uri: a key that is in a KMS or HSM already; None: a new key file.

    Returns:
        Name of the new key.

    Raises:
        UsageError: a key is missing, `replace` names none, or the key at `uri` cannot be used.
        TrustError, ConflictError, StoreError: as `refresh`.
    """
    from forge.release import ceremony, repository
    from forge.release.state import load_state

    state = load_state(objects, ring)
    ceremony.adopt(ring, objects, state)
    name = ceremony.replace_key(ring, state, role, now, replace=replace, revoke=revoke, uri=uri)
    repository.update(objects, ring, lambda _: None, now=now, always=True)
    return name
