"""What Forge says where an optional package is not installed."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
import tomllib
from pathlib import Path

import pytest

from forge import extras
from forge.errors import ConfigurationError
from forge.extras import needs_extra, versions
from forge.images.sbom import encode
from forge.release.attest.sbom import parse_lock
from forge.release.keys.kms import check_scheme
from forge.store.backends.open import open_objects

ROOT = Path(__file__).resolve().parents[2]


def absent(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make an import of a package fail as it does where it is not installed."""

    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name.partition(".")[0] in packages:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("forge.store.backends.s3", "forge.store.backends.s3_body"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


def test_a_bucket_without_the_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent(monkeypatch, "boto3", "botocore", "urllib3")
    with pytest.raises(ConfigurationError, match="s3://bucket/prefix requires the extra") as caught:
        open_objects("s3://bucket/prefix")
    assert caught.value.exit_code == 3
    assert caught.value.hint == "pip install 'forge-release[s3]'"


def test_a_key_in_aws_kms_without_the_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent(monkeypatch, "boto3")
    with pytest.raises(ConfigurationError, match="awskms:alias/x requires the extra 's3'"):
        check_scheme("awskms:alias/x")
    check_scheme("hsm:1?label=token")  # needs none


def test_an_sbom_without_the_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent(monkeypatch, "cyclonedx")
    with pytest.raises(ConfigurationError, match="SBOM requires the extra 'build'") as caught:
        encode("device", "sha256:00", [])
    assert caught.value.why == "the package cyclonedx is not installed"


def test_a_pipeline_that_needs_an_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert versions("build", "model-signing").keys() == {"model-signing"}
    monkeypatch.setattr(sys, "path", [])
    extras._version.cache_clear()  # no package disappears while a process runs
    with pytest.raises(
        ConfigurationError, match="This pipeline requires the extra 'build'"
    ) as caught:
        versions("build", "model-signing")
    assert caught.value.why == "the package model-signing is not installed"


def test_a_module_of_forge_that_is_missing_is_not_an_extra() -> None:
    with pytest.raises(ModuleNotFoundError), needs_extra("s3", "A store"):
        importlib.import_module("forge.no_such_module")


def test_every_extra_that_a_message_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.compile(r"forge-release\[(\w+)\]|needs_extra\(\s*\"(\w+)\"")
    texts = [path.read_text("utf-8") for path in (ROOT / "forge").rglob("*.py")]
    found = {"".join(match) for text in texts for match in named.findall(text)}
    assert found == set(extras["optional-dependencies"])


def test_each_lock_holds_the_same_versions_as_the_smaller_one() -> None:
    """A device runs the packages that the tests run."""
    kinds = ("-device", "-device-s3", "", "-dev")
    locks = [set(parse_lock((ROOT / f"requirements{kind}.lock").read_text())) for kind in kinds]
    for smaller, larger in itertools.pairwise(locks):
        assert smaller < larger


def test_a_device_installs_nothing_of_an_extra() -> None:
    names = {one.name for one in parse_lock((ROOT / "requirements-device.lock").read_text())}
    assert {"tuf", "cryptography", "uv", "starlette"} <= names
    assert not names & {"boto3", "botocore", "cyclonedx-python-lib", "model-signing", "dagger-io"}
