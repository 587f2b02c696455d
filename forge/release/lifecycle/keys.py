"""Create the keys, sign metadata again before it expires, and replace keys.

`init` and `rotate` need the offline keys (root, targets); `refresh` needs the online key, and the
others only for metadata that is past half its validity.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forge.errors import UsageError
from forge.files import fsync_directory, write_durably
from forge.release.keys.keyring import Keyring
from forge.release.keys.model import Expiry, KeysFile, Role
from forge.release.keys.passphrases import OwnPassphrases, check_strength
from forge.store.disk_errors import disk_errors

if TYPE_CHECKING:
    from forge.store.backends.protocol import Objects

__all__ = ["init", "refresh", "rotate"]

_MAX_ROOT_KEYS: Final = 16
_ROLES: Final[tuple[Role, ...]] = ("targets", "bundles", "channels", "online", "model")
_NO_URIS: Final[Mapping[str, str]] = {}
_NO_OWN: Final = OwnPassphrases()


def init(  # noqa: PLR0913 - each is a choice of the publisher
    folder: Path,
    *,
    passphrase: str,
    now: datetime,
    root_keys: int = 3,
    threshold: int = 2,
    expiry: Expiry | None = None,
    store_url: str | None = None,
    uris: Mapping[str, str] = _NO_URIS,
    own: OwnPassphrases = _NO_OWN,
    names: Sequence[str] = (),
    disposable: bool = False,
) -> KeysFile:
    """Create every key and version 1 of root and targets.

    All or nothing: the folder appears complete or not at all. A folder that is not empty is never
    changed.

    Args:
        folder: the keys folder to create; outside the store and any checkout.
        passphrase: encrypts every private key.
        now: time of the signatures.
        root_keys: number of root keys.
        threshold: number of root keys that must sign a root.
        expiry: validity of each role's signatures.
        store_url: URL of the store that will be published to, if it is known.
        uris: URI by key name, of keys that a KMS or HSM already holds.
        own: passphrases of single keys.
        names: names that a passphrase must not consist of, such as the project's.
        disposable: the keys may be lost: allow a checkout's ignored folder.

    Returns:
        The contents of `keys.json`.

    Raises:
        UsageError: the folder is not empty, inside the store or a checkout; the threshold is not
            valid; a passphrase is empty or too weak; a key of `uris` cannot be used or has an
            unknown name.
        StoreError: the disk is full or read-only, or permission is denied.
    """
    with disk_errors(f"The keys folder {folder} cannot be created", folder):
        return _init(
            folder, passphrase=passphrase, now=now, root_keys=root_keys, threshold=threshold,
            expiry=expiry or Expiry(), store_url=store_url, uris=uris, own=own, names=names,
            disposable=disposable,
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
    own: OwnPassphrases,
    names: Sequence[str],
    disposable: bool,
) -> KeysFile:
    from forge.release.keys.create import make_key
    from forge.release.keys.folder_files import check_new
    from forge.release.keys.places import check_folder
    from forge.release.lifecycle import ceremony

    check_new(folder)
    if not 1 <= threshold <= root_keys <= _MAX_ROOT_KEYS:
        raise UsageError(f"{threshold} of {root_keys} root keys is not a threshold")
    if not passphrase:
        raise UsageError("The passphrase of the keys is empty")
    check_folder(folder, store_url, disposable=disposable)
    wanted: list[tuple[str, Role]] = [(f"root-{n}", "root") for n in range(1, root_keys + 1)]
    wanted += [(role, role) for role in _ROLES]
    if strange := sorted(({*uris} | {*own.files}) - {name for name, _ in wanted}):
        known = ", ".join(name for name, _ in wanted)
        raise UsageError(f"There is no key {strange[0]!r}", hint=f"use one of: {known}")
    secrets = {name: own.of(name) or passphrase for name, _ in wanted}
    for name in {*secrets} - {*uris}:  # a PIN of an HSM has the token's own limits
        check_strength(secrets[name], names)
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".forge-keys-", dir=folder.parent))
    try:
        entries = tuple(
            make_key(building, name, role, secrets[name].encode, uris.get(name))
            for name, role in wanted
        )
        file = KeysFile(
            created=f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            expiry_days=expiry,
            keys=entries,
        )
        write_durably(building / "keys.json", file.encode())
        keyring = Keyring(building, lambda: passphrase, own)
        root = ceremony.first_root(keyring, threshold, now)
        ceremony.first_targets(keyring, root, now)
        building.rename(folder)
        fsync_directory(folder.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return file


def refresh(objects: Objects, keyring: Keyring, *, now: datetime, force: bool = False) -> bool:
    """Sign metadata that is past half its validity, and publish what only the keys folder has.

    Roles whose keys are missing stay as they are; `status` reports when that becomes urgent.

    Args:
        objects: the store.
        keyring: the keys; those of root and targets are needed only if they are due.
        now: time of the signatures.
        force: sign snapshot and timestamp even if they are not due.

    Returns:
        Whether anything was signed.

    Raises:
        TrustError: the metadata in the store is not signed by the trusted keys.
        ConflictError: other publishers wrote first at every attempt.
        UsageError: a key is missing.
        StoreError: the store cannot be reached.
    """
    from forge.release.lifecycle import ceremony
    from forge.release.repository import update
    from forge.release.repository.state import load_state

    state = load_state(objects, keyring)
    ceremony.adopt(keyring, objects, state)
    if ceremony.renew_old(keyring, state, now):
        state = load_state(objects, keyring)
    return update.update(objects, keyring, lambda _: None, now=now, always=force)


def rotate(
    objects: Objects,
    keyring: Keyring,
    role: Role,
    *,
    now: datetime,
    replace: str | None = None,
    revoke: bool = False,
    uri: str | None = None,
) -> str:
    """Replace the key of a role; clients with the old root update to the new one.

    For online and targets two roots are signed: one with both keys, then one without the old key.
    Between the two all other metadata is signed with the new key, so clients accept the store at
    every moment. If the process is killed, `refresh` completes the rotation.

    Args:
        objects: the store.
        keyring: the keys; those of root and targets are needed for every role.
        role: the role whose key is replaced.
        now: time of the signatures.
        replace: name of the root key to replace, for example root-2; not used for other roles.
        revoke: for bundles and model: stop trusting proofs signed with the old key.
        uri: URI of an existing KMS or HSM key; None creates a key file.

    Returns:
        Name of the new key.

    Raises:
        UsageError: a key is missing, `replace` is not the name of a root key in use, or the key at
            `uri` cannot be used.
        TrustError, ConflictError, StoreError: as for `refresh`.
    """
    from forge.release.lifecycle import ceremony
    from forge.release.repository import update
    from forge.release.repository.state import load_state

    state = load_state(objects, keyring)
    ceremony.adopt(keyring, objects, state)
    name = ceremony.replace_key(keyring, state, role, now, replace=replace, revoke=revoke, uri=uri)
    update.update(objects, keyring, lambda _: None, now=now, always=True)
    return name
