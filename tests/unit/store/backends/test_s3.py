"""A store in a bucket: what each answer of S3 means; its contract is in tests/e2e."""

from __future__ import annotations

import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.response import StreamingBody
from botocore.stub import Stubber

import forge.store.backends.s3 as s3_module
from forge.errors import (
    ConfigurationError,
    ConflictError,
    CorruptedError,
    NotInStoreError,
    StoreError,
    TrustError,
)
from forge.store import cancellation
from forge.store.backends.protocol import Entry
from forge.store.backends.s3 import ATTEMPTS, S3Objects
from forge.store.backends.throttle import PROGRESS, RateLimit
from tests.support.stores import noise

ENVIRONMENT = {
    "FORGE_S3_ENDPOINT": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
}
URL = "s3://bucket/some/prefix"
KEY = {"Bucket": "bucket", "Key": "some/prefix/x"}
MOMENT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def got(data: bytes, length: int | None = None) -> dict[str, Any]:
    """An answer; its body ends early where `length` says more."""
    said = len(data) if length is None else length
    return {"Body": StreamingBody(io.BytesIO(data), said), "ContentLength": said, "ETag": '"e"'}


@pytest.fixture(scope="module")
def opened() -> S3Objects:
    """Making a client takes longer than all tests of it."""
    return S3Objects("bucket", "some/prefix", ENVIRONMENT)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr(cancellation, "sleep", found.append)
    return found


@pytest.fixture
def stub(opened: S3Objects, slept: list[float]) -> Iterator[Stubber]:  # noqa: ARG001
    with Stubber(opened._client) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.fixture
def objects(opened: S3Objects, stub: Stubber) -> S3Objects:  # noqa: ARG001
    return opened


READS: dict[str, tuple[str, Callable[[S3Objects], object]]] = {
    "read": ("get_object", lambda objects: objects.read("x", max_bytes=10)),
    "read_range": ("get_object", lambda objects: objects.read_range("x", 0, 10)),
    "stream": ("get_object", lambda objects: list(objects.stream("x", 0, 10))),
    "touch": ("copy_object", lambda objects: objects.touch("x")),
}
USES = {
    **READS,
    "write": ("put_object", lambda objects: objects.write("x", b"1")),
    "write_new": ("put_object", lambda objects: objects.write_new("x", b"1")),
    "delete": ("delete_object", lambda objects: objects.delete("x")),
    "entry": ("head_object", lambda objects: objects.entry("x")),
    "entries": ("list_objects_v2", lambda objects: list(objects.entries("x"))),
    "sweep": ("list_multipart_uploads", lambda objects: objects.sweep(0)),
}


def refuse(stub: Stubber, use: str, code: str, status: int, times: int = 1) -> None:
    for _ in range(times):
        stub.add_client_error(USES[use][0], code, "Said by the server", http_status_code=status)


def test_the_url_has_no_endpoint_and_no_key(objects: S3Objects) -> None:
    assert objects.url == URL
    assert S3Objects("bucket", "", ENVIRONMENT).url == "s3://bucket"


@pytest.mark.parametrize(
    ("changed", "set_one", "missing"),
    [
        ({"AWS_ACCESS_KEY_ID": ""}, "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "t"},
            "AWS_SESSION_TOKEN",
            "AWS_ACCESS_KEY_ID",
        ),
    ],
)
@pytest.mark.parametrize("empty", [True, False])
def test_half_of_a_key_is_refused_with_the_name_of_the_other(
    changed: dict[str, str], set_one: str, missing: str, *, empty: bool
) -> None:
    environment = {**ENVIRONMENT, **changed}
    if not empty:
        environment = {name: value for name, value in environment.items() if value}
    with pytest.raises(ConfigurationError, match=f"{set_one} is set without {missing}") as caught:
        S3Objects("b", "p", environment)
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_opening_takes_the_region_and_the_endpoint_of_the_environment() -> None:
    client = S3Objects("b", "", ENVIRONMENT)._client
    assert (client.meta.region_name, client.meta.endpoint_url) == (
        "us-east-1", "http://127.0.0.1:9",
    )  # fmt: skip
    assert getattr(client.meta.config, "s3", None) == {"addressing_style": "path"}
    aws = S3Objects("b", "", {**ENVIRONMENT, "FORGE_S3_ENDPOINT": "", "AWS_REGION": "eu-west-3"})
    assert aws._client.meta.region_name == "eu-west-3"
    assert not getattr(aws._client.meta.config, "s3", None)


@pytest.mark.parametrize(
    "environment", [{"FORGE_S3_ENDPOINT": "no url"}, {"AWS_PROFILE": "missing"}]
)
def test_settings_that_are_not_valid_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="s3://b/p") as caught:
        S3Objects("b", "p", environment)
    assert next(iter(environment.values())) in caught.value.why
    assert "AWS_" in caught.value.hint


