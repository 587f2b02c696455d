"""Take back what was published: remove a channel, yank a version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from forge.bundle import channel_path, check_name, check_version
from forge.errors import UsageError
from forge.release.catalog import YANKED, is_yanked
from forge.release.publish import ReleaseStore, publishing
from forge.release.repository.unverified_index import PublishedEntry

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

    from forge.release.keys.keyring import Keyring
    from forge.release.repository.edit import Edit

__all__ = ["remove_channel", "yank"]


def remove_channel(
    store: ReleaseStore, keyring: Keyring, name: str, channel: str, *, now: datetime
) -> str:
    """Remove a channel. Devices that follow it keep what they have, and report it as missing.

    Args:
        store: the store.
        keyring: keys of channels and online.
        name: name of the bundle.
        channel: the channel.
        now: time of the signatures.

    Returns:
        The version that the channel pointed to.

    Raises:
        UsageError: there is no such channel, or a key is missing.
        TrustError, ConflictError, StoreError: as for `forge.release.publish.publish`.
    """
    from forge.release.repository import update

    path = channel_path(check_name(name, "Bundle"), check_name(channel, "Channel"))
    before: list[str] = []

    def change(edit: Edit) -> None:
        target = edit.targets["channels"].get(path)
        if target is None:
            known = ", ".join(_channels(edit, name)) or "none"
            raise UsageError(f"{name} has no channel {channel!r}", hint=f"its channels: {known}")
        before.append(str((target.custom or {}).get("version", "")))
        edit.remove("channels", path)

    with publishing(store, name):
        update.update(store.objects, keyring, change, now=now)
    return before[-1]


def yank(
    store: ReleaseStore, keyring: Keyring, name: str, version: str, *, now: datetime
) -> list[str]:
    """Mark a version, so that no channel can point to it again; its number stays taken.

    Args:
        store: the store.
        keyring: keys of bundles and online.
        name: name of the bundle.
        version: a published version that no channel points to.
        now: time of the signatures.

    Returns:
        Its profiles; empty if it was yanked before.

    Raises:
        UsageError: the version is not published or on a channel, or a key is missing.
        TrustError, ConflictError, StoreError: as for `forge.release.publish.publish`.
    """
    from forge.release.repository import update

    check_name(name, "Bundle")
    check_version(version)
    profiles: list[str] = []

    def change(edit: Edit) -> None:
        profiles.clear()
        targets = _targets(edit, name, version)
        if not targets:
            raise UsageError(f"{name} {version} is not published", hint="forge bundle list")
        on = [one for one, points_to in _channels(edit, name).items() if points_to == version]
        if on:
            raise UsageError(
                f"{name} {version} is on the channel {', '.join(on)}",
                why="devices that follow it would install it all the same",
                hint=f"forge promote OTHER {on[0]} --name {name} --force",
            )
        for path, target in targets.items():
            if not is_yanked(_entry(target)):
                edit.mark("bundles", path, YANKED, f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
                profiles.append(path.rpartition("/")[2].removesuffix(".json"))

    with publishing(store, name):
        update.update(store.objects, keyring, change, now=now)
    return profiles


def _targets(edit: Edit, name: str, version: str) -> dict[str, TargetFile]:
    return {
        path: target
        for path, target in edit.targets["bundles"].items()
        if path.split("/")[1:3] == [name, version]
    }


def _channels(edit: Edit, name: str) -> dict[str, str]:
    return {
        path.split("/")[2].removesuffix(".json"): str((target.custom or {}).get("version", ""))
        for path, target in sorted(edit.targets["channels"].items())
        if path.split("/")[1] == name
    }


def _entry(target: TargetFile) -> PublishedEntry:
    return PublishedEntry(target.length, target.hashes["sha256"], target.custom or {})
