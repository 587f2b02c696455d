"""AWS KMS's API on 127.0.0.1 by local-kms, which signs with real keys and is built by Go.

AWS itself is not asked: nobody here has an account. `go install` takes half a minute, once.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tests.support import caches

LOCAL_KMS = "github.com/nsmithuk/local-kms@v0.0.0-20260228092603-2a5e92d09ab6"
START_S = 20.0


@dataclass(frozen=True)
class Kms:
    """A running server."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_KMS": self.endpoint,
            "AWS_ACCESS_KEY_ID": "forge-test",
            "AWS_SECRET_ACCESS_KEY": "forge-test-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def make(self, alias: str, kind: str = "ECC_NIST_P256") -> str:
        """The URI of a new key."""
        client = boto3.client(
            "kms", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id="forge-test", aws_secret_access_key="forge-test-secret",
        )  # fmt: skip
        usage = "ENCRYPT_DECRYPT" if kind == "SYMMETRIC_DEFAULT" else "SIGN_VERIFY"
        made = client.create_key(KeyUsage=usage, KeySpec=kind)
        client.create_alias(AliasName=f"alias/{alias}", TargetKeyId=made["KeyMetadata"]["KeyId"])
        client.close()
        return f"awskms:alias/{alias}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def program() -> Path:
    """local-kms, built where that was not done yet; skips where it cannot be."""
    built = caches.DOWNLOADS / "local-kms"
    if built.is_file():
        return built
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go here, which builds local-kms, the KMS server of these tests")
    environment = {**os.environ, "GOBIN": str(caches.DOWNLOADS)}
    command = [go, "install", LOCAL_KMS]
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        pytest.skip(f"local-kms cannot be built: {done.stderr.strip()[-300:]}")
    return built


@contextmanager
def running(folder: Path) -> Iterator[Kms]:
    """A server whose keys lie in `folder`."""
    binary = program()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment: Mapping[str, str] = {
        "PATH": os.environ["PATH"], "PORT": str(port), "KMS_DATA_PATH": str(folder),
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary], env=environment, stdout=log, stderr=log)
    try:
        _wait(port, process)
        yield Kms(f"http://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("local-kms did not start")


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    with running(tmp_path_factory.mktemp("kms")) as server:
        yield server
