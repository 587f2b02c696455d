"""Which images a folder has, and the command each platform is built by."""

from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.images.bases import Base, Bases
from forge.images.plan import Build, build_argv, discover, on_base

DIGEST = f"sha256:{'a' * 64}"
PYTHON = Base(
    reference="docker.io/library/python:3.11-slim",
    digest=DIGEST,
    platforms=("linux/amd64", "linux/arm64"),
)
TRITON = Base(reference="nvcr.io/nvidia/triton:1", digest=None, platforms=("linux/arm64",))
BASES = Bases({"python": PYTHON, "triton": TRITON})


@pytest.fixture
def dockerfiles(tmp_path: Path) -> Path:
    (tmp_path / "tool.Dockerfile").write_text("ARG BASE=python\nFROM ${BASE}\n")
    for name in ("compiler", "device", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "compiler" / "requirements.lock").touch()
    (tmp_path / "device" / "Dockerfile").write_text("ARG BASE=triton\nFROM ${BASE}\n")
    return tmp_path


def test_folder_with_a_lock_only_uses_the_shared_dockerfile(dockerfiles: Path) -> None:
    compiler, device = discover(dockerfiles, BASES)
    assert compiler.dockerfile == dockerfiles / "tool.Dockerfile"
    assert compiler.lock == dockerfiles / "compiler" / "requirements.lock"
    assert compiler.platforms == ("linux/amd64", "linux/arm64")
    assert device.dockerfile == dockerfiles / "device" / "Dockerfile"
    assert device.lock is None


def test_platforms_are_those_the_base_has_and_the_folder_names(dockerfiles: Path) -> None:
    (dockerfiles / "compiler" / "requirements.in").write_text("# platforms: linux/amd64\nx==1\n")
    compiler, device = discover(dockerfiles, BASES)
    assert compiler.platforms == ("linux/amd64",)
    assert device.platforms == ("linux/arm64",)


@pytest.mark.parametrize("text", ["# platforms: linux/s390x\n", "# platforms:\n"])
def test_unknown_platform_in_a_folder_is_refused(dockerfiles: Path, text: str) -> None:
    (dockerfiles / "compiler" / "requirements.in").write_text(text)
    with pytest.raises(ConfigurationError, match=r"requirements\.in"):
        discover(dockerfiles, BASES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM debian:12\n", "has no base image"),
        ("ARG BASE\nFROM ${BASE}\n", "has no base image"),
        ("ARG BASE=debian\nFROM ${BASE}\n", "No base image 'debian'"),
    ],
)
def test_dockerfile_must_name_a_known_base(dockerfiles: Path, text: str, message: str) -> None:
    (dockerfiles / "device" / "Dockerfile").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        discover(dockerfiles, BASES)


def test_serving_image_is_the_device_image_on_a_triton_base(dockerfiles: Path) -> None:
    device = discover(dockerfiles, BASES)[1]
    serving = on_base(device, "triton", ["linux/arm64"])
    assert serving.name == "serving-triton"
    assert serving.dockerfile == device.dockerfile
    assert serving.base == "triton"


def build(base: Base) -> tuple[str, ...]:
    order = Build("compiler", "linux/arm64", base, "1.2.3", {"pip.conf": Path("/s/pip.conf")})
    return build_argv(
        order, dockerfile=Path("/d/Dockerfile"), context=Path("/c"), id_file=Path("/i")
    )


def test_command_builds_on_the_digest_and_takes_no_time_of_this_machine() -> None:
    argv = build(PYTHON)
    assert argv[:4] == ("buildah", "build", "--platform", "linux/arm64")
    assert f"BASE=docker.io/library/python@{DIGEST}" in argv
    assert argv[argv.index("--timestamp") + 1] == "0"
    assert argv[argv.index("--secret") + 1] == "id=pip.conf,src=/s/pip.conf"
    assert f"org.opencontainers.image.base.digest={DIGEST}" in argv
    assert "--tls-verify=false" not in argv
    assert argv[-3:] == ("--file", "/d/Dockerfile", "/c")


def test_registry_without_tls_is_asked_without_it() -> None:
    base = Base(reference="http://localhost:1/x:1", digest=DIGEST, platforms=("linux/amd64",))
    assert "--tls-verify=false" in build(base)


def test_base_without_a_digest_is_refused_with_the_command_that_resolves_it() -> None:
    with pytest.raises(ConfigurationError, match="has no digest yet") as caught:
        build(TRITON)
    assert "forge images update" in caught.value.hint
    assert caught.value.exit_code == 3
