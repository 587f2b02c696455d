"""`forge report NAME VERSION`, and the reports of what a run has published."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli import completion, summary
from forge.cli.common import (
    json_option,
    open_named_store,
    print_json,
    project_option,
    store_option,
)
from forge.cli.terminal import print_error, print_text
from forge.errors import ForgeError, UsageError

if TYPE_CHECKING:
    from forge.cli.run_result import Publication, RunResult
    from forge.report.files import WrittenReport
    from forge.store import Store

__all__ = ["report", "report_run"]


@click.command()
@click.argument("name", shell_complete=completion.bundle_names)
@click.argument("version", shell_complete=completion.versions)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder to write index.html and report.md into.",
)
@click.option(
    "--root",
    "root_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Root metadata to verify from, e.g. root.json of a device. Default: the store's first "
    "root, which finds damage but not a store that was signed again with other keys.",
)
@click.option(
    "--versions",
    "versions_",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Number of versions to compare, this one included.",
)
@click.option(
    "--proofs",
    is_flag=True,
    help="Write the SBOM, the provenance and the other proofs of each profile, and SHA256SUMS.",
)
@store_option
@project_option
@json_option
def report(
    name: str,
    version: str,
    output: Path,
    root_file: Path | None,
    versions_: int,
    store_url: str | None,
    project_dir: Path | None,
    *,
    proofs: bool,
    as_json: bool,
) -> None:
    """Write the report of a published version: one HTML page, and Markdown.

    It shows figures over the last versions, what a device downloads, gates, the chain of digests,
    SBOM and proofs. Everything is verified first, as a device does; exit code 7 means that a device
    would refuse the version. The page needs no network.

    \b
    forge report smollm2 1.4.0 -o report
    forge report smollm2 1.4.0 -o report --proofs   # for a GitHub release
    forge report smollm2 1.4.0 --store s3://bundles/prod --root root.json -o report
    """  # noqa: D301
    store = open_named_store(project_dir, store_url)
    root = _read_root(root_file) if root_file else None
    made = _made(store, name, version, output, root=root, versions=versions_, proofs=proofs)
    summary.append_text(os.environ, made.text)
    if as_json:
        print_json({"name": name, "version": version, "html": str(made.page),
                    "markdown": str(made.markdown),
                    "proofs": [str(path) for path in made.proofs]})  # fmt: skip
        return
    print_text(f"Report of {name} {version}: {made.page}, {made.markdown}")
    if proofs:
        print_text(f"Proofs: {len(made.proofs) - 1} files and {made.proofs[-1]}")


def _made(
    store: Store,
    name: str,
    version: str,
    folder: Path,
    *,
    root: bytes | None = None,
    versions: int | None = None,
    proofs: bool = False,
) -> WrittenReport:
    """Gather and write a report. `root` None: the store's first root.

    Raises as `gather`, `write_report` and `write_proofs` of forge.report.
    """
    from forge.release.repository.verified_index import first_root
    from forge.report.files import write_report
    from forge.report.gather import DEFAULT_VERSIONS, gather
    from forge.report.proof_files import write_proofs

    found = gather(
        store,
        first_root(store.objects) if root is None else root,
        name,
        version,
        versions=DEFAULT_VERSIONS if versions is None else versions,
    )
    written = write_report(found, folder)
    if not proofs:
        return written
    copies = write_proofs(store, found, folder, (written.page, written.markdown))
    return replace(written, proofs=copies)


def report_run(store: Store, result: RunResult, folder: Path) -> tuple[RunResult, str]:
    """Write the reports of what a run has published; returns the result with their places.

    What was published stays so if a report cannot be written: that is printed to standard error.

    Args:
        store: where it was published.
        result: of the run.
        folder: for the report; of several publications, each gets a folder of its own in it.

    Returns:
        The result, and the Markdown of all reports; empty if there is none.
    """
    if not result.published:
        print_text("No report: this run has published nothing.", out=sys.stderr)
    published, texts = [], []
    for one in result.published:
        place = folder if len(result.published) == 1 else folder / f"{one.name}-{one.version}"
        try:
            made = _made(store, one.name, one.version, place)
        except (ForgeError, OSError) as error:
            print_error(_not_reported(one, error, place))
            published.append(one)
        else:
            texts.append(made.text)
            published.append(one.model_copy(update={"report": str(made.page)}))
    return result.model_copy(update={"published": tuple(published)}), "\n".join(texts)


def _not_reported(one: Publication, error: ForgeError | OSError, place: Path) -> ForgeError:
    why, hint = str(error), ""
    if isinstance(error, ForgeError):
        why, hint = f"{error.what}: {error.why}" if error.why else error.what, error.hint
    again = f"make its report again: forge report {one.name} {one.version} -o {place}"
    return ForgeError(
        f"{one.name} {one.version} is published, but its report could not be made",
        why=why,
        hint="\n".join(filter(None, (hint, again))),
    )


def _read_root(path: Path) -> bytes:
    """Return the root metadata in a file. Raises UsageError."""
    from forge.trust.layout import max_metadata_bytes

    try:
        with path.open("rb") as file:
            return file.read(max_metadata_bytes("root"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=str(error.strerror)) from None
