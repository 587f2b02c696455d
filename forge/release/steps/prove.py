"""`python -m forge.release.steps.prove`: sign provenance and engine of a model repository."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from forge.errors import ConfigurationError
from forge.release.attest.attest import prove
from forge.release.attest.invocation import Invocation
from forge.release.attest.lineage import parse_chain
from forge.release.attest.predicates import Predicate, write_predicate
from forge.release.keys.keyring import Keyring
from forge.release.keys.passphrases import OwnPassphrases, passphrase_source
from forge.release.steps.common import parser, read_object, run
from forge.validation import validation_text


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    command = parser(__spec__.name, __doc__)
    command.add_argument("--repository", type=Path, required=True, help="unpacked model repository")
    command.add_argument(
        "--sbom", type=Path, required=True, help="folder that the sbom command wrote"
    )
    command.add_argument(
        "--measured", type=Path, help="folder that the smoke benchmark wrote; it is signed too"
    )
    command.add_argument(
        "--accuracy", type=Path, help="folder with the engine's receipt; it is signed too"
    )
    command.add_argument(
        "--checkpoint-signature",
        type=Path,
        help="folder with what was verified of the checkpoint's signature; it is signed too",
    )
    command.add_argument(
        "--digests", type=Path, required=True, help="JSON file: tree digest by input name"
    )
    command.add_argument("--chain", type=Path, required=True, help="JSON file: links of the chain")
    command.add_argument(
        "--settings", type=Path, required=True, help="JSON file: settings of the step"
    )
    command.add_argument("--keys", type=Path, required=True, help="keys folder")
    command.add_argument("--output", type=Path, required=True, help="folder to write the proofs to")
    return run(_prove, command.parse_args(argv))


def _prove(arguments: argparse.Namespace) -> dict[str, Any]:
    digests, settings = read_object(arguments.digests), read_object(arguments.settings)
    keyring = Keyring(
        arguments.keys, passphrase_source(os.environ), OwnPassphrases.read(os.environ)
    )
    found = prove(
        repository=arguments.repository,
        sbom=arguments.sbom,
        digests=digests,
        links=parse_chain(arguments.chain.read_bytes()),
        keyring=keyring,
        output=arguments.output,
        profile=str(settings.get("profile", "")),
        invocation=_invocation(settings),
    )
    predicates = [Predicate.performance(arguments.measured)] if arguments.measured else []
    if arguments.accuracy:
        predicates.append(Predicate.accuracy(arguments.accuracy))
    if arguments.checkpoint_signature:
        predicates.append(Predicate.checkpoint(arguments.checkpoint_signature))
    signed = {
        one.file: write_predicate(one, digests["repository"], keyring, arguments.output)
        for one in predicates
    }
    return found | signed


def _invocation(settings: dict[str, Any]) -> Invocation | None:
    """Return what the pipeline states; a project of an earlier version states nothing."""
    if settings.get("invocation") is None:
        return None
    try:
        return Invocation.model_validate(settings["invocation"])
    except ValidationError as error:
        what = "The invocation in the settings of the step is not valid"
        raise ConfigurationError(what, why=validation_text(error)) from None


if __name__ == "__main__":
    sys.exit(main())
