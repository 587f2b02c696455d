"""bases.yaml: what it may hold, and that updating it changes digests only."""

import re
from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.images.bases import Base, read_bases, rewrite

DIGEST = f"sha256:{'a' * 64}"
TEXT = """\
# Why these bases.

python-3.11:   # the interpreter
  reference: docker.io/library/python:3.11-slim-bookworm
  digest: null  # not yet
  platforms: [linux/amd64, linux/arm64]
triton:
  reference: nvcr.io/nvidia/tritonserver:25.09-py3   # arm64 only
  digest: sha256:BB
  platforms: [linux/arm64]
""".replace("BB", "b" * 64)


def write(folder: Path, text: str) -> Path:
    (folder / "bases.yaml").write_text(text)
    return folder


def test_base_without_a_digest_is_not_pinned(tmp_path: Path) -> None:
    bases = read_bases(write(tmp_path, TEXT))
    assert bases.get("python-3.11").pinned is None
    assert bases.get("triton").pinned == f"nvcr.io/nvidia/tritonserver@sha256:{'b' * 64}"


def test_registry_with_a_port_keeps_it_when_pinned() -> None:
    base = Base(reference="http://127.0.0.1:5000/base:1", digest=DIGEST, platforms=("linux/amd64",))
    assert base.plain_http
    assert base.pinned == f"127.0.0.1:5000/base@{DIGEST}"


def test_image_of_a_profile_is_found_by_name_and_by_reference(tmp_path: Path) -> None:
    bases = read_bases(write(tmp_path, TEXT))
    pinned = f"nvcr.io/nvidia/tritonserver@sha256:{'b' * 64}"
    assert bases.by_digest("triton") == pinned
    assert bases.by_digest("nvcr.io/nvidia/tritonserver:25.09-py3") == pinned
    assert bases.by_digest("python-3.11") == "docker.io/library/python:3.11-slim-bookworm"
    assert bases.by_digest("other.example/image:1") == "other.example/image:1"


def test_rewrite_changes_the_named_digests_and_keeps_every_comment() -> None:
    assert rewrite(TEXT, {"python-3.11": DIGEST}) == TEXT.replace("null", DIGEST)
    both = rewrite(TEXT, {"python-3.11": DIGEST, "triton": DIGEST})
    assert re.findall(r"digest: (\S+)", both) == [DIGEST, DIGEST]
    assert rewrite(TEXT, {}) == TEXT


def test_rewrite_refuses_a_base_without_a_digest_line() -> None:
    text = TEXT.replace("  digest: null  # not yet\n", "")
    with pytest.raises(ConfigurationError, match=r"no digest line for python-3\.11"):
        rewrite(text, {"python-3.11": DIGEST})


BAD = {
    "no tag": ("3.11-slim-bookworm", ""),
    "latest by digest in the reference": (":3.11-slim-bookworm", f"@{DIGEST}"),
    "unknown platform": ("[linux/arm64]", "[linux/riscv64]"),
    "no platform": ("[linux/arm64]", "[]"),
    "unknown key": ("platforms: [linux/arm64]", "platforms: [linux/arm64]\n  tag: 1"),
    "short digest": ("digest: null", "digest: sha256:12"),
    "bad name": ("triton:\n", "Triton_1:\n"),
    "no mapping": ("triton:\n", "- triton:\n"),
}


@pytest.mark.parametrize(("old", "new"), BAD.values(), ids=BAD)
def test_bad_file_is_refused_with_its_path(tmp_path: Path, old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigurationError, match=r"bases\.yaml"):
        read_bases(write(tmp_path, TEXT.replace(old, new)))


def test_missing_file_and_unknown_name_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_bases(tmp_path)
    bases = read_bases(write(tmp_path, TEXT))
    with pytest.raises(ConfigurationError, match="No base image 'python'") as caught:
        bases.get("python")
    assert "python-3.11, triton" in caught.value.hint
