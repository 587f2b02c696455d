"""A real S3 server (SeaweedFS `weed`) on 127.0.0.1, started in some three seconds."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY = "forge-test"
SECRET_KEY = "forge-test-secret"
START_S = 60.0
START_TRIES = 3
_SOCKETS = Path("/tmp")  # noqa: S108  whatever TMPDIR says
# The rights that deploy/terraform/aws gives each role of the workflows, in a bucket of their own.
ROLES_BUCKET = "forge-roles"
_RIGHTS = Path(__file__).parents[2] / "deploy" / "terraform" / "aws" / "roles.json"


def _rights(folders: list[str]) -> tuple[str, ...]:
    """Return the rights of a role that reads all and writes these folders; "" is all of them."""
    below = [f"{ROLES_BUCKET}/forge/{folder}/*".replace("//", "/") for folder in folders]
    return (f"Read:{ROLES_BUCKET}", f"List:{ROLES_BUCKET}", *(f"Write:{one}" for one in below))


ROLES = {
    name: _rights(role["write"]) for name, role in json.loads(_RIGHTS.read_text("utf-8")).items()
}


class NotStartedError(Exception):
    """The server does not answer."""


@dataclass
class Seaweed:
    """A server and how to reach it. `stop` and `start` keep data and port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    buckets: int = 0
    ports: list[int] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "FORGE_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def role(self, name: str) -> dict[str, str]:
        """Credentials that may do what ROLES says, as an assumed role would bring them."""
        return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": f"{name}-secret"}

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=10),
        )

    def bucket(self) -> str:
        """A new empty bucket."""
        self.buckets += 1
        name = f"forge-{self.buckets:04d}"
        self.client().create_bucket(Bucket=name)
        return name

    def start(self) -> None:
        """Start it and wait until it answers."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        (self.folder / "s3.json").write_text(json.dumps(_identities()))
        names = ("master", "volume", "filer")
        argv = [str(Path(sys.executable).parent / "weed"), "server", f"-dir={data}"]
        argv += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={self.folder}/s3.json"]
        argv += [f"-s3.port={self.port}", f"-s3.port.grpc={self.ports[6]}"]
        for number, name in enumerate(names):
            argv += [f"-{name}.port={self.ports[number]}"]
            argv += [f"-{name}.port.grpc={self.ports[3 + number]}"]
        argv += [
            "-volume.max=5000",
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
        ]
        argv += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # fixed ports by default
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.folder)
        self._wait()

    def stop(self) -> None:
        """Kill it, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self._remove_sockets()

    def _remove_sockets(self) -> None:
        """Remove what it has left in /tmp: weed of another user could not take such a port."""
        for port in {self.port, *self.ports}:
            for left in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                with contextlib.suppress(OSError):  # another user's, of an earlier run
                    left.unlink()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._use()
            except (BotoCoreError, ClientError) as error:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text(errors="replace")[-3000:]
                    raise NotStartedError(f"weed does not answer: {error}\n{log}") from error
                time.sleep(0.1)
            else:
                return

    def _use(self) -> None:
        """Store and read something: the servers behind the gateway must be up too."""
        client = self.client()
        try:
            client.create_bucket(Bucket="forge-ready")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}:
                raise
        client.put_object(Bucket="forge-ready", Key="ready", Body=b"x" * 100_000)
        client.get_object(Bucket="forge-ready", Key="ready")["Body"].read()


def _identities() -> dict[str, object]:
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    roles = [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}],
            "actions": list(allowed),
        }
        for name, allowed in ROLES.items()
    ]
    return {"identities": [{"name": "t", "credentials": credentials, "actions": actions}, *roles]}


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, below those the kernel gives to outgoing connections.

    All are held until the last is drawn, so that none is drawn twice.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            port = random.randint(15_000, 32_000)  # noqa: S311  not for secrets
            one = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
    return found


def run(folder: Path) -> Iterator[Seaweed]:
    for left in reversed(range(START_TRIES)):
        ports = free_ports(8)
        server = Seaweed(folder, ports[7], ports=ports)
        try:
            server.start()
        except NotStartedError as error:  # another process may have taken a port meanwhile
            server.stop()
            if not left:
                pytest.fail(str(error))
            continue
        try:
            yield server
        finally:
            server.stop()
        return


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """One server for the whole session. Do not stop it: take `own_seaweedfs` for that."""
    # boto3 must not find this machine's credentials in a test about missing ones.
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    yield from run(tmp_path_factory.mktemp("seaweedfs"))


@pytest.fixture
def own_seaweedfs(tmp_path: Path) -> Iterator[Seaweed]:
    """A server of the test's own, which it may kill."""
    yield from run(tmp_path / "seaweedfs")
