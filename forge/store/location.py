"""From a URL to the place it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from forge.errors import ConfigurationError, NotInStoreError
from forge.store.directory import DirectoryObjects
from forge.store.objects import Objects
from forge.store.pace import RateLimit

__all__ = ["cache_folder", "check_exists", "local_folder", "open_objects"]


def open_objects(
    url: str,
    *,
    environment: Mapping[str, str] | None = None,
    mirrors: Sequence[str] = (),
    limit_rate: int | None = None,
) -> Objects:
    """The objects at a folder's path, `file:///path`, `s3://bucket/prefix` or `https://host/path`.

    Args:
        url: where.
        environment: for S3: FORGE_S3_ENDPOINT or AWS_ENDPOINT_URL, and what boto3 reads; for the
            web: SSL_CERT_FILE, HTTPS_PROXY, NO_PROXY, FORGE_ALLOW_HTTP.
        mirrors: other places of the same objects, any kind; then they can only be read.
        limit_rate: bytes a second, over all places but folders.

    Raises:
        ConfigurationError: another kind of URL, or an S3 URL without a bucket.
    """
    limit = RateLimit(limit_rate) if limit_rate else None
    if not mirrors:
        return _open(url, environment or {}, limit, alone=True)
    from forge.store.mirrors import Mirrors

    places = [_open(one, environment or {}, limit, alone=False) for one in (url, *mirrors)]
    return Mirrors(places)


def _open(
    url: str, environment: Mapping[str, str], limit: RateLimit | None, *, alone: bool
) -> Objects:
    folder = local_folder(url)
    if folder is not None:
        return DirectoryObjects(folder)
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.hostname and "@" not in parts.netloc:
        from forge.store.s3 import S3Objects

        return S3Objects(parts.netloc, parts.path.strip("/"), environment, limit)
    if parts.scheme in {"https", "http"}:
        from forge.store.web import ATTEMPTS, WebObjects

        # Where there is another place, it is asked rather than this one a third time.
        return WebObjects(url, environment, limit=limit, attempts=ATTEMPTS if alone else 2)
    hint = "give a folder, file:///path, https://host/path or s3://bucket/prefix"
    raise ConfigurationError(f"{_without_secret(url)!r} is not a store", hint=hint)


def local_folder(url: str) -> Path | None:
    """The folder a URL means, None if it means another kind of place."""
    if "://" not in url:
        return Path(url).expanduser().absolute()
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return Path(unquote(parts.path))
    return None


def check_exists(url: str) -> None:
    """Raise NotInStoreError if the URL means a folder that is not there.

    For who only reads or deletes: the first write would make the folder, and an empty store in the
    wrong place looks sound. A missing bucket is named by its first use.
    """
    folder = local_folder(url)
    if folder is not None and not folder.is_dir():
        hint = "check the path given to --store; the first 'forge run' makes a new store"
        raise NotInStoreError(f"There is no store at {folder}", hint=hint)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """FORGE_CACHE, else `forge` in the user's cache folder."""
    if given := environment.get("FORGE_CACHE"):
        return Path(given)
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "forge"


def _without_secret(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
