"""`python -m forge.release publish|prove|sbom`: what the stages run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge.errors import ConfigurationError, ForgeError, StoreError

if TYPE_CHECKING:
    from forge.release.keyring import Keyring

_MAX_BYTES = 16 * 1024 * 1024


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        result: dict[str, Any] = arguments.run(arguments)
    except ForgeError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"Error: {error}\n")
        return StoreError.exit_code
    text = json.dumps(result, indent=2, sort_keys=True) + "\n"
    if arguments.result:
        arguments.result.write_text(text, encoding="utf-8")
    if arguments.json:
        sys.stdout.write(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m forge.release", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("--result", type=Path, help="write the result as JSON to this file")
    commands = parser.add_subparsers(required=True, dest="command")

    command = commands.add_parser("publish", parents=[common], help="publish a bundle version")
    command.add_argument("--store", required=True, help="URL of the store")
    command.add_argument("--keys", type=Path, required=True, help="folder of keys")
    command.add_argument("--request", type=Path, required=True, help="settings of the step")
    command.add_argument("--digests", type=Path, required=True, help="tree digest by input name")
    command.add_argument("--chain", type=Path, required=True, help="links of the chain")
    command.set_defaults(run=_publish)

    command = commands.add_parser("prove", parents=[common], help="provenance, model signature")
    command.add_argument("--repository", type=Path, required=True, help="the tree to prove")
    command.add_argument("--sbom", type=Path, required=True, help="output of the sbom command")
    command.add_argument("--digests", type=Path, required=True, help="tree digest by input name")
    command.add_argument("--chain", type=Path, required=True, help="links of the chain")
    command.add_argument("--settings", type=Path, required=True, help="settings of the step")
    command.add_argument("--keys", type=Path, required=True, help="folder of keys")
    command.add_argument("--output", type=Path, required=True, help="folder to write")
    command.set_defaults(run=_prove)

    command = commands.add_parser("sbom", parents=[common], help="CycloneDX of a repository")
    command.add_argument("--repository", type=Path, required=True, help="the tree to describe")
    command.add_argument("--output", type=Path, required=True, help="folder to write")
    command.set_defaults(run=_sbom)
    return parser


def _publish(arguments: argparse.Namespace) -> dict[str, Any]:
    from forge.release.index import already_published, read_index
    from forge.store.location import open_objects

    request, digests = _json(arguments.request), _json(arguments.digests)
    now = datetime.now(UTC)
    index = read_index(open_objects(arguments.store, environment=os.environ))
    if already_published(index, request, digests, arguments.keys, now):
        return _unchanged(request, digests)

    from forge.release.chain import parse_chain
    from forge.release.manifests import build, parse_request
    from forge.release.publish import publish
    from forge.store import open_store

    parsed = parse_request(arguments.request.read_bytes())
    links = parse_chain(arguments.chain.read_bytes())
    store = open_store(arguments.store)
    planned = build(store, parsed, digests, links, now)
    done = publish(store, _ring(arguments.keys), planned, parsed.channel, now=now)
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


def _prove(arguments: argparse.Namespace) -> dict[str, Any]:
    from forge.release.chain import parse_chain
    from forge.release.prove import prove

    return prove(
        repository=arguments.repository,
        sbom=arguments.sbom,
        digests=_json(arguments.digests),
        links=parse_chain(arguments.chain.read_bytes()),
        ring=_ring(arguments.keys),
        output=arguments.output,
        profile=str(_json(arguments.settings).get("profile", "")),
    )


def _sbom(arguments: argparse.Namespace) -> dict[str, Any]:
    from forge.release.sbom import write_sbom

    return write_sbom(arguments.repository, arguments.output)


def _ring(folder: Path) -> Keyring:
    from forge.release.keyring import Keyring
    from forge.release.private_keys import passphrase_source

    return Keyring(folder, passphrase_source(os.environ))


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigurationError(f"{path} is larger than {_MAX_BYTES} bytes")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"Cannot read {path}", why=str(error)) from None
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path} does not hold a JSON object")
    return value


def _say(name: str, version: str, profile: str, outcome: str, tree: str) -> None:
    _print(f"{name} {version} {profile}: {outcome}, tree {tree[:12]}")


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
