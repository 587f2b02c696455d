"""Root and targets metadata: sign them with the offline keys, and replace keys.

Everything signed here is written to the keys folder; `repository.update` publishes it.
"""

from __future__ import annotations

import copy
import functools
from datetime import UTC, datetime
from typing import Final, Literal

from tuf.api.metadata import DelegatedRole, Delegations, Root, Signed, TargetFile, Targets
from tuf.api.metadata import Role as TufRole

from forge.errors import not_found
from forge.release.keys.create import make_key
from forge.release.keys.keyring import Keyring
from forge.release.keys.model import KeyEntry, Role
from forge.release.repository.metadata import holds, sign
from forge.release.repository.state import RepositoryState
from forge.store.backends.protocol import Objects
from forge.trust import layout
from forge.trust.proof_keys import BuildKey, ProofKeys, parse_proof_keys
from forge.trust.tuf_errors import tuf_errors

__all__ = ["adopt", "first_root", "first_targets", "renew_old", "replace_key"]

# TUF's patterns do not match '/': the build key cannot sign a channel, nor a promoter a bundle.
_PATHS: Final = {"bundles": ["bundles/*/*/*"], "channels": ["channels/*/*"]}
_ROOT_ROLES: Final[dict[Role, tuple[str, ...]]] = {
    "root": ("root",),
    "targets": ("targets",),
    "online": ("snapshot", "timestamp"),
}


def first_root(keyring: Keyring, threshold: int, now: datetime) -> Root:
    """Sign version 1 of root and write it to the keys folder.

    Args:
        keyring: holds the keys of every role.
        threshold: number of root keys that must sign a root.
        now: time of the signatures.
    """
    root = Root(version=1, consistent_snapshot=True)
    for role, names in _ROOT_ROLES.items():
        for entry in keyring.entries(role):
            for name in names:
                root.add_key(entry.public_key(), name)
    root.roles["root"].threshold = threshold
    _keep_root(keyring, root, root, now)
    return root


def first_targets(keyring: Keyring, root: Root, now: datetime) -> None:
    """Sign version 1 of targets, with the delegations and the list of proof keys."""
    targets = Targets(version=1, delegations=Delegations({}, {}))
    assert targets.delegations is not None  # noqa: S101  given above
    roles = {
        name: DelegatedRole(name, [], 1, terminating=True, paths=paths)
        for name, paths in _PATHS.items()
    }
    targets.delegations.roles = roles
    for role in ("bundles", "channels"):
        for entry in keyring.entries(role):
            targets.add_key(entry.public_key(), role)
    build = tuple(_build_key(entry) for entry in keyring.entries("bundles"))
    model = tuple(entry.public for entry in keyring.entries("model"))
    _put_proof_keys(keyring, targets, ProofKeys(build=build, model=model))
    _keep_targets(keyring, root, targets, now)


def adopt(keyring: Keyring, objects: Objects, state: RepositoryState) -> None:
    """Copy newer root and targets metadata from the store to the keys folder.

    Another copy of the folder signed them. `state` is verified; target files are checked here.

    Raises:
        TrustError: a target file does not have its length and digest.
        StoreError: the store cannot be reached.
    """
    for version, data in state.later_roots.items():
        keyring.keep("root", version, data)
    targets = state.targets.signed
    if targets.version in keyring.documents("targets"):
        return
    for path, target in targets.targets.items():
        name = layout.target_name(path, target.hashes["sha256"])
        data = objects.read(name, max_bytes=target.length).data
        with tuf_errors(objects.url):
            target.verify_length_and_hashes(data)
        keyring.keep_target(path, data)
    keyring.keep("targets", targets.version, state.targets.to_bytes())


def renew_old(keyring: Keyring, state: RepositoryState, now: datetime) -> bool:
    """Sign root and targets again if they are past half their validity and their keys are here.

    Returns:
        Whether anything was signed.
    """
    renewed = False
    if _due(keyring, state.root, now) and _can_sign(keyring, "root", state.root.roles["root"]):
        root = copy.deepcopy(state.root)
        root.version += 1
        _keep_root(keyring, state.root, root, now)
        renewed = True
    targets = state.targets.signed
    due = _due(keyring, targets, now) or not holds(state.root, "targets", state.targets)
    if due and _can_sign(keyring, "targets", state.root.roles["targets"]):
        targets = copy.deepcopy(targets)
        targets.version += 1
        _keep_targets(keyring, state.root, targets, now)
        renewed = True
    return renewed


def replace_key(
    keyring: Keyring,
    state: RepositoryState,
    role: Role,
    now: datetime,
    *,
    replace: str | None,
    revoke: bool,
    uri: str | None,
) -> str:
    """Create a key and sign the metadata that replaces the old key by it.

    Args:
        keyring: holds the offline keys.
        state: what is published.
        role: whose key is replaced.
        now: time of the signatures.
        replace: name of the root key to replace; not used for other roles.
        revoke: for bundles and model: remove the old key from the list of proof keys.
        uri: URI of an existing KMS or HSM key; None creates a key file.

    Returns:
        Name of the new key.

    Raises:
        UsageError: a key is missing, or `replace` is not the name of a root key in use.
    """
    delegated = role in ("bundles", "channels", "model")
    old = [] if role == "model" else _replaced(keyring, state, role, replace)
    _check_can_sign(keyring, state, "targets" if delegated else "root")
    name = _free_name(keyring, role)
    secret = functools.partial(keyring.passphrase_of, name)
    entry = make_key(keyring.folder, name, role, secret, uri)
    keyring.save(keyring.file.model_copy(update={"keys": (*keyring.file.keys, entry)}))
    if role == "model":
        _replace_model_key(keyring, state, entry, now, revoke=revoke)
    elif delegated:
        _replace_delegated_key(keyring, state, entry, now, revoke=revoke)
    else:
        _replace_root_key(keyring, state, entry, old, now)
    return entry.name