@pytest.mark.parametrize("code", ["NoSuchKey", "404", "NotFound"])
@pytest.mark.parametrize("use", READS)
def test_a_missing_object_is_said_to_be_missing(
    objects: S3Objects, stub: Stubber, code: str, use: str
) -> None:
    refuse(stub, use, code, 404)
    with pytest.raises(NotInStoreError, match=f"x is not in the store {URL}"):
        READS[use][1](objects)


def test_an_entry_that_is_missing_is_none(objects: S3Objects, stub: Stubber) -> None:
    refuse(stub, "entry", "404", 404)
    refuse(stub, "entry", "404", 404)
    assert objects.entry("x") is None
    assert objects.size("x") is None


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("NoSuchBucket", 404, "aws s3 mb s3://bucket"),
        ("AccessDenied", 403, "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, "AWS_SECRET_ACCESS_KEY"),
        ("InvalidAccessKeyId", 403, "AWS_ACCESS_KEY_ID"),
        ("ExpiredToken", 400, "AWS_ACCESS_KEY_ID"),
        ("403", 403, "AWS_ACCESS_KEY_ID"),
        ("MethodNotAllowed", 405, "Said by the server"),
    ],
)
@pytest.mark.parametrize("use", USES)
def test_a_refusal_is_not_tried_again_and_says_what_to_do(
    objects: S3Objects, stub: Stubber, slept: list[float], code: str, status: int, said: str,
    use: str,
) -> None:  # fmt: skip
    refuse(stub, use, code, status)
    with pytest.raises(StoreError, match="bucket") as caught:
        USES[use][1](objects)
    assert not isinstance(caught.value, NotInStoreError | ConflictError)
    assert said in str(caught.value)
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert slept == []


@pytest.mark.parametrize(
    ("code", "status"),
    [("InternalError", 500), ("BadGateway", 502), ("ServiceUnavailable", 503), ("SlowDown", 503),
     ("TooManyRequests", 429), ("RequestTimeout", 400), ("ConditionalRequestConflict", 409)],
)  # fmt: skip
@pytest.mark.parametrize("use", USES)
def test_a_passing_fault_is_tried_four_times(
    objects: S3Objects, stub: Stubber, slept: list[float], code: str, status: int, use: str
) -> None:
    refuse(stub, use, code, status, ATTEMPTS)
    with pytest.raises(StoreError, match=URL) as caught:
        USES[use][1](objects)
    assert code in str(caught.value)
    assert [top / 2 <= pause <= top for pause, top in zip(slept, (0.2, 0.8, 3.2), strict=True)] == [
        True, True, True,
    ]  # fmt: skip


