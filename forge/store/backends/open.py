"""Open the backend that a URL names."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from forge.errors import ConfigurationError, NotInStoreError
from forge.extras import needs_extra
from forge.store.backends.archive import ArchiveObjects, is_archive
from forge.store.backends.directory import DirectoryObjects
from forge.store.backends.protocol import Objects
from forge.store.backends.throttle import RateLimit

__all__ = ["cache_folder", "check_exists", "local_folder", "open_objects",
           "user_cache"]  # fmt: skip

_HINT: Final = "use a folder, a .forge file, file:///path, https://host/path or s3://bucket/prefix"


def open_objects(
    url: str,
    *,
    environment: Mapping[str, str] | None = None,
    mirrors: Sequence[str] = (),
    limit_rate: int | None = None,
) -> Objects:
    """Open the objects at a path, `file:///path`, `s3://bucket/prefix` or `https://host/path`.

    Args:
        url: location of the store; a path that ends with `.forge` and is not a folder is a file
            of `forge bundle export`.
        environment: for S3: FORGE_S3_ENDPOINT or AWS_ENDPOINT_URL, and what boto3 reads; for the
            web: SSL_CERT_FILE, HTTPS_PROXY, NO_PROXY, FORGE_ALLOW_HTTP.
        mirrors: URLs of copies of the store, of any kind; with mirrors it is read-only.
        limit_rate: maximum bytes per second for reading packs, over all places; a folder may be
            a mount of another machine.

    Raises:
        ConfigurationError: another kind of URL, an S3 URL without a bucket; the extra `s3` is not
            installed.
    """
    limit = RateLimit(limit_rate) if limit_rate else None
    if not mirrors:
        return _open(url, environment or {}, limit, alone=True)
    from forge.store.backends.mirrors import Mirrors

    places = [_open(one, environment or {}, limit, alone=False) for one in (url, *mirrors)]
    return Mirrors(places)


def _open(
    url: str, environment: Mapping[str, str], limit: RateLimit | None, *, alone: bool
) -> Objects:
    folder = local_folder(url)
    if folder is not None:
        return (ArchiveObjects if is_archive(folder) else DirectoryObjects)(folder, limit)
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        hint = "percent-encode ? and # in file: and https: URLs; a prefix of a bucket has neither"
        message = f"{_without_secret(url)!r} is not a valid store URL"
        raise ConfigurationError(message, why="it has a query or a fragment", hint=hint)
    if parts.scheme == "s3" and parts.hostname and "@" not in parts.netloc:
        with needs_extra("s3", f"The store {_without_secret(url)}"):
            from forge.store.backends.s3 import S3Objects

        return S3Objects(parts.netloc, parts.path.strip("/"), environment, limit)
    if parts.scheme in {"https", "http"}:
        from forge.store.backends.web import ATTEMPTS, WebObjects

        # With mirrors, trying the next one is better than retrying this one a third time.
        return WebObjects(url, environment, limit=limit, attempts=ATTEMPTS if alone else 2)
    raise ConfigurationError(f"{_without_secret(url)!r} is not a valid store URL", hint=_HINT)


def local_folder(url: str) -> Path | None:
    """Return the folder or `.forge` file that a URL names, or None for any other kind of URL.

    Raises ConfigurationError if it is not a valid URL.
    """
    if "://" not in url:
        return Path(url).expanduser().absolute()
    try:
        parts = urlsplit(url)
    except ValueError as error:  # brackets without an IPv6 address
        message = f"{_without_secret(url)!r} is not a valid URL"
        raise ConfigurationError(message, why=str(error), hint=_HINT) from None
    if parts.query or parts.fragment:
        return None  # and not the folder that is named before it; `open_objects` refuses it
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return Path(unquote(parts.path))
    return None


def check_exists(url: str) -> None:
    """Raise NotInStoreError if the URL names a folder or a file that does not exist.

    For commands that only read or delete: an empty store at a mistyped path would look valid. A
    missing bucket is reported at its first use.
    """
    folder = local_folder(url)
    if folder is not None and not folder.is_dir() and not (is_archive(folder) and folder.exists()):
        hint = "check the path given to --store; the first 'forge run' creates a store"
        raise NotInStoreError(f"No store at {folder}", hint=hint)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return FORGE_CACHE, else `forge` in the user's cache folder."""
    if given := environment.get("FORGE_CACHE"):
        return Path(given)
    return user_cache(environment) / "forge"


def user_cache(environment: Mapping[str, str]) -> Path:
    """Return the user's cache folder; without a home, one of this user in the temporary folder.

    A container may run as a user that has neither HOME nor an entry in /etc/passwd.
    """
    if given := environment.get("XDG_CACHE_HOME"):
        return Path(given)
    try:
        home = Path(environment.get("HOME") or Path("~").expanduser())
    except RuntimeError:
        home = Path("~")
    if not home.is_absolute():
        return _temporary_cache()
    return home / ".cache"


def _temporary_cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    with contextlib.suppress(FileNotFoundError):
        if folder.lstat().st_uid != os.getuid():  # any user may make this folder
            return Path(tempfile.mkdtemp(prefix="cache-"))
    return folder


def _without_secret(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2])[0]}"
