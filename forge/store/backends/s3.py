"""A store in a bucket of S3, or of any compatible service with conditional writes.

`write_new` is `If-None-Match: *`, `write_if` is `If-Match`; see decision 0003. botocore
retries transient faults four times with exponential backoff. Faults that it does not see (a body
that ends early) or gives up on early (its retry quota is used up by many 503 responses) are retried
here, up to `ATTEMPTS` attempts in total with exponential backoff.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import stat
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from forge.errors import (
    ConfigurationError,
    ConflictError,
    CorruptedError,
    NotInStoreError,
    StoreError,
)
from forge.files import check_relative_path
from forge.progress import duration_text
from forge.store import cancellation
from forge.store.backends.protocol import Entry, Stored
from forge.store.backends.s3_body import BROKEN_OFF, blocks
from forge.store.backends.throttle import PROGRESS, MinimumRate, RateLimit, pause
from forge.store.disk_errors import disk_errors, sweep_folder

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

__all__ = ["ATTEMPTS", "S3Objects"]

_T = TypeVar("_T")
ATTEMPTS: Final = 4  # pauses of at most 0.2, 0.8 and 3.2 s
_PART_BYTES: Final = 16 * 1024 * 1024
_CONNECTIONS: Final = 16
_STALE_S: Final = 24 * 3600.0
_TRANSIENT: Final = {500, 502, 503, 504, 429}
_ABSENT: Final = {"NoSuchKey", "404", "NotFound"}
_LOST: Final = {"PreconditionFailed", "412"}
_SKEWED: Final = "RequestTimeTooSkewed"
_MAX_SKEW_S: Final = 15 * 60  # of AWS; an answer to HEAD has no code but 403
_DENIED: Final = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "401",
    "ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed",
}  # fmt: skip


class _LostRaceError(ConflictError):
    """A failed condition; with `retried`, an earlier attempt may have succeeded."""

    def __init__(self, what: str, *, retried: bool) -> None:
        super().__init__(what, hint="run the command again")
        self.retried = retried


class S3Objects:
    """Objects in `bucket` below `prefix`.

    Args:
        bucket: name of the bucket.
        prefix: without slashes at its ends; may be empty.
        environment: FORGE_S3_ENDPOINT or AWS_ENDPOINT_URL; AWS_ACCESS_KEY_ID and so on. Without
            these, boto3 uses its usual sources.
        limit: rate limit for reading packs.
        minimum_rate: creates the minimum rate of one response body.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        environment: Mapping[str, str],
        limit: RateLimit | None = None,
        minimum_rate: Callable[[], MinimumRate] = MinimumRate,
    ) -> None:
        self._limit = limit
        self._minimum_rate = minimum_rate
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint = environment.get("FORGE_S3_ENDPOINT") or environment.get("AWS_ENDPOINT_URL")
        self._client = _client(self._endpoint, environment, self.url)

    @property
    def url(self) -> str:
        """Return the URL, `s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def read(self, name: str, *, max_bytes: int) -> Stored:
        """See `Objects.read`."""

        def get() -> Stored:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            with contextlib.closing(answer["Body"]) as body:
                if answer["ContentLength"] > max_bytes:
                    raise self._too_large(name, max_bytes)
                return Stored(self._whole(body, answer["ContentLength"]), answer["ETag"])

        return self._try(name, get)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See `Objects.read_range`."""

        def get() -> bytes:
            wanted = f"bytes={start}-{start + length - 1}"
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name), Range=wanted)
            with contextlib.closing(answer["Body"]) as body:
                if answer["ContentLength"] != length:
                    raise self._short(name)
                return self._whole(body, length)

        return self._try(name, get)

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        """See `Objects.stream`; resumes where a body ended early."""
        done = failed = 0
        while done < length:
            body = self._try(name, functools.partial(self._body, name, start + done, length - done))
            before = done
            try:
                with contextlib.closing(body):
                    for block in blocks(body, length - done, self._minimum_rate()):
                        done += len(block)
                        if self._limit is not None:
                            self._limit.take(len(block))
                        yield block
            except BROKEN_OFF as error:
                failed = 1 if done - before >= PROGRESS else failed + 1
                if failed == ATTEMPTS:
                    raise self._error(name, error) from error
                cancellation.sleep(pause(failed))

    def report_bad_copy(self, name: str) -> bool:  # noqa: ARG002
        """See `Objects.report_bad_copy`: there is one place only."""
        return False

    def write(self, name: str, data: bytes) -> str:
        """See `Objects.write`."""
        return self._put(name, data)

    def write_new(self, name: str, data: bytes) -> str:
        """See `Objects.write_new`."""
        return self._put(name, data, IfNoneMatch="*")

    def write_if(self, name: str, data: bytes, etag: str) -> str:
        """See `Objects.write_if`."""
        return self._put(name, data, IfMatch=etag)

    def write_file(self, name: str, path: Path, *, take: bool = False) -> None:  # noqa: ARG002  the file is never moved
        """See `Objects.write_file`."""
        parts = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4
        )

        def upload() -> None:
            self._client.upload_file(str(path), self._bucket, self._key(name), Config=parts)

        with disk_errors(f"{path} cannot be read", path):
            self._try(name, upload)

    def delete(self, name: str) -> None:
        """See `Objects.delete`."""
        self._try(
            name, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._key(name))
        )

    def size(self, name: str) -> int | None:
        """See `Objects.size`."""
        entry = self.entry(name)
        return None if entry is None else entry.size

    def entry(self, name: str) -> Entry | None:
        """See `Objects.entry`."""

        def head() -> Entry:
            answer = self._client.head_object(Bucket=self._bucket, Key=self._key(name))
            return Entry(name, answer["ContentLength"], answer["LastModified"].timestamp())

        try:
            return self._try(name, head)
        except NotInStoreError:
            return None

    def touch(self, name: str) -> None:
        """See `Objects.touch`: the object is copied onto itself by the server."""
        key = self._key(name)
        self._try(
            name,
            lambda: self._client.copy_object(
                Bucket=self._bucket,
                Key=key,
                CopySource={"Bucket": self._bucket, "Key": key},
                MetadataDirective="REPLACE",
            ),
        )

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `Objects.entries`."""
        token = ""
        while True:
            page = self._try(prefix, functools.partial(self._page, prefix, token))
            for one in page.get("Contents", []):
                name = one["Key"].removeprefix(self._prefix)
                if not name.endswith("/"):  # some consoles create such objects to show a folder
                    yield Entry(name, one["Size"], one["LastModified"].timestamp())
            token = page.get("NextContinuationToken", "")
            if not token:
                return

    def scratch(self) -> Path:
        """See `Objects.scratch`: a folder of this user in the system's temporary folder (TMPDIR).

        Files of killed processes, up to 256 MiB each, are deleted after a day.
        """
        with disk_errors("The folder for packs cannot be created", tempfile.gettempdir()):
            folder = _scratch_folder()
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                hint = "delete it, or set TMPDIR to another folder"
                raise StoreError(f"{folder} belongs to another user", hint=hint)
            sweep_folder(folder, time.time() - _STALE_S)
        return folder

    def sweep(self, before: float) -> int:
        """See `Objects.sweep`: incomplete multipart uploads, and packs on this disk."""
        with disk_errors("The folder for packs cannot be swept", tempfile.gettempdir()):
            swept = sweep_folder(_scratch_folder(), before)
        pages = self._client.get_paginator("list_multipart_uploads")

        def uploads() -> list[Any]:
            found = pages.paginate(Bucket=self._bucket, Prefix=self._prefix)
            return [one for page in found for one in page.get("Uploads", [])]

        for one in self._try("uploads", uploads):
            if one["Initiated"].timestamp() < before:
                abort = functools.partial(
                    self._client.abort_multipart_upload,
                    Bucket=self._bucket,
                    Key=one["Key"],
                    UploadId=one["UploadId"],
                )
                self._try(one["Key"], abort)
                swept += 1
        return swept

    def _whole(self, body: StreamingBody, length: int) -> bytes:
        return b"".join(blocks(body, length, self._minimum_rate()))

    def _body(self, name: str, start: int, length: int) -> StreamingBody:
        wanted = f"bytes={start}-{start + length - 1}"
        answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name), Range=wanted)
        if answer["ContentLength"] != length:
            answer["Body"].close()
            raise self._short(name)
        return answer["Body"]

    def _page(self, prefix: str, token: str) -> Any:
        where = f"{self._prefix}{prefix}"
        if not token:
            return self._client.list_objects_v2(Bucket=self._bucket, Prefix=where)
        return self._client.list_objects_v2(
            Bucket=self._bucket, Prefix=where, ContinuationToken=token
        )

    def _put(self, name: str, data: bytes, **condition: str) -> str:
        tries = 0

        def put() -> str:
            nonlocal tries
            tries += 1
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=self._key(name),
                Body=data,
                **condition,  # type: ignore[arg-type]  # IfMatch or IfNoneMatch
            )
            return answer["ETag"]

        try:
            return self._try(name, put)
        except ConflictError as error:
            retried = tries > 1 or (isinstance(error, _LostRaceError) and error.retried)
            found = self._same(name, data) if retried else None
            if found is None:
                raise
            return found  # an earlier attempt succeeded, but its response was lost

    def _same(self, name: str, data: bytes) -> str | None:
        try:
            stored = self.read(name, max_bytes=len(data))
        except (NotInStoreError, CorruptedError):
            return None
        return stored.etag if stored.data == data else None

    def _key(self, name: str) -> str:
        return f"{self._prefix}{check_relative_path(name)}"

    def _try(self, name: str, call: Callable[[], _T]) -> _T:
        """Call a function, with retries after transient faults. Raises StoreError."""
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except (BotoCoreError, ClientError, Boto3Error) as error:
                if attempt + 1 == ATTEMPTS or not _transient(error):
                    raise self._error(name, error) from error
                time.sleep(random.uniform(0.5, 1.0) * 0.2 * 4**attempt)  # noqa: S311  jitter
        raise AssertionError

    def _error(self, name: str, error: BotoCoreError | ClientError | Boto3Error) -> StoreError:
        cause = _cause(error)
        if isinstance(cause, ClientError):
            return self._answered(name, cause)
        if isinstance(cause, NoCredentialsError | PartialCredentialsError):
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            return StoreError(f"No credentials for the store {self.url}", hint=hint)
        where = f" at {self._endpoint}" if self._endpoint else ""
        what = f"The store {self.url}{where} is unreachable"
        hint = "check the network and FORGE_S3_ENDPOINT, then run the command again"
        return StoreError(what, why=_short_text(cause), hint=hint)

    def _answered(self, name: str, error: ClientError) -> StoreError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        metadata = error.response.get("ResponseMetadata", {})
        status = metadata.get("HTTPStatusCode", 0)
        if code in _ABSENT:
            return NotInStoreError(f"{name} is not in the store {self.url}")
        if code in _LOST:
            what = f"{name} in {self.url} was written by another process first"
            return _LostRaceError(what, retried=metadata.get("RetryAttempts", 0) > 0)
        if code == "InvalidRange":
            return self._short(name)
        return self._refused(name, error, code, status)

    def _refused(self, name: str, error: ClientError, code: str, status: int) -> StoreError:
        if code == "NoSuchBucket":
            hint = f"create it, for example: aws s3 mb s3://{self._bucket}"
            return StoreError(f"No bucket {self._bucket} for {self.url}", hint=hint)
        if code == _SKEWED or (code in _DENIED and _skew_s(error) > _MAX_SKEW_S):
            return self._clock(error)
        if code in _DENIED:
            hint = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the permissions of that key"
            return StoreError(f"The store {self.url} denied access", why=code, hint=hint)
        if status in _TRANSIENT:
            hint = "wait a moment, then run the command again: it reuses what is already stored"
            what = f"The store {self.url} is overloaded or failing"
            return StoreError(what, why=f"{status} {code} after several attempts", hint=hint)
        hint = "run the command again; if it keeps failing, contact the store's administrator"
        return StoreError(
            f"The store {self.url} failed", why=f"{name}: {_short_text(error)}", hint=hint
        )

    def _clock(self, error: ClientError) -> StoreError:
        """Return the error for a signature that S3 refuses because of its time."""
        skew = _skew_s(error)
        by = f"by {duration_text(skew)}" if skew else "by more than 15 minutes"
        return StoreError(
            f"The clock of this machine differs {by} from that of the store {self.url}",
            why=f"this machine has {_now():%Y-%m-%d %H:%M:%S} UTC, the store answered at "
            f"{_answered_at(error) or 'another time'}",
            hint="set the clock, for example: timedatectl set-ntp true",
        )

    def _too_large(self, name: str, max_bytes: int) -> CorruptedError:
        message = f"{name} in {self.url} is larger than {max_bytes} bytes"
        return CorruptedError(message, hint="run 'forge store verify --repair'")

    def _short(self, name: str) -> CorruptedError:
        message = f"{name} in {self.url} is truncated"
        return CorruptedError(message, hint="run 'forge store verify --repair'")


def _scratch_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"forge-packs-{os.getuid()}"


def _client(endpoint: str | None, environment: Mapping[str, str], url: str) -> S3Client:
    settings = Config(
        connect_timeout=10,
        read_timeout=30,
        retries={"mode": "standard", "max_attempts": 4},
        max_pool_connections=_CONNECTIONS,
        # Only AWS has a host name for each bucket.
        s3={"addressing_style": "path"} if endpoint else {},
    )
    _check_credentials(environment, url)
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    try:
        session = boto3.Session(
            aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID") or None,
            aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY") or None,
            aws_session_token=environment.get("AWS_SESSION_TOKEN") or None,
            profile_name=environment.get("AWS_PROFILE") or None,
            region_name=region or ("us-east-1" if endpoint else None),
        )
        return session.client("s3", endpoint_url=endpoint, config=settings)
    except (BotoCoreError, ValueError) as error:
        hint = "check FORGE_S3_ENDPOINT and the AWS_ variables"
        raise ConfigurationError(
            f"The store {url} cannot be opened", why=_short_text(error), hint=hint
        ) from error


def _check_credentials(environment: Mapping[str, str], url: str) -> None:
    """Raise ConfigurationError for half of a key, which boto3 takes for a mistake of the caller.

    An empty variable is what a CI job gets for a secret that it does not have.
    """
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    given = [name for name in names if environment.get(name)]
    missing = [name for name in names if name not in given]
    token = environment.get("AWS_SESSION_TOKEN")
    if (given or token) and missing:
        what = f"The credentials for the store {url} are not complete"
        why = f"{' and '.join(given or ['AWS_SESSION_TOKEN'])} is set without {missing[0]}"
        hint = f"set {missing[0]} too; in a CI job, check the name of its secret"
        raise ConfigurationError(what, why=why, hint=hint)


def _now() -> datetime:
    return datetime.now(UTC)


def _answered_at(error: ClientError) -> str:
    """Return the Date header of an answer; empty if it has none."""
    metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    return str(metadata.get("HTTPHeaders", {}).get("date", ""))


def _skew_s(error: ClientError) -> float:
    """Return how far this machine's clock is from the answer's Date header; 0 if not known."""
    try:
        return abs((parsedate_to_datetime(_answered_at(error)) - _now()).total_seconds())
    except (ValueError, TypeError):  # no header, no date, or one without a time zone
        return 0.0


def _cause(error: BaseException) -> BaseException:
    """Return the error that boto3's transfer wraps."""
    if isinstance(error, Boto3Error):
        return error.__cause__ or error.__context__ or error
    return error


def _transient(error: BaseException) -> bool:
    cause = _cause(error)
    if isinstance(cause, ClientError):
        metadata = cause.response.get("ResponseMetadata", {})
        code = cause.response.get("Error", {}).get("Code", "")
        return metadata.get("HTTPStatusCode") in _TRANSIENT or code in {
            "SlowDown",
            "RequestTimeout",
            "ConditionalRequestConflict",
        }
    return isinstance(cause, BROKEN_OFF)


def _short_text(error: BaseException) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