def _replaced(keyring: Keyring, state: RepositoryState, role: Role, name: str | None) -> list[str]:
    """Return the ids of the keys that the new key replaces."""
    if role in ("bundles", "channels"):
        return list(state.targets.signed.get_delegated_role(role).keyids)
    current = state.root.roles[_ROOT_ROLES[role][0]].keyids
    if role != "root":
        return list(current)
    names = {entry.name: entry.keyid for entry in keyring.entries("root") if entry.keyid in current}
    if name not in names:
        raise not_found(f"{name!r} is not a root key in use", str(name), sorted(names))
    return [names[name]]


def _replace_root_key(
    keyring: Keyring, state: RepositoryState, entry: KeyEntry, old: list[str], now: datetime
) -> None:
    names = _ROOT_ROLES[entry.role]
    both = copy.deepcopy(state.root)
    both.version += 1
    for name in names:
        both.add_key(entry.public_key(), name)
    only = copy.deepcopy(both)
    for name in names:
        for keyid in old:
            only.revoke_key(keyid, name)
    if entry.role == "root":
        _keep_root(keyring, state.root, only, now)
        return
    _keep_root(keyring, state.root, both, now)
    only.version += 1
    _keep_root(keyring, both, only, now)
    if entry.role == "targets":
        targets = copy.deepcopy(state.targets.signed)
        targets.version += 1
        _keep_targets(keyring, only, targets, now)


def _replace_delegated_key(
    keyring: Keyring, state: RepositoryState, entry: KeyEntry, now: datetime, *, revoke: bool
) -> None:
    targets = copy.deepcopy(state.targets.signed)
    targets.version += 1
    old = list(targets.get_delegated_role(entry.role).keyids)
    targets.add_key(entry.public_key(), entry.role)
    for keyid in old:
        targets.revoke_key(keyid, entry.role)
    if entry.role == "bundles":
        keys = _proof_keys(keyring, targets)
        kept = () if revoke else keys.build
        _put_proof_keys(
            keyring, targets, keys.model_copy(update={"build": (_build_key(entry), *kept)})
        )
    _keep_targets(keyring, state.root, targets, now)


def _replace_model_key(
    keyring: Keyring, state: RepositoryState, entry: KeyEntry, now: datetime, *, revoke: bool
) -> None:
    targets = copy.deepcopy(state.targets.signed)
    targets.version += 1
    keys = _proof_keys(keyring, targets)
    kept = () if revoke else keys.model
    _put_proof_keys(keyring, targets, keys.model_copy(update={"model": (entry.public, *kept)}))
    _keep_targets(keyring, state.root, targets, now)


def _check_can_sign(
    keyring: Keyring, state: RepositoryState, role: Literal["root", "targets"]
) -> None:
    """Raise UsageError if the role cannot be signed, before a key is created for it."""
    keys = state.root.roles[role]
    keyring.signers(role, keys.keyids, keys.threshold)


def _free_name(keyring: Keyring, role: Role) -> str:
    taken = {entry.name for entry in keyring.file.keys}
    number = 2
    while f"{role}-{number}" in taken or (keyring.folder / f"{role}-{number}.pem").exists():
        number += 1
    return f"{role}-{number}"


def _proof_keys(keyring: Keyring, targets: Targets) -> ProofKeys:
    digest = targets.targets[layout.PROOF_KEYS_PATH].hashes["sha256"]
    return parse_proof_keys(keyring.target(layout.PROOF_KEYS_PATH, digest))


def _put_proof_keys(keyring: Keyring, targets: Targets, keys: ProofKeys) -> None:
    data = keys.encode()
    keyring.keep_target(layout.PROOF_KEYS_PATH, data)
    path = layout.PROOF_KEYS_PATH
    targets.targets[path] = TargetFile.from_data(path, data, ["sha256"])


def _build_key(entry: KeyEntry) -> BuildKey:
    return BuildKey(
        keyid=entry.keyid, keytype=entry.keytype, scheme=entry.scheme, public=entry.public
    )


def _keep_root(keyring: Keyring, old: Root, new: Root, now: datetime) -> None:
    """Sign `new` with the keys of both roots, as clients require, and write it to the folder."""
    new.expires = now.astimezone(UTC) + keyring.file.expiry_days.of("root")
    signers = {}
    for root in (old, new):
        role = root.roles["root"]
        for signer in keyring.signers("root", role.keyids, role.threshold):
            signers[signer.public_key.keyid] = signer
    data = sign(new, list(signers.values()), old, "root")
    keyring.keep("root", new.version, data)


def _keep_targets(keyring: Keyring, root: Root, targets: Targets, now: datetime) -> None:
    targets.expires = now.astimezone(UTC) + keyring.file.expiry_days.of("targets")
    role = root.roles["targets"]
    signers = keyring.signers("targets", role.keyids, role.threshold)
    keyring.keep("targets", targets.version, sign(targets, signers, root, "targets"))


def _due(keyring: Keyring, document: Signed, now: datetime) -> bool:
    return document.expires - now < keyring.file.expiry_days.of(document.type) / 2


def _can_sign(keyring: Keyring, role: Role, keys: TufRole) -> bool:
    here = [e for e in keyring.entries(role) if e.keyid in keys.keyids and keyring.has(e)]
    return len(here) >= keys.threshold
