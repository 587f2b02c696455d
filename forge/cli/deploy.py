"""`forge deploy kubernetes`."""

from __future__ import annotations

from pathlib import Path

import click

from forge import profiles
from forge.cli.common import json_option, open_project, print_json, project_option
from forge.cli.terminal import print_table, tinted
from forge.errors import ConfigurationError, UsageError

__all__ = ["deploy"]


@click.group()
def deploy() -> None:
    """Generate the Kubernetes manifests for devices.

    \b
    forge deploy kubernetes --check
    forge deploy kubernetes --write
    """  # noqa: D301


@deploy.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--write", "do_write", is_flag=True, help="Write files that differ or are missing.")
@click.option("--check", "do_check", is_flag=True, help="Fail if any file differs.")
@project_option
@json_option
def kubernetes(
    directory: Path | None,
    project_dir: Path | None,
    *,
    do_write: bool,
    do_check: bool,
    as_json: bool,
) -> None:
    """Generate one kustomize overlay per profile. DIRECTORY defaults to deploy/kubernetes.

    \b
    forge deploy kubernetes              # compare only
    forge deploy kubernetes --write
    kubectl apply -k deploy/kubernetes/overlays/development
    """  # noqa: D301
    from forge.deploy.overlay import overlay
    from forge.deploy.render import compare, render, write
    from forge.images.bases import read_bases

    if do_write and do_check:
        raise UsageError("--write and --check cannot be used together")
    project = open_project(project_dir)
    folder = directory or project.root / "deploy" / "kubernetes"
    bases = read_bases(project.root / "dockerfiles")
    found = [profiles.load(name, project.profiles) for name in profiles.names(project.profiles)]
    wanted = render(overlay(one.profile, bases) for one in found)
    before = compare(folder, wanted)
    if do_write:
        write(folder, wanted)
    if as_json:
        print_json([{"file": path, "state": state} for path, state in before.items()])
    else:
        rows = [(path, tinted(state)) for path, state in before.items()]
        print_table(("file", "was" if do_write else "state"), rows)
    wrong = [path for path, state in before.items() if state != "same"]
    if do_check and wrong:
        message = f"{len(wrong)} files in {folder} do not match the profiles"
        raise ConfigurationError(
            message, why=", ".join(wrong), hint="forge deploy kubernetes --write"
        )
