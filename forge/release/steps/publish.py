"""`python -m forge.release.steps.publish`: publish one version of a bundle to a channel."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forge.release.steps.common import parser, read_object, run


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    command = parser(__spec__.name, __doc__)
    command.add_argument("--store", required=True, help="URL of the store")
    command.add_argument("--keys", type=Path, required=True, help="keys folder")
    command.add_argument(
        "--request", type=Path, required=True, help="JSON file: settings of the step"
    )
    command.add_argument(
        "--digests", type=Path, required=True, help="JSON file: tree digest by input name"
    )
    command.add_argument("--chain", type=Path, required=True, help="JSON file: links of the chain")
    return run(_publish, command.parse_args(argv))


def _publish(arguments: argparse.Namespace) -> dict[str, Any]:
    from forge.release.repository.unverified_index import already_published, read_index
    from forge.store.backends.open import open_objects

    request, digests = read_object(arguments.request), read_object(arguments.digests)
    now = datetime.now(UTC)
    index = read_index(open_objects(arguments.store, environment=os.environ))
    if already_published(index, request, digests, arguments.keys, now):
        return _unchanged(request, digests)

    # Imported only if there is something to publish: loading these modules takes time.
    from forge.release.attest.lineage import parse_chain
    from forge.release.keys.keyring import Keyring
    from forge.release.keys.passphrases import OwnPassphrases, passphrase_source
    from forge.release.manifest import build, parse_request
    from forge.release.publish import publish
    from forge.store import open_store

    parsed = parse_request(arguments.request.read_bytes())
    links = parse_chain(arguments.chain.read_bytes())
    store = open_store(arguments.store)
    planned = build(store, parsed, digests, links, now)
    keyring = Keyring(
        arguments.keys, passphrase_source(os.environ), OwnPassphrases.read(os.environ)
    )
    done = publish(store, keyring, planned, parsed.channel, now=now)
    for part in done.parts:
        _say(done.name, done.version, part.profile, part.outcome, part.tree)
    if done.points_to != done.version:
        _print(f"channel {done.channel} stays at {done.points_to}, which is newer")
    elif done.written:
        _print(f"channel {done.channel} → {done.version}")
    return done.as_json()


def _unchanged(request: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    parts = []
    for part in request["parts"]:
        profile, tree = part["profile"]["name"], digests[part["inputs"]["repository"]]
        _say(request["name"], request["version"], profile, "unchanged", tree)
        parts.append({"profile": profile, "tree": tree, "outcome": "unchanged"})
    kept = {key: request[key] for key in ("name", "version", "channel")}
    return {**kept, "points_to": request["version"], "parts": parts, "written": False}


def _say(name: str, version: str, profile: str, outcome: str, tree: str) -> None:
    _print(f"{name} {version} {profile}: {outcome}, tree {tree[:12]}")


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
