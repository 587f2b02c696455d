"""Root and targets metadata: what the offline keys sign, and how one key replaces another.

Everything signed here is kept in the keys folder first; publishing it is `repository.update`.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Final, Literal

from tuf.api.metadata import DelegatedRole, Delegations, Root, Signed, TargetFile, Targets
from tuf.api.metadata import Role as TufRole

from forge.errors import UsageError
from forge.release.keyring import KeyEntry, Keyring, Role
from forge.release.metadata import holds, sign
from forge.release.private_keys import make_key
from forge.release.state import State
from forge.store.objects import Objects
from forge.trust import layout
from forge.trust.explain import tuf_errors
from forge.trust.proof_keys import BuildKey, ProofKeys, parse_proof_keys

__all__ = ["adopt", "first_root", "first_targets", "renew_old", "replace_key"]

# TUF's patterns do not cross '/': a build key cannot name a channel, nor a promoter a bundle.
_PATHS: Final = {"bundles": ["bundles/*/*/*"], "channels": ["channels/*/*"]}
_ROOT_ROLES: Final[dict[Role, tuple[str, ...]]] = {
    "root": ("root",),
    "targets": ("targets",),
    "online": ("snapshot", "timestamp"),
}


def first_root(ring: Keyring, threshold: int, now: datetime) -> Root:
    """Sign and keep root 1: each role's keys, root with `threshold`."""
    root = Root(version=1, consistent_snapshot=True)
    for role, names in _ROOT_ROLES.items():
        for entry in ring.entries(role):
            for name in names:
                root.add_key(entry.public_key(), name)
    root.roles["root"].threshold = threshold
    _keep_root(ring, root, root, now)
    return root


def first_targets(ring: Keyring, root: Root, now: datetime) -> None:
    """Sign and keep targets 1: the delegations and the list of proof keys."""
    targets = Targets(version=1, delegations=Delegations({}, {}))
    assert targets.delegations is not None  # noqa: S101  given above
    roles = {
        name: DelegatedRole(name, [], 1, terminating=True, paths=paths)
        for name, paths in _PATHS.items()
    }
    targets.delegations.roles = roles
    for role in ("bundles", "channels"):
        for entry in ring.entries(role):
            targets.add_key(entry.public_key(), role)
    build = tuple(_build_key(entry) for entry in ring.entries("bundles"))
    model = tuple(entry.public for entry in ring.entries("model"))
    _put_proof_keys(ring, targets, ProofKeys(build=build, model=model))
    _keep_targets(ring, root, targets, now)


def adopt(ring: Keyring, objects: Objects, state: State) -> None:
    """Keep what another copy of this folder signed and published since; all of it is verified."""
    for version, data in state.later_roots.items():
        ring.keep("root", version, data)
    targets = state.targets.signed
    if targets.version in ring.documents("targets"):
        return
    for path, target in targets.targets.items():
        name = layout.target_name(path, target.hashes["sha256"])
        data = objects.read(name, max_bytes=target.length).data
        with tuf_errors(objects.url):
            target.verify_length_and_hashes(data)
        ring.keep_target(path, data)
    ring.keep("targets", targets.version, state.targets.to_bytes())


def renew_old(ring: Keyring, state: State, now: datetime) -> bool:
    """Sign root and targets anew where they are past half their life and their keys are here."""
    renewed = False
    if _due(ring, state.root, now) and _can_sign(ring, "root", state.root.roles["root"]):
        root = copy.deepcopy(state.root)
        root.version += 1
        _keep_root(ring, state.root, root, now)
        renewed = True
    targets = state.targets.signed
    due = _due(ring, targets, now) or not holds(state.root, "targets", state.targets)
    if due and _can_sign(ring, "targets", state.root.roles["targets"]):
        targets = copy.deepcopy(targets)
        targets.version += 1
        _keep_targets(ring, state.root, targets, now)
        renewed = True
    return renewed


def replace_key(
    ring: Keyring,
    state: State,
    role: Role,
    now: datetime,
    *,
    replace: str | None,
    revoke: bool,
    uri: str | None,
) -> str:
    """Make a new key and sign what puts it in the place of the old; returns its name."""
    delegated = role in ("bundles", "channels", "model")
    old = [] if role == "model" else _replaced(ring, state, role, replace)
    _check_can_sign(ring, state, "targets" if delegated else "root")
    entry = make_key(ring.folder, _free_name(ring, role), role, ring.passphrase, uri)
    ring.save(ring.file.model_copy(update={"keys": (*ring.file.keys, entry)}))
    if role == "model":
        _replace_model_key(ring, state, entry, now, revoke=revoke)
    elif delegated:
        _replace_delegated_key(ring, state, entry, now, revoke=revoke)
    else:
        _replace_root_key(ring, state, entry, old, now)
    return entry.name


