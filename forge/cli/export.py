"""`forge bundle export|verify|pull`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli import completion
from forge.cli.common import (
    bytes_text,
    json_option,
    open_named_store,
    print_json,
    project_option,
    store_option,
)
from forge.cli.progress_line import progress_line
from forge.cli.terminal import print_text
from forge.cli.trusted import read_root, root_option, trusted_root
from forge.release.catalog import Catalog
from forge.release.repository.unverified_index import check_timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from forge.release.archive_check import ArchiveReport
    from forge.store import Store

__all__ = ["export", "pull", "verify"]

_profile_option = click.option(
    "--profile",
    required=True,
    shell_complete=completion.published_profiles,
    help="Profile of the devices.",
)


@click.command()
@click.argument("name", shell_complete=completion.bundle_names)
@click.argument("version", shell_complete=completion.versions)
@_profile_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; its name ends with .forge.",
)
@root_option
@store_option
@project_option
@json_option
def export(
    name: str,
    version: str,
    profile: str,
    output: Path,
    root_file: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Write a bundle into one file, from which a device installs without a network.

    A channel must point to the version. Needs room for two copies of the bundle in TMPDIR.

    \b
    forge bundle export smollm2 1.4.0 --profile jetson-agx-orin -o smollm2.forge
    """  # noqa: D301
    from forge.release.bundle_reader import BundlePart
    from forge.release.export import export_bundle

    store = _open(project_dir, store_url, name, version, profile)
    root = trusted_root(store, project_dir, store_url, root_file)
    part = BundlePart(name, version, profile)
    done = export_bundle(store, root, part, output, progress_line)
    if as_json:
        print_json(done.as_json())
        return
    print_text(f"{output}: {part}, {bytes_text(done.size)}, channel {', '.join(done.channels)}")
    print_text(f"Devices install from it until {_time(done.expires)}.")
    print_text(
        f"Next, on a device: forge device provision --store {output.name} --root root.json "
        f"--name {name} --channel {done.channels[0]}"
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--root",
    "root_file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Trusted root.json of the publisher.",
)
@json_option
def verify(file: Path, root_file: Path, *, as_json: bool) -> int:
    """Check a file of `forge bundle export`: every byte, the signatures, the proofs.

    Exits with 9 if bytes are damaged and with 7 if a device would not trust it.

    \b
    forge bundle verify smollm2.forge --root root.json
    """  # noqa: D301
    from forge.errors import StoreError
    from forge.release.archive_check import check_archive

    report = check_archive(file, read_root(root_file), progress_line)
    if as_json:
        print_json(report.as_json())
    else:
        _print(file, report)
    return StoreError.exit_code if report.problems else 0


@click.command()
@click.argument("name", shell_complete=completion.bundle_names)
@click.argument("version", shell_complete=completion.versions)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@_profile_option
@root_option
@store_option
@project_option
@json_option
def pull(
    name: str,
    version: str,
    folder: Path,
    profile: str,
    root_file: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Unpack the files of a bundle for other tools, verified as a device verifies them.

    \b
    forge bundle pull smollm2 1.4.0 engine/ --profile jetson-agx-orin
    forge bundle pull smollm2 1.4.0 engine/ --profile jetson-agx-orin --store smollm2.forge
    """  # noqa: D301
    from forge.release.bundle_reader import BundlePart
    from forge.release.export import pull_bundle

    store = _open(project_dir, store_url, name, version, profile)
    root = trusted_root(store, project_dir, store_url, root_file)
    part = BundlePart(name, version, profile)
    manifest = pull_bundle(store, root, part, folder, progress_line)
    if as_json:
        print_json({"folder": str(folder), **manifest.model_dump(mode="json")})
        return
    size, files = bytes_text(manifest.tree.size), manifest.tree.files
    print_text(f"{folder}: {part}, {size} in {files} files")


def _open(
    project_dir: Path | None, store_url: str | None, name: str, version: str, profile: str
) -> Store:
    """Open the store. Raises NotFoundError, with the name probably meant, for an unknown part."""
    store = open_named_store(project_dir, store_url)
    check_timestamp(store.objects)
    Catalog(store.objects).require(name, version, profile)
    return store


def _print(file: Path, report: ArchiveReport) -> None:
    for problem in report.problems:
        print_text(f"{problem.name}: {problem.reason}")
    size = bytes_text(report.bytes)
    print_text(f"{file}: {report.objects} objects, {size}, {len(report.problems)} damaged")
    for part in report.bundles:
        print_text(f"{part}, channel {', '.join(report.channels)}: signatures and proofs are valid")
    if report.expires is not None:
        print_text(f"Devices install from it until {_time(report.expires)}.")
    if report.problems:
        print_text("Next: copy the file again, or make it again with 'forge bundle export'")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
