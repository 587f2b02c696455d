"""Parse a question about components: a package URL, a name, or a digest. Pure.

pkg:pypi/aiohttp<3.13              a range of versions, in the words of PEP 440
pkg:pypi/aiohttp@3.12.1            one version
pkg:huggingface/acme/model@a1b2    other types have exact versions only
aiohttp                            a name, of any type
sha256:0f3c…                       a file, a distribution, an image or a tree
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from forge.errors import UsageError
from forge.extras import needs_extra
from forge.release.components import name_key

if TYPE_CHECKING:
    from packageurl import PackageURL
    from packaging.specifiers import Specifier, SpecifierSet

    from forge.release.components import BundleComponent

__all__ = ["ComponentQuery", "parse_query"]

_EXAMPLES: Final = "\n".join(
    f"for example: forge affected {one}"
    for one in ("'pkg:pypi/aiohttp<3.13'", "openvino", "sha256:0f3c2a91")
)
_QUERY: Final = re.compile(
    r"(?P<head>[^@<>=!~\s]+)(@(?P<version>[^<>=!~\s]+)|(?P<spec>[<>=!~].*))?"
)
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.+/-]{0,254}")
_DIGEST: Final = re.compile(r"(sha256:[0-9a-f]{8,64}|[0-9a-f]{12,64})", re.IGNORECASE)
_MAX: Final = 512
_PYPI: Final = "pypi"


@dataclass(frozen=True, slots=True)
class ComponentQuery:
    """What is asked for: `digest`, or `name` with further conditions.

    Attributes:
        text: as given.
        name: name of the package; empty for a digest.
        digest: the beginning of a SHA-256; empty for a name.
        kind: type of the package URL; empty: any.
        namespace: of the package URL; None: any.
        version: exact version; None: any.
        spec: range of versions by PEP 440; None: any.
    """

    text: str
    name: str = ""
    digest: str = ""
    kind: str = ""
    namespace: str | None = None
    version: str | None = None
    spec: SpecifierSet | None = None

    def finds(self, component: BundleComponent) -> bool:
        """Return whether any component is meant, by digest or by name and version."""
        if self.digest:
            return any(one.startswith(self.digest) for one in component.digests)
        names = {name_key(component.name), name_key(component.name.rpartition("/")[2])}
        return name_key(self.name) in names and self.matches(component) is not False

    def matches(self, component: BundleComponent) -> bool | None:
        """Return whether a component of this name is meant; None: its version is not comparable."""
        purl = _purl(component.purl)
        found = (purl.type, purl.namespace or "") if purl else ("", "")
        if self.kind and found != (self.kind, self.namespace):
            return False
        if self.version is None and self.spec is None:
            return True
        kind = found[0]
        if self.spec is None:
            return _equal(component.version, self.version or "", kind)
        return _in_range(component.version, self.spec) if kind in {_PYPI, ""} else None


def parse_query(text: str) -> ComponentQuery:
    """Return the question in a text.

    Raises:
        UsageError: it is not a package URL, a name or a digest.
        ConfigurationError: the extra `build` is not installed.
    """
    if _DIGEST.fullmatch(text):
        return ComponentQuery(text, digest=text.removeprefix("sha256:").lower())
    match = _QUERY.fullmatch(text) if len(text) <= _MAX else None
    if match is None or text.startswith("sha256:"):
        raise _wrong(text, "it is not a package URL, a name or a digest")
    spec = _spec(text, match["spec"])
    if not match["head"].startswith("pkg:"):
        if not _NAME.fullmatch(match["head"]):
            raise _wrong(text, f"{match['head']!r} is not a name")
        return ComponentQuery(text, name=match["head"], version=match["version"], spec=spec)
    purl = _parsed(text, match)
    if spec is not None and purl.type != _PYPI:
        raise _wrong(text, f"versions of the type {purl.type} have no known order: use @VERSION")
    return ComponentQuery(
        text,
        name=purl.name,
        kind=purl.type,
        namespace=purl.namespace or "",
        version=purl.version,
        spec=spec,
    )


def _parsed(text: str, match: re.Match[str]) -> PackageURL:
    with needs_extra("build", "A question about packages"):
        from packageurl import PackageURL

    version = f"@{match['version']}" if match["version"] else ""
    try:
        return PackageURL.from_string(match["head"] + version)
    except ValueError as error:
        raise _wrong(text, str(error)) from None


def _spec(text: str, spec: str | None) -> SpecifierSet | None:
    if spec is None:
        return None
    with needs_extra("build", "A range of versions"):
        from packaging.specifiers import InvalidSpecifier, SpecifierSet
    try:
        return SpecifierSet(spec)
    except InvalidSpecifier as error:
        raise _wrong(text, str(error)) from None


def _purl(text: str) -> PackageURL | None:
    if not text:
        return None
    from packageurl import PackageURL

    try:
        return PackageURL.from_string(text)
    except ValueError:
        return None


def _equal(found: str, wanted: str, kind: str) -> bool:
    if found == wanted or kind != _PYPI:
        return found == wanted
    from packaging.version import InvalidVersion, Version

    try:
        return Version(found) == Version(wanted)
    except InvalidVersion:
        return False


def _in_range(found: str, spec: SpecifierSet) -> bool | None:
    from packaging.version import InvalidVersion, Version

    try:
        version = Version(found)
    except InvalidVersion:
        return None
    return all(_holds(version.public, one) for one in spec)


def _holds(public: str, spec: Specifier) -> bool:
    """Return whether a version is within one bound, by the order of PEP 440.

    Not `Specifier.contains`: there 3.13rc1 is not below 3.13, and 2.5.0+cu124 is above 2.5.0, so
    that a candidate or a rebuild of an affected version would not be found.
    """
    from packaging.version import Version

    if spec.operator not in {"<", "<=", ">", ">="}:
        return spec.contains(public, prereleases=True)
    version, bound = Version(public), Version(spec.version)
    return {
        "<": version < bound,
        "<=": version <= bound,
        ">": version > bound,
        ">=": version >= bound,
    }[spec.operator]


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(f"{text[:80]!r} cannot be looked for", why=why, hint=_EXAMPLES)
