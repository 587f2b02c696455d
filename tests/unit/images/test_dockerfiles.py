"""The shipped Dockerfiles: linted, on known bases, as nobody, without weights."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from forge import profiles
from forge.images.bases import read_bases
from forge.images.plan import discover

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "dockerfiles"
DOCKERFILES = sorted([*FOLDER.glob("*/Dockerfile"), *FOLDER.glob("*.Dockerfile")])
BASES = read_bases(FOLDER)


def name(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def hadolint(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [str(Path(sys.executable).parent / "hadolint"), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    done = hadolint("--failure-threshold", "style", "--no-color", str(path))
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_is_there_and_does_complain(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && sudo ls\n")
    done = hadolint(str(bad))
    assert done.returncode == 1
    assert "DL3006" in done.stdout


def test_every_base_is_used_by_a_dockerfile_or_a_profile() -> None:
    loaded = [profiles.load(one, ROOT / "profiles") for one in profiles.names(ROOT / "profiles")]
    by_profiles = {BASES.find(one.profile.serving.image or "") for one in loaded}
    by_dockerfiles = {image.base for image in discover(FOLDER, BASES)}
    assert by_profiles | by_dockerfiles >= set(BASES.by_name)


def test_every_image_of_a_container_profile_is_a_known_base_for_its_platform() -> None:
    for one in profiles.names(ROOT / "profiles"):
        profile = profiles.load(one, ROOT / "profiles").profile
        if profile.serving.server == "container":
            base = BASES.find(profile.serving.image or "")
            assert base is not None, one
            assert profile.platform in BASES.get(base).platforms, one


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_dockerfile_builds_on_its_argument_only_and_ends_as_nobody(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "65532:65532"
    assert "ARG TARGETARCH" in text
    assert "--require-hashes" in text


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_health_command_of_the_label_is_the_healthcheck(path: Path) -> None:
    text = path.read_text()
    label = re.search(r'forge\.health="((?:[^"\\]|\\.)*)"', text)
    check = re.search(r"^HEALTHCHECK CMD (.*)$", text, re.MULTILINE)
    assert label is not None
    assert check is not None
    assert shlex.split(label[1].replace('\\"', '"')) == json.loads(check[1])


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_image_is_described_by_labels(path: Path) -> None:
    for label in ("title", "description"):
        assert f"org.opencontainers.image.{label}=" in path.read_text()


REPORTERS = {"openvino-telemetry", "posthog", "scarf", "sentry-sdk", "analytics-python", "mixpanel"}


@pytest.mark.parametrize("lock", sorted(FOLDER.glob("*/requirements.lock")), ids=name)
def test_lock_has_no_package_that_reports_to_a_third_party(lock: Path) -> None:
    packages = set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.MULTILINE))
    assert packages
    assert not packages & REPORTERS
    excludes = lock.with_name("excludes.txt")
    if excludes.is_file():
        assert not packages & set(excludes.read_text().splitlines())
