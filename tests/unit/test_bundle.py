"""The signed documents: parsing, order of versions, and what makes two manifests one release."""

import json

import pytest

from forge.bundle import (
    Channel,
    Manifest,
    Operating,
    check_name,
    check_version,
    parse_channel,
    parse_manifest,
    version_order,
)
from forge.errors import TrustError, UsageError

MANIFEST = {
    "schema_version": 1,
    "name": "smollm2",
    "version": "1.0.0",
    "profile": "development",
    "created": "2026-11-24T04:00:00Z",
    "tree": {"digest": "a" * 64, "size": 10, "files": 2},
    "proofs": {"digest": "b" * 64, "size": 10, "files": 2},
    "fit": {
        "platform": "linux/amd64",
        "match": {},
        "compute_capability": None,
        "memory_mib": 1024,
        "free_disk_mib": 512,
        "driver_min": None,
        "jetpack": [],
        "runtime": {},
        "power_mode": None,
    },
    "serving": {
        "activation": "swap",
        "start_timeout_s": 60,
        "environments": {},
        "images": {},
    },
    "smoke": {
        "concurrency": 1,
        "ttft_ms_p50": 260.0,
        "inter_token_ms_p50": 15.0,
        "output_tokens_per_s": 68.0,
        "error_rate": 0.0,
        "peak_rss_mib": 700.0,
        "machine": "2 x AMD EPYC",
    },
    "chain": [],
}

# `identity()` of MANIFEST, computed by the code from before there were operating settings.
BEFORE = "672327725bfec68aadaa95e01c7714c613f721f1bb8301c0fbf16755bc528cc8"
OPERATING = {
    "power": {"mode": "120W", "limit_w": None, "lock_clocks": False},
    "thermal": {"throttle_c": 95.0, "critical_c": 105.0, "batch_floor": 1},
}


def a_manifest(**changes: object) -> Manifest:
    return parse_manifest(json.dumps(MANIFEST | changes).encode())


def test_manifest_survives_its_own_encoding() -> None:
    manifest = a_manifest()
    assert parse_manifest(manifest.encode()) == manifest


def test_identity_ignores_when_and_how_fast_and_by_which_signature() -> None:
    smoke = {**MANIFEST["smoke"], "ttft_ms_p50": 300.0}  # type: ignore[dict-item]
    again = a_manifest(
        created="2026-11-25T00:00:00Z",
        proofs={"digest": "c" * 64, "size": 11, "files": 2},
        smoke=smoke,
    )
    assert again.identity() == a_manifest().identity()


@pytest.mark.parametrize(
    "change",
    [
        {"tree": {"digest": "d" * 64, "size": 10, "files": 2}},
        {"version": "1.0.1"},
        {"profile": "thor"},
        {"serving": {**MANIFEST["serving"], "activation": "blue-green"}},  # type: ignore[dict-item]
        {"operating": OPERATING},
    ],
    ids=["tree", "version", "profile", "serving", "operating"],
)
def test_identity_changes_with_what_a_device_gets(change: dict[str, object]) -> None:
    assert a_manifest(**change).identity() != a_manifest().identity()


def test_identity_of_a_manifest_from_before_operating_settings_is_as_it_was() -> None:
    assert a_manifest().identity() == BEFORE


def test_operating_settings_are_told_apart_by_each_temperature_and_power() -> None:
    found = {a_manifest(operating=OPERATING).identity()}
    plain = Operating.model_validate(OPERATING)
    for change in ({"mode": "MAXN"}, {"limit_w": 70}, {"lock_clocks": True}):
        power = plain.power.model_copy(update=change).model_dump()
        found.add(a_manifest(operating=OPERATING | {"power": power}).identity())
    for field, value in (("throttle_c", 90.0), ("critical_c", 110.0), ("batch_floor", 2)):
        thermal = plain.thermal.model_copy(update={field: value}).model_dump()
        found.add(a_manifest(operating=OPERATING | {"thermal": thermal}).identity())
    assert len(found) == 7


def test_offsets_of_temperatures_are_told_apart_and_left_out_where_there_are_none() -> None:
    """So that a manifest from before them keeps its bytes and its identity."""
    plain = Operating.model_validate(OPERATING)
    assert plain.model_dump(mode="json") == OPERATING
    assert json.loads(a_manifest(operating=OPERATING).encode())["operating"] == OPERATING
    found = {a_manifest(operating=OPERATING).identity()}
    for field in ("throttle_offset_c", "critical_offset_c"):
        thermal = plain.thermal.model_copy(update={field: 0.0}).model_dump()
        assert thermal[field] == 0.0
        found.add(a_manifest(operating=OPERATING | {"thermal": thermal}).identity())
    assert len(found) == 3


BROKEN = {
    "no JSON": b"{",
    "unknown field": json.dumps(MANIFEST | {"extra": 1}).encode(),
    "newer schema": json.dumps(MANIFEST | {"schema_version": 2}).encode(),
    "short digest": json.dumps(
        MANIFEST | {"tree": {"digest": "abc", "size": 1, "files": 1}}
    ).encode(),
    "endless": b" " * (1024 * 1024 + 1),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_manifest_is_refused_when_it_is_not_whole(data: bytes) -> None:
    with pytest.raises(TrustError, match="The bundle manifest is"):
        parse_manifest(data)


def test_versions_are_ordered_as_semantic_versioning_says() -> None:
    ordered = ["0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0",
               "1.0.1", "1.2.0", "1.10.0"]  # fmt: skip
    backwards = ordered[::-1]
    assert sorted(backwards, key=version_order) == ordered


@pytest.mark.parametrize("version", ["1", "1.0", "v1.0.0", "1.0.0/..", "01.0.0", "1.0.0-", ""])
def test_version_is_refused_when_it_is_none(version: str) -> None:
    with pytest.raises(UsageError, match="is not a valid version"):
        check_version(version)


@pytest.mark.parametrize("name", ["", "../x", "A", "-a", "a" * 64, "a/b"])
def test_name_is_refused_when_it_could_leave_its_folder(name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid name"):
        check_name(name, "Bundle name")


def channel(**changes: object) -> Channel:
    plain = {"name": "llm", "channel": "stable", "version": "1.0.0", "profiles": {}}
    return Channel.model_validate(plain | changes)


def test_a_channel_from_before_there_was_a_fallback_allows_it_where_no_gpu_is() -> None:
    old = b'{"channel":"stable","name":"llm","profiles":{},"schema_version":1,"version":"1.0.0"}'
    assert parse_channel(old).fallback == "without-gpu"


def test_a_channel_says_only_what_is_not_the_default_so_that_old_devices_can_read_it() -> None:
    assert b"fallback" not in channel().encode()
    assert parse_channel(channel(fallback="never").encode()).fallback == "never"
    with pytest.raises(TrustError):
        parse_channel(channel().encode().replace(b'"name"', b'"fallback":"any","name"'))