def _replaced(ring: Keyring, state: State, role: Role, name: str | None) -> list[str]:
    """Key ids that the new key replaces."""
    if role in ("bundles", "channels"):
        return list(state.targets.signed.get_delegated_role(role).keyids)
    current = state.root.roles[_ROOT_ROLES[role][0]].keyids
    if role != "root":
        return list(current)
    names = {entry.name: entry.keyid for entry in ring.entries("root") if entry.keyid in current}
    if name not in names:
        known = ", ".join(sorted(names))
        raise UsageError(f"{name!r} is no root key in use", hint=f"--replace one of: {known}")
    return [names[name]]


def _replace_root_key(
    ring: Keyring, state: State, entry: KeyEntry, old: list[str], now: datetime
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
        _keep_root(ring, state.root, only, now)
        return
    _keep_root(ring, state.root, both, now)
    only.version += 1
    _keep_root(ring, both, only, now)
    if entry.role == "targets":
        targets = copy.deepcopy(state.targets.signed)
        targets.version += 1
        _keep_targets(ring, only, targets, now)


def _replace_delegated_key(
    ring: Keyring, state: State, entry: KeyEntry, now: datetime, *, revoke: bool
) -> None:
    targets = copy.deepcopy(state.targets.signed)
    targets.version += 1
    old = list(targets.get_delegated_role(entry.role).keyids)
    targets.add_key(entry.public_key(), entry.role)
    for keyid in old:
        targets.revoke_key(keyid, entry.role)
    if entry.role == "bundles":
        keys = _proof_keys(ring, targets)
        kept = () if revoke else keys.build
        _put_proof_keys(
            ring, targets, keys.model_copy(update={"build": (_build_key(entry), *kept)})
        )
    _keep_targets(ring, state.root, targets, now)


def _replace_model_key(
    ring: Keyring, state: State, entry: KeyEntry, now: datetime, *, revoke: bool
) -> None:
    targets = copy.deepcopy(state.targets.signed)
    targets.version += 1
    keys = _proof_keys(ring, targets)
    kept = () if revoke else keys.model
    _put_proof_keys(ring, targets, keys.model_copy(update={"model": (entry.public, *kept)}))
    _keep_targets(ring, state.root, targets, now)


def _check_can_sign(ring: Keyring, state: State, role: Literal["root", "targets"]) -> None:
    """Before a key is made that nothing could put in place. Raises UsageError."""
    keys = state.root.roles[role]
    ring.signers(role, keys.keyids, keys.threshold)


def _free_name(ring: Keyring, role: Role) -> str:
    taken = {entry.name for entry in ring.file.keys}
    number = 2
    while f"{role}-{number}" in taken or (ring.folder / f"{role}-{number}.pem").exists():
        number += 1
    return f"{role}-{number}"


def _proof_keys(ring: Keyring, targets: Targets) -> ProofKeys:
    digest = targets.targets[layout.PROOF_KEYS_PATH].hashes["sha256"]
    return parse_proof_keys(ring.target(layout.PROOF_KEYS_PATH, digest))


def _put_proof_keys(ring: Keyring, targets: Targets, keys: ProofKeys) -> None:
    data = keys.encode()
    ring.keep_target(layout.PROOF_KEYS_PATH, data)
    path = layout.PROOF_KEYS_PATH
    targets.targets[path] = TargetFile.from_data(path, data, ["sha256"])


def _build_key(entry: KeyEntry) -> BuildKey:
    return BuildKey(
        keyid=entry.keyid, keytype=entry.keytype, scheme=entry.scheme, public=entry.public
    )


def _keep_root(ring: Keyring, old: Root, new: Root, now: datetime) -> None:
    """Sign `new` with the thresholds of both, as clients ask for, and keep it."""
    new.expires = now.astimezone(UTC) + ring.file.expiry_days.of("root")
    signers = {}
    for root in (old, new):
        role = root.roles["root"]
        for signer in ring.signers("root", role.keyids, role.threshold):
            signers[signer.public_key.keyid] = signer
    data = sign(new, list(signers.values()), old, "root")
    ring.keep("root", new.version, data)


def _keep_targets(ring: Keyring, root: Root, targets: Targets, now: datetime) -> None:
    targets.expires = now.astimezone(UTC) + ring.file.expiry_days.of("targets")
    role = root.roles["targets"]
    signers = ring.signers("targets", role.keyids, role.threshold)
    ring.keep("targets", targets.version, sign(targets, signers, root, "targets"))


def _due(ring: Keyring, document: Signed, now: datetime) -> bool:
    return document.expires - now < ring.file.expiry_days.of(document.type) / 2


def _can_sign(ring: Keyring, role: Role, keys: TufRole) -> bool:
    here = [e for e in ring.entries(role) if e.keyid in keys.keyids and ring.has(e)]
    return len(here) >= keys.threshold