def test_a_fault_that_passed_is_not_seen(objects: S3Objects, stub: Stubber) -> None:
    refuse(stub, "read", "SlowDown", 503, ATTEMPTS - 1)
    stub.add_response("get_object", got(b"12345"), KEY)
    stored = objects.read("x", max_bytes=5)
    assert (stored.data, stored.etag) == (b"12345", '"e"')


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError(), "AWS_PROFILE"),
        (PartialCredentialsError(provider="env", cred_var="x"), "AWS_SECRET_ACCESS_KEY"),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:9"), "http://127.0.0.1:9"),
        (ConnectTimeoutError(endpoint_url="http://127.0.0.1:9"), "FORGE_S3_ENDPOINT"),
    ],
)
def test_without_an_answer_the_reason_is_said(
    opened: S3Objects, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(opened, "_client", SimpleNamespace(get_object=fail))
    with pytest.raises(StoreError, match=URL) as caught:
        opened.read("x", max_bytes=1)
    assert said in str(caught.value)
    assert caught.value.__cause__ is error


def test_an_upload_s_error_is_what_it_wraps(
    opened: S3Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        cause = ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject")
        raise S3UploadFailedError("wrapped") from cause

    monkeypatch.setattr(opened, "_client", SimpleNamespace(upload_file=fail))
    with pytest.raises(StoreError, match="AccessDenied"):
        opened.write_file("x", tmp_path)


def test_conditions_are_sent(objects: S3Objects, stub: Stubber) -> None:
    for condition in ({}, {"IfNoneMatch": "*"}, {"IfMatch": '"old"'}):
        stub.add_response("put_object", {"ETag": '"n"'}, {**KEY, "Body": b"1", **condition})
    assert objects.write("x", b"1") == '"n"'
    assert objects.write_new("x", b"1") == '"n"'
    assert objects.write_if("x", b"1", '"old"') == '"n"'


@pytest.mark.parametrize("code", ["PreconditionFailed", "412"])
def test_a_condition_that_does_not_hold_is_a_conflict(
    objects: S3Objects, stub: Stubber, code: str
) -> None:
    refuse(stub, "write_new", code, 412)
    with pytest.raises(ConflictError, match=f"x in {URL}") as caught:
        objects.write_new("x", b"1")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("found", "mine"), [(b"1", True), (b"2", False), (b"12", False), (None, False)]
)
@pytest.mark.parametrize("retried_by", ["forge", "botocore"])
def test_a_conflict_with_an_own_earlier_try_is_success(
    objects: S3Objects, stub: Stubber, found: bytes | None, retried_by: str, *, mine: bool
) -> None:
    if retried_by == "forge":
        refuse(stub, "write_new", "InternalError", 500)
        refuse(stub, "write_new", "PreconditionFailed", 412)
    else:
        stub.add_client_error(
            "put_object", "PreconditionFailed", http_status_code=412,
            response_meta={"RetryAttempts": 1},
        )  # fmt: skip
    if found is None:
        refuse(stub, "read", "NoSuchKey", 404)
    else:
        stub.add_response("get_object", got(found), KEY)
    if mine:
        assert objects.write_new("x", b"1") == '"e"'
        return
    with pytest.raises(ConflictError):
        objects.write_new("x", b"1")


def test_more_than_was_allowed_is_not_read(objects: S3Objects, stub: Stubber) -> None:
    stub.add_response("get_object", got(b"", 11), KEY)
    with pytest.raises(CorruptedError, match="larger than 10 bytes"):
        objects.read("x", max_bytes=10)


def test_a_range_is_asked_for_and_checked(objects: S3Objects, stub: Stubber) -> None:
    for start, data in ((0, b"1"), (7, b"789")):
        wanted = {**KEY, "Range": f"bytes={start}-{start + len(data) - 1}"}
        for _ in range(2):
            stub.add_response("get_object", got(data), wanted)
        assert objects.read_range("x", start, len(data)) == data
        assert b"".join(objects.stream("x", start, len(data))) == data
    for use in ("read_range", "stream"):
        stub.add_response("get_object", got(b"123"))
        with pytest.raises(CorruptedError, match=f"x in {URL}"):
            READS[use][1](objects)
        refuse(stub, use, "InvalidRange", 416)
        with pytest.raises(CorruptedError, match=f"x in {URL}"):
            READS[use][1](objects)


def test_a_body_that_breaks_off_is_read_again(
    objects: S3Objects, stub: Stubber, slept: list[float]
) -> None:
    stub.add_response("get_object", got(b"12", 5), KEY)
    stub.add_response("get_object", got(b"12345"), KEY)
    assert objects.read("x", max_bytes=9).data == b"12345"
    assert len(slept) == 1


def test_a_stream_goes_on_where_it_broke_off(objects: S3Objects, stub: Stubber) -> None:
    data = noise(1000)
    for start, end in ((0, 600), (600, 700), (700, 1000)):
        wanted = {**KEY, "Range": f"bytes={start}-999"}
        stub.add_response("get_object", got(data[start:end], 1000 - start), wanted)
    assert b"".join(objects.stream("x", 0, 1000)) == data


@pytest.mark.parametrize(("step", "fails"), [(PROGRESS, False), (PROGRESS - 1, True)])
def test_a_stream_that_makes_progress_may_break_any_number_of_times(
    objects: S3Objects, stub: Stubber, step: int, *, fails: bool
) -> None:
    data = noise(6 * PROGRESS)
    starts = list(range(0, len(data), step))[: ATTEMPTS if fails else None]
    for start in starts:
        stub.add_response("get_object", got(data[start : start + step], len(data) - start))
    if fails:
        with pytest.raises(StoreError, match=URL):
            list(objects.stream("x", 0, len(data)))
    else:
        assert b"".join(objects.stream("x", 0, len(data))) == data


def test_a_stream_keeps_to_the_rate_limit(
    objects: S3Objects, stub: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    limit = RateLimit(100_000, clock=lambda: sum(waits), sleep=waits.append)
    monkeypatch.setattr(objects, "_limit", limit)
    stub.add_response("get_object", got(bytes(300_000)))
    assert len(b"".join(objects.stream("x", 0, 300_000))) == 300_000
    assert sum(waits) == pytest.approx(3.0)


def test_a_listing_has_all_pages_and_no_folders(objects: S3Objects, stub: Stubber) -> None:
    def page(*names: str, token: str = "") -> dict[str, Any]:
        rows = [{"Key": f"some/prefix/{name}", "Size": 7, "LastModified": MOMENT} for name in names]
        return {"Contents": rows, **({"NextContinuationToken": token} if token else {})}

    wanted = {"Bucket": "bucket", "Prefix": "some/prefix/packs/a"}
    stub.add_response("list_objects_v2", page("packs/a/1", "packs/a/", token="t"), wanted)
    stub.add_response("list_objects_v2", page("packs/a/2"), {**wanted, "ContinuationToken": "t"})
    times = MOMENT.timestamp()
    assert list(objects.entries("packs/a")) == [
        Entry("packs/a/1", 7, times), Entry("packs/a/2", 7, times),
    ]  # fmt: skip
    stub.add_response("list_objects_v2", {})
    assert list(objects.entries("packs/b")) == []


def test_touching_copies_the_object_onto_itself(objects: S3Objects, stub: Stubber) -> None:
    wanted = {**KEY, "CopySource": KEY, "MetadataDirective": "REPLACE"}
    stub.add_response("copy_object", {}, wanted)
    objects.touch("x")


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", ""])
def test_an_unsafe_name_is_not_sent(objects: S3Objects, name: str) -> None:
    for use in (
        lambda: objects.read(name, max_bytes=1),
        lambda: objects.write(name, b""),
        lambda: objects.delete(name),
        lambda: objects.touch(name),
    ):
        with pytest.raises(TrustError, match="Unsafe path"):
            use()


def test_sweep_ends_old_uploads_of_this_prefix(
    objects: S3Objects, stub: Stubber, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = MOMENT.timestamp()
    uploads = [
        {"Key": "some/prefix/x", "UploadId": "old", "Initiated": datetime(2026, 1, 1, tzinfo=UTC)},
        {"Key": "some/prefix/y", "UploadId": "young", "Initiated": MOMENT},
    ]
    wanted = {"Bucket": "bucket", "Prefix": "some/prefix/"}
    stub.add_response("list_multipart_uploads", {"Uploads": uploads}, wanted)
    stub.add_response("abort_multipart_upload", {}, {**KEY, "UploadId": "old"})
    (objects.scratch() / "pack").touch()
    os.utime(objects.scratch() / "pack", (before, before - 1))
    assert objects.sweep(before) == 2


def test_scratch_is_a_folder_of_this_user_only(
    opened: S3Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = opened.scratch()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    for name, modified in (("old", 0.0), ("young", datetime.now(UTC).timestamp())):
        (folder / name).touch()
        os.utime(folder / name, (modified, modified))
    assert opened.scratch() == folder
    assert [path.name for path in folder.iterdir()] == ["young"]


@pytest.mark.parametrize("kind", ["link", "another user's"])
def test_a_scratch_folder_that_another_user_controls_is_refused(
    opened: S3Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = opened.scratch()
    if kind == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        (tmp_path / "forge-packs-12345").mkdir()
        folder = tmp_path / "forge-packs-12345"
    with pytest.raises(StoreError, match=re.escape(str(folder))) as caught:
        opened.scratch()
    assert "TMPDIR" in caught.value.hint


def skewed(stub: Stubber, use: str, code: str, date: str | None) -> None:
    headers = {"date": date} if date else {}
    meta = {"HTTPHeaders": headers}
    stub.add_client_error(USES[use][0], code, "x", http_status_code=403, response_meta=meta)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "403", "AccessDenied"])
def test_a_wrong_clock_is_named_with_its_difference(
    objects: S3Objects, stub: Stubber, monkeypatch: pytest.MonkeyPatch, use: str, code: str
) -> None:
    now = datetime(2026, 11, 24, 6, 10, tzinfo=UTC)
    monkeypatch.setattr(s3_module, "_now", lambda: now)
    skewed(stub, use, code, "Tue, 24 Nov 2026 04:00:00 GMT")
    with pytest.raises(StoreError, match="clock of this machine differs by 2 h 10 min") as caught:
        USES[use][1](objects)
    assert "this machine has 2026-11-24 06:10:00 UTC" in caught.value.why
    assert "Tue, 24 Nov 2026 04:00:00 GMT" in caught.value.why
    assert "timedatectl" in caught.value.hint
    assert "AWS_ACCESS_KEY_ID" not in str(caught.value)


@pytest.mark.parametrize("date", [None, "yesterday", "Tue, 24 Nov 2026 04:00:00"])
def test_a_refused_time_without_a_date_is_still_the_clock_and_a_refused_key_is_not(
    objects: S3Objects, stub: Stubber, date: str | None
) -> None:
    skewed(stub, "read", "RequestTimeTooSkewed", date)
    with pytest.raises(StoreError, match="by more than 15 minutes"):
        objects.read("x", max_bytes=1)
    skewed(stub, "read", "AccessDenied", date)
    with pytest.raises(StoreError, match="denied access"):
        objects.read("x", max_bytes=1)
