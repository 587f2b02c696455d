"""From a URL to the place it means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from forge.errors import ConfigurationError
from forge.store.directory import DirectoryObjects
from forge.store.objects import Objects

__all__ = ["cache_folder", "open_objects"]


def open_objects(url: str, *, environment: Mapping[str, str] | None = None) -> Objects:
    """The objects at a folder's path, `file:///path` or `s3://bucket/prefix`.

    Args:
        url: where.
        environment: for S3: FORGE_S3_ENDPOINT or AWS_ENDPOINT_URL, and what boto3 reads.

    Raises:
        ConfigurationError: another kind of URL, or an S3 URL without a bucket.
    """
    if "://" not in url:
        return DirectoryObjects(Path(url).expanduser().absolute())
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path:
        return DirectoryObjects(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.hostname and "@" not in parts.netloc:
        from forge.store.s3 import S3Objects

        return S3Objects(parts.netloc, parts.path.strip("/"), environment or {})
    hint = "give a folder, file:///path or s3://bucket/prefix; credentials go in the environment"
    raise ConfigurationError(f"{_without_secret(url)!r} is not a store", hint=hint)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """FORGE_CACHE, else `forge` in the user's cache folder."""
    if given := environment.get("FORGE_CACHE"):
        return Path(given)
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "forge"


def _without_secret(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
