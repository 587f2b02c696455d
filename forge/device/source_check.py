"""Try a source of updates before a device is provisioned with it: store, root, bundle, channel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from forge.bundle import check_name
from forge.errors import ForgeError, NotInStoreError, UsageError
from forge.store.backends.open import check_exists, open_objects
from forge.trust.client import TrustedStore

__all__ = ["check_source"]


def check_source(
    store_url: str,
    root_bytes: bytes,
    name: str,
    channel: str,
    *,
    mirrors: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> str:
    """Read the channel as the device will, and return the version that it points to.

    Nothing is kept: the metadata is read into a temporary folder.

    Args:
        store_url: URL of the store.
        root_bytes: the trusted root.
        name: bundle name.
        channel: channel of that bundle.
        mirrors: other URLs of the same store.
        environment: credentials and network settings; of this process by default.

    Raises:
        StoreError: the store and its mirrors cannot be reached.
        TrustError: the store is not signed by the root, or its metadata has expired.
        UsageError: the bundle or the channel is not published, or its name is not valid.
        ConfigurationError: a URL is not a store's.
    """
    check_name(name, "Bundle")
    check_name(channel, "Channel")
    given = os.environ if environment is None else environment
    try:
        if not mirrors:
            check_exists(store_url)
        objects = open_objects(store_url, environment=given, mirrors=mirrors)
        with tempfile.TemporaryDirectory(prefix="forge-provision-") as folder:
            trusted = TrustedStore(objects, Path(folder), root_bytes)
            trusted.refresh()
            try:
                return trusted.channel(name, channel).version
            except NotInStoreError:
                raise _unknown(trusted, name, channel, objects.url) from None
    except ForgeError as error:
        offline = "to provision without the store: --offline"
        error.hint = f"{error.hint}; {offline}" if error.hint else offline
        raise


def _unknown(trusted: TrustedStore, name: str, channel: str, place: str) -> UsageError:
    known = trusted.channels()
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        return UsageError(f"No bundle {name!r} is published in {place}", hint=f"published: {names}")
    if channel in known[name]:  # signed, but its document is not there
        return UsageError(
            f"Channel {channel!r} of bundle {name} is not in {place}",
            why="a file of 'forge bundle export' has the channels that point to its version only",
            hint=f"export the version that {channel} points to, or follow another channel",
        )
    return UsageError(
        f"Bundle {name} has no channel {channel!r} in {place}",
        hint=f"its channels: {', '.join(known[name])}",
    )
