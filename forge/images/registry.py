"""Resolve tags and push multi-platform images with skopeo.

A name that starts with `http://` is a registry without TLS, for tests and closed networks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge import canonical
from forge.errors import ConfigurationError, StepFailedError
from forge.images.bases import Base
from forge.images.documents import INDEX_MEDIA_TYPE
from forge.images.programs import QUICK_S, call, capture

__all__ = ["Registry", "resolve"]

_PUSH_TIMEOUT_S: Final = 4 * 3600.0
_NAME = re.compile(r"[a-z0-9.-]+(:\d{1,5})?(/[a-z0-9][a-z0-9._-]*)*")
_LISTS: Final = (
    INDEX_MEDIA_TYPE,
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, slots=True)
class Registry:
    """Registry to push to, `registry.example/team`, and whether it uses plain HTTP."""

    name: str
    plain_http: bool

    @classmethod
    def parse(cls, text: str) -> Registry:
        """Parse `HOST[:PORT][/PATH]`, with plain HTTP if it starts with `http://`.

        Raises ConfigurationError.
        """
        name = text.removeprefix("http://").rstrip("/")
        if not _NAME.fullmatch(name):
            hint = "for example: registry.example/team"
            raise ConfigurationError(f"{text!r} is not a valid registry", hint=hint)
        return cls(name, text.startswith("http://"))

    def repository(self, image: str) -> str:
        """Return the repository of an image, `registry.example/team/device`."""
        return f"{self.name}/{image}"

    def push(self, layout: Path, tag: str, image: str, digest: str) -> str:
        """Push the index of a layout with its images, and return the reference by digest.

        Safe to repeat: existing blobs are not sent again.

        Raises StepFailedError: the registry is unreachable, denied access, or has another digest
        after the push.
        """
        target = f"docker://{self.repository(image)}:{tag}"
        argv = ["skopeo", "copy", "--all", "--preserve-digests", "--retry-times", "3"]
        argv += ["--dest-tls-verify=false"] if self.plain_http else []
        call([*argv, f"oci:{layout}:{tag}", target], timeout_s=_PUSH_TIMEOUT_S, environment={})
        reference = f"{self.repository(image)}@{digest}"
        held = _manifest(reference, plain_http=self.plain_http)
        if f"sha256:{canonical.sha256(held)}" != digest:
            raise StepFailedError(f"{reference} does not have the digest that was pushed")
        return reference


def resolve(base: Base) -> str:
    """Return the current digest of the tag of a base: that of its index of all platforms.

    Raises:
        ConfigurationError: the image lacks a platform that the base lists.
        NoRunnerError: skopeo is not installed.
        StepFailedError: the registry is unreachable or denied access.
    """
    data = _manifest(base.tagged, plain_http=base.plain_http)
    missing = [name for name in base.platforms if name not in _platforms(base, data)]
    if missing:
        raise ConfigurationError(
            f"{base.tagged} has no image for {', '.join(missing)}",
            hint="remove these platforms from bases.yaml, or use another base",
        )
    return f"sha256:{canonical.sha256(data)}"


def _manifest(reference: str, *, plain_http: bool) -> bytes:
    argv = ["skopeo", "inspect", "--raw", "--retry-times", "3"]
    argv += ["--tls-verify=false"] if plain_http else []
    return capture([*argv, f"docker://{reference}"], timeout_s=QUICK_S)


def _platforms(base: Base, data: bytes) -> set[str]:
    try:
        manifest = json.loads(data)
        if manifest.get("mediaType") in _LISTS or "manifests" in manifest:
            places = [entry["platform"] for entry in manifest["manifests"]]
            return {f"{place['os']}/{place['architecture']}" for place in places}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StepFailedError(f"{base.tagged} is not a valid image", why=repr(error)) from None
    # The manifest of a single image does not contain its platform; the build checks it.
    return set(base.platforms) if len(base.platforms) == 1 else set()
