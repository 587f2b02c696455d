"""The command of the checkpoint step."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from forge.checkpoint.fetch import FetchWatch, fetch, fetch_model
from forge.checkpoint.signer import SIGNATURE, CheckpointSigner
from forge.checkpoint.verified import RECORD
from forge.errors import ForgeError
from forge.files import write_durably
from forge.progress import PROGRESS, ProgressMeter, Throttle


def main(argv: list[str] | None = None) -> int:
    """Run `python -m forge.checkpoint URL OUTPUT [HF_PROGRAM]`; return the exit code."""
    given = _parser().parse_args(argv)
    given.output.mkdir(parents=True, exist_ok=True)
    try:
        if given.embedding:
            digest = fetch(
                given.url, given.output, environment=os.environ, hf_tool=given.hf, watch=_watch()
            )
            print(f"sha256={digest}")  # noqa: T201
            return 0
        found = fetch_model(
            given.url,
            given.output,
            environment=os.environ,
            hf_tool=given.hf,
            watch=_watch(),
            signer=_signer(given),
        )
    except ForgeError as error:
        with contextlib.suppress(BrokenPipeError):
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    if found.signature is not None:
        print(f"signed {found.signature.text}")  # noqa: T201
        if given.record is not None:
            record = found.signature.model_dump_json(indent=2) + "\n"
            write_durably(given.record / RECORD, record.encode())
    print(f"sha256={found.sha256}")  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m forge.checkpoint", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("hf", type=Path, nargs="?", help="the hf program, for hf: URLs")
    parser.add_argument(
        "--embedding", action="store_true", help="an embedding model, which its compiler checks"
    )
    signer = parser.add_mutually_exclusive_group()
    signer.add_argument("--key", type=Path, help="public key that must have signed")
    signer.add_argument("--certificates", type=Path, help="certificates that are trusted")
    parser.add_argument("--identity", default="", help="name in the signing certificate")
    parser.add_argument("--signature", default=SIGNATURE, help="signature in the source")
    parser.add_argument("--signature-file", type=Path, help="signature that is not in the source")
    parser.add_argument("--record", type=Path, help="folder for what was verified")
    return parser


def _signer(given: argparse.Namespace) -> CheckpointSigner | None:
    places = given.identity, given.signature, given.signature_file
    if given.key is not None:
        return CheckpointSigner("key", given.key, *places)
    if given.certificates is not None:
        return CheckpointSigner("certificate", given.certificates, *places)
    return None


def _watch() -> FetchWatch:
    """Return callbacks that print what the view of the run shows next to the step."""
    meter, throttle = ProgressMeter(), Throttle(1.0)

    def progress(done: int, total: int) -> None:
        text = meter.text(done, total)
        if throttle.due():
            print(f"{PROGRESS}{text}", flush=True)  # noqa: T201

    return FetchWatch(progress, lambda text: print(text, flush=True))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
