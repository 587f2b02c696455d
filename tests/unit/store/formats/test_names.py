"""Names of objects: which strings are digests and which names Forge could have written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import UsageError
from forge.store.formats.names import (
    check_digest,
    files_name,
    is_digest,
    is_object,
    pack_name,
    tree_name,
)

DIGEST = hashlib.sha256(b"x").hexdigest()
BAD_DIGESTS = [
    "",
    DIGEST[:-1],
    DIGEST + "0",
    DIGEST.upper(),
    DIGEST + "\n",
    "\n" + DIGEST[1:],
    "g" + DIGEST[1:],
    "../" + DIGEST[3:],
    "\u0661" * 64,  # ARABIC-INDIC DIGIT ONE
]
NAMES = [pack_name, files_name, tree_name]


@given(st.text("0123456789abcdefABCDEFg-/\n", min_size=62, max_size=66))
def test_a_digest_is_64_lower_case_hexadecimal_digits(text: str) -> None:
    expected = len(text) == 64 and set(text) <= set("0123456789abcdef")
    assert is_digest(text) is expected


@given(st.binary())
def test_every_sha256_has_its_names(data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    assert check_digest(digest) == digest
    assert pack_name(digest) == f"packs/{digest[:2]}/{digest}"
    assert files_name(digest) == f"files/{digest}"
    assert tree_name(digest) == f"trees/{digest}.json"
    assert all(is_object(name(digest)) for name in NAMES)
    assert is_object(f"actions/{digest}.json")


@pytest.mark.parametrize("digest", BAD_DIGESTS)
@pytest.mark.parametrize("name", [check_digest, *NAMES])
def test_what_is_not_a_digest_gets_no_name(name: Callable[[str], str], digest: str) -> None:
    assert not is_digest(digest)
    with pytest.raises(UsageError) as caught:
        name(digest)
    assert repr(digest) in caught.value.what
    assert "64 hexadecimal digits" in caught.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "",
        DIGEST,
        f"packs/{DIGEST}",
        f"packs/{DIGEST[:2]}/{DIGEST}.json",
        f"packs/{DIGEST[:2]}/x/{DIGEST}",
        f"packs/{DIGEST[:2]}/{DIGEST}\n",
        f"files/{DIGEST}.json",
        f"files/{DIGEST[:2]}/{DIGEST}",
        f"files/{DIGEST.upper()}",
        f"trees/{DIGEST}",
        f"trees/{DIGEST}xjson",
        f"actions/{DIGEST}.json.bak",
        f"x/trees/{DIGEST}.json",
        f"leases/{DIGEST}.json",
    ],
)
def test_other_names_are_not_of_forge(name: str) -> None:
    assert not is_object(name)
