"""A real web server over a folder: nginx, with TLS by an authority of the tests' own."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_CONF = """
daemon off; master_process off; pid {work}/pid; error_log {work}/error.log warn;
events {{ worker_connections 256; }}
http {{
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  log_format tally '$status $body_bytes_sent $request_uri $http_range';
  access_log {work}/access.log tally;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port}{tls}; root {root};
    {extra}
  }}
}}
"""


@dataclass(frozen=True)
class WebServer:
    """nginx as it runs."""

    url: str
    port: int
    work: Path

    def answers(self) -> list[tuple[int, int, str, str]]:
        """Status, bytes of the body, path and range of each answer so far."""
        lines = (self.work / "access.log").read_text().splitlines()
        rows = [re.fullmatch(r"(\d+) (\d+) (\S+) (.*)", line) for line in lines]
        return [(int(row[1]), int(row[2]), row[3], row[4]) for row in rows if row]

    def sent(self) -> int:
        """Bytes of all bodies so far."""
        return sum(answer[1] for answer in self.answers())


@dataclass(frozen=True)
class Authority:
    """A certificate authority and one certificate of it, for localhost and 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path


@contextmanager
def web_server(
    root: Path, work: Path, *, authority: Authority | None = None, extra: str = ""
) -> Iterator[WebServer]:
    """nginx over `root`; skips the test where there is none."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    work.mkdir(parents=True)
    port = _free_port()
    tls = " ssl" if authority else ""
    if authority:
        extra += f"ssl_certificate {authority.certificate}; ssl_certificate_key {authority.key};"
    conf = work / "nginx.conf"
    conf.write_text(_CONF.format(work=work, port=port, tls=tls, root=root, extra=extra))
    argv = [program, "-c", str(conf), "-e", str(work / "error.log"), "-p", str(work)]
    with subprocess.Popen(argv) as process:
        try:
            _wait(port, process)
            scheme, host = ("https", "localhost") if authority else ("http", "127.0.0.1")
            yield WebServer(f"{scheme}://{host}:{port}", port, work)
        finally:
            process.terminate()
            process.wait(20)


def make_authority(folder: Path, *, days: int = 30) -> Authority:
    """An authority and a certificate of it; with negative `days` one that has expired."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        for text in ("Forge's tests", "localhost")
    ]
    san = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    )
    root = (
        _builder(names[0], names[0], keys[0], now - timedelta(days=90), now + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(keys[0], hashes.SHA256())
    )
    begin, end = now - timedelta(days=60), now + timedelta(days=days)
    leaf = (
        _builder(names[1], names[0], keys[1], begin, end)
        .add_extension(san, critical=False)
        .sign(keys[0], hashes.SHA256())
    )
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.ca.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("nginx did not start")
