"""What is installed in an image, read from its layers."""

import io
import tarfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from forge.errors import CorruptedError
from forge.images.packages import Package, installed
from forge.images.sbom import encode

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: arm64
Version: 2.36-9
Description: GNU C Library
 with more lines

Package: gone
Status: deinstall ok config-files
Architecture: arm64
Version: 1
"""
LIBC = Package("deb", "libc6", "2.36-9", "arm64")
SITE = "opt/tool/lib/python3.11/site-packages"


def metadata(name: str, version: str) -> str:
    return f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n\nLong: text\n"


def layer(path: Path, files: dict[str, str], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # a mode by name
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_debian_packages_and_python_distributions_are_listed_by_their_normal_names(
    tmp_path: Path,
) -> None:
    base = layer(tmp_path / "base", {"./var/lib/dpkg/status": STATUS}, "w")
    top = layer(
        tmp_path / "top",
        {
            f"{SITE}/Typing_Extensions-4.dist-info/METADATA": metadata("Typing_Extensions", "4"),
            f"{SITE}/typing_extensions.py": "Name: no\nVersion: 1\n",
        },
    )
    assert installed([base, top]) == (LIBC, Package("pypi", "typing-extensions", "4"))


def test_higher_layer_replaces_and_removes(tmp_path: Path) -> None:
    old = f"{SITE}/six-1.dist-info/METADATA"
    base = layer(tmp_path / "base", {"var/lib/dpkg/status": STATUS, old: metadata("six", "1")})
    replaced = layer(tmp_path / "a", {"var/lib/dpkg/status": STATUS.replace("2.36-9", "2.36-10")})
    removed = layer(tmp_path / "b", {f"{SITE}/.wh.six-1.dist-info": ""})
    opaque = layer(tmp_path / "c", {"opt/tool/.wh..wh..opq": ""})
    newer = Package("deb", "libc6", "2.36-10", "arm64")
    assert installed([base, replaced]) == (newer, Package("pypi", "six", "1"))
    assert installed([base, removed]) == (LIBC,)
    assert installed([base, opaque]) == (LIBC,)


def test_packages_of_an_image_without_a_package_manager_are_found(tmp_path: Path) -> None:
    text = "Package: libc6\nArchitecture: arm64\nVersion: 2.36-9\n"
    assert installed([layer(tmp_path / "a", {"var/lib/dpkg/status.d/libc6": text})]) == (LIBC,)


def test_layer_that_is_no_archive_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(CorruptedError, match="cannot be read"):
        installed([path])


def test_sbom_is_valid_and_the_same_every_time() -> None:
    packages = (LIBC, Package("pypi", "six", "1"))
    digest = f"sha256:{'a' * 64}"
    data = encode("device", digest, packages)
    assert data == encode("device", digest, packages)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    assert b"pkg:deb/debian/libc6@2.36-9?arch=arm64" in data
    assert b"pkg:pypi/six@1" in data
