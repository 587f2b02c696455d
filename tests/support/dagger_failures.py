"""Messages of Dagger when something failed, and what each of them is a failure of.

Those with an address were reported by users of Dagger, or of the program that is named; their
variable parts (names, digests) are shortened. The others are how Go, the kernel and gRPC word an
error that no report was found of. None was made by an engine here: there is none on the machines
that these tests run on.
"""

from __future__ import annotations

from dataclasses import dataclass

import graphql
from dagger import QueryError
from dagger._exceptions import QueryErrorValue
from gql import GraphQLRequest

from forge.runners.dagger.failures import EngineFailure

FULL, LOST, NETWORK = EngineFailure.FULL, EngineFailure.LOST, EngineFailure.NETWORK


@dataclass(frozen=True)
class Reported:
    """A message; `failure` None: the engine is well, and the image or the command is at fault."""

    failure: EngineFailure | None
    text: str
    source: str = ""


REPORTED = (
    Reported(
        FULL,
        'failed to add directory "/app/node_modules": failed to get rebased dir for merging: failed'
        ' to add directory "/app/node_modules": failed to copy source directory: failed to copy'
        " files: userspace copy failed: write /var/lib/dagger/worker/snapshots/snapshots/292/fs/app"
        "/dep.js: no space left on device",
        "ontola/atomic-server#1126",
    ),
    Reported(FULL, "failed to create temp dir: mkdir /var/lib/dagger/tmp: no space left on device"),
    Reported(FULL, "write /var/lib/dagger/x: disk quota exceeded"),
    Reported(
        LOST,
        "failed to receive status: rpc error: code = Unavailable desc = error reading from server:"
        " read unix @->/run/buildkit/buildkitd.sock: read: connection reset by peer",
        "airbytehq/airbyte#27347",
    ),
    Reported(
        LOST,
        "build: failed to receive status: rpc error: code = Unavailable desc = closing transport"
        ' due to: connection error: desc = "error reading from server: EOF", received prior goaway:'
        " code: NO_ERROR",
        "airbytehq/airbyte#27168",
    ),
    Reported(
        LOST,
        "failed to load cache key: no active session for ja13ul8z8qvjxt376vmkvzvvs: context"
        " deadline exceeded",
        "dagger/dagger#11293",
    ),
    Reported(
        LOST, "failed to get main client caller: no active session for x", "dagger/dagger#7723"
    ),
    Reported(
        LOST,
        "original error: store return value: failed to get requester session: session for"
        ' "k484qsd6oi3n7wcjdl44be3l9" not found',
        "dagger/dagger#10710",
    ),
    Reported(
        LOST,
        'make request: Post "http://dagger/query": rpc error: code = Unknown desc = server'
        ' "wu4a6pa0asl96zq39iaijneaq" not found',
        "dagger/dagger#5911",
    ),
    Reported(
        LOST,
        'response from query: Post "http://:mem/query": command [docker exec -i dagger-engine-d5'
        " buildctl dial-stdio] has exited with exit status 137, make sure the URL is valid",
        "dagger/dagger#8329",
    ),
    Reported(
        LOST,
        'connection error: desc = "error reading server preface: read |0: file already closed"',
        "dagger/dagger#10486",
    ),
    Reported(
        LOST,
        "failed to get schema: failed to select introspection JSON file: select: parent snapshot"
        " z62ntc4rcflkf4lixwzv8hk2b does not exist: not found",
        "dagger/dagger#10068, of a full disk",
    ),
    Reported(
        LOST,
        'shutdown: do shutdown: Post "http://dagger/shutdown": context deadline exceeded',
        "dagger/dagger#11328",
    ),
    Reported(LOST, 'Post "http://dagger/query": EOF'),
    Reported(LOST, "write unix @->/run/dagger/engine.sock: write: broken pipe"),
    Reported(LOST, "rpc error: code = Unavailable desc = transport is closing"),
    Reported(LOST, "read tcp 10.0.0.1:1->10.0.0.2:8080: use of closed network connection"),
    Reported(LOST, "resolve: container: from: context canceled"),
    Reported(LOST, "http: unexpected EOF reading trailer"),
    Reported(LOST, "connect to engine: connection refused"),
    Reported(
        NETWORK,
        'failed to do request: Head "https://registry-1.docker.io/v2/library/docker/manifests/'
        '24-dind": dial tcp 162.125.2.3:443: i/o timeout',
        "dagger/dagger#8705",
    ),
    Reported(
        NETWORK,
        'Get "https://registry-1.docker.io/v2/": net/http: TLS handshake timeout',
        "docker/hub-feedback#1195",
    ),
    Reported(
        NETWORK,
        'Get "https://registry.example/v2/": tls: failed to verify certificate: x509: certificate'
        " signed by unknown authority",
        "goharbor/harbor#19496",
    ),
    Reported(NETWORK, "dial tcp: lookup registry.example on 10.0.0.1:53: no such host"),
    Reported(NETWORK, "dial tcp 10.0.0.2:5000: connect: connection refused"),
    Reported(NETWORK, "dial tcp 10.0.0.2:443: connect: network is unreachable"),
    Reported(NETWORK, "dial tcp 10.0.0.2:443: connect: no route to host"),
    Reported(
        NETWORK,
        "unexpected status from HEAD request to https://registry.example/v2/a/manifests/1: 503"
        " Service Unavailable",
    ),
    Reported(NETWORK, "toomanyrequests: You have reached your pull rate limit."),
    Reported(
        NETWORK,
        "error: Failed to fetch: `https://index.example/a.whl`\n  Caused by: Request failed after 3"
        " retries\n  Caused by: error sending request for url (https://index.example/a.whl)\n"
        "  Caused by: client error (Connect)\n  Caused by: dns error: failed to lookup address"
        " information: Try again",
        "astral-sh/uv#12016",
    ),
    Reported(
        NETWORK,
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip."
        "_vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new"
        " connection: [Errno -3] Temporary failure in name resolution')': /simple/uv/",
        "docker/for-win#5486",
    ),
    Reported(
        None,
        "failed to resolve source metadata for docker.io/library/builder:latest: pull access"
        " denied, repository does not exist or may require authorization: server message:"
        " insufficient_scope: authorization failed",
        "zhaarey/wrapper#33",
    ),
    Reported(
        None,
        'runc create failed: unable to start container process: exec: "sh": executable file not'
        " found in $PATH: unknown",
        "Onboardbase/securelog-scan#57",
    ),
    Reported(None, "manifest unknown", "alex3025/ilo-fans-controller#16"),
    Reported(None, "no match for platform in manifest: not found"),
    Reported(
        None,
        'process "sample-app -h" did not complete successfully: exit code: 125',
        "dagger/dagger#7190",
    ),
    Reported(None, "lstat /forge/outputs/engine: no such file or directory"),
    Reported(None, "failed to lookup user: no users found"),
    Reported(
        None,
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
        " If you have updated the package versions, please update the hashes.",
    ),
)


def query_error(message: str, **extensions: object) -> QueryError:
    """Return the SDK's error for an answer of an engine with this message."""
    error = QueryErrorValue(message, extensions=dict(extensions))
    request = GraphQLRequest(graphql.parse("{ version }"))
    made: QueryError = QueryError([error], request)
    return made


def exec_error(stderr: str, code: int = 1) -> QueryError:
    """Return the SDK's error for a command that an engine ran and that failed."""
    return query_error(
        f'process "install" did not complete successfully: exit code: {code}',
        _type="EXEC_ERROR", cmd=["install"], exitCode=code, stdout="", stderr=stderr,
    )  # fmt: skip
