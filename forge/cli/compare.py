"""`forge bundle compare`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from pydantic import BaseModel, ValidationError

from forge.accuracy.comparison import BuildComparison, FigureComparison
from forge.accuracy.comparison import compare as compare_receipts
from forge.accuracy.receipt import Receipt, read_receipt
from forge.cli import completion
from forge.cli.common import (
    json_option,
    open_named_store,
    print_json,
    project_option,
    store_option,
)
from forge.cli.terminal import print_table, print_title, tinted
from forge.errors import ConfigurationError, SmokeGateError, UsageError
from forge.release.catalog import Catalog, only_name
from forge.validation import validation_text

__all__ = ["compare"]

MAX_FILE_BYTES: Final = 16 * 1024 * 1024


class ComparedBuild(BaseModel):
    """One of the two builds: `tree` is the digest of its files, null for a receipt in a file."""

    receipt: Receipt
    tree: str | None = None


@dataclass(frozen=True, slots=True)
class _Side:
    """A published version in its store."""

    catalog: Catalog
    name: str
    version: str

    def profiles(self) -> set[str]:
        return set(self.catalog.profiles(self.name, self.version))

    def build(self, profile: str) -> ComparedBuild:
        manifest = self.catalog.manifest(self.name, self.version, profile)
        receipt = self.catalog.accuracy(manifest)
        if receipt is None:
            raise ConfigurationError(
                f"{self.name} {self.version} for {profile} has no receipt",
                why="it was published without one, or its proofs were collected as garbage",
            )
        return ComparedBuild(receipt=receipt, tree=manifest.tree.digest)


class Compared(BaseModel):
    """What the command prints. `same_bytes` is null where a receipt is a file."""

    profile: str | None
    same_bytes: bool | None
    comparison: BuildComparison


@click.command()
@click.argument("first", shell_complete=completion.versions)
@click.argument("second", shell_complete=completion.versions)
@click.option(
    "--profile",
    shell_complete=completion.published_profiles,
    help="Compare this profile only. Default: all that both have.",
)
@click.option(
    "--name",
    shell_complete=completion.bundle_names,
    help="Bundle name. Default: the only bundle in the store.",
)
@click.option("--other-store", help="Store of SECOND. Default: the store of FIRST.")
@store_option
@project_option
@json_option
def compare(
    first: str,
    second: str,
    profile: str | None,
    name: str | None,
    other_store: str | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Compare two builds of one engine by their accuracy receipts.

    FIRST and SECOND are published versions, or files: receipt.json or accuracy.dsse.json. The bytes
    of two builds may differ; exit code 6 means that what they compute differs more than two builds
    of one engine do. Signatures are not verified.

    \b
    forge bundle compare 1.0.0 1.0.1 --profile development
    forge bundle compare 1.0.0 1.0.0 --other-store s3://rebuilds/prod
    forge bundle compare first/receipt.json second/receipt.json --json
    """  # noqa: D301
    files = [Path(one) for one in (first, second) if one.endswith(".json")]
    if len(files) == 1:
        hint = "give two versions, or two files"
        raise UsageError(f"{files[0]} is a file and the other build is a version", hint=hint)
    if files:
        found = [_compared(None, *(ComparedBuild(receipt=_read(path)) for path in files))]
    else:
        urls = (store_url, other_store or store_url)
        catalogs = [Catalog(open_named_store(project_dir, url).objects) for url in urls]
        sides = [
            _Side(catalog, only_name(catalog, name), version)
            for catalog, version in zip(catalogs, (first, second), strict=True)
        ]
        for side in sides:
            side.catalog.require(side.name, side.version, profile)
        found = list(_published(sides, profile))
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
    else:
        for one in found:
            _show(one)
    _require_equal(found)


def _published(sides: Sequence[_Side], profile: str | None) -> Iterator[Compared]:
    first, second = ({profile} if profile else side.profiles() for side in sides)
    profiles = sorted(first & second)
    if not profiles:
        versions = " and ".join(side.version for side in sides)
        raise UsageError(
            f"No profile has both {versions}",
            hint="run 'forge bundle list' to see what is published",
        )
    for one in profiles:
        yield _compared(one, *(side.build(one) for side in sides))


def _compared(profile: str | None, first: ComparedBuild, second: ComparedBuild) -> Compared:
    known = first.tree is not None and second.tree is not None
    return Compared(
        profile=profile,
        same_bytes=first.tree == second.tree if known else None,
        comparison=compare_receipts(first.receipt, second.receipt),
    )


def _read(path: Path) -> Receipt:
    """Read a receipt, or the attestation of one. Raises UsageError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES)
        if path.name.endswith(".dsse.json"):
            return read_receipt(data)
        return Receipt.model_validate_json(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=str(error.strerror)) from None
    except (ValidationError, ValueError) as error:
        hint = "give receipt.json of step accuracy@PROFILE, or accuracy.dsse.json of a bundle"
        why = validation_text(error) if isinstance(error, ValidationError) else str(error)
        raise UsageError(f"{path} is not a valid receipt", why=why, hint=hint) from None


def _show(found: Compared) -> None:
    same = {None: "not compared", True: "the same", False: "different"}[found.same_bytes]
    comparison = found.comparison
    verdict = "equal" if comparison.equal else "not equal"
    first, second = comparison.precision
    precision = first if first == second else f"{first} and {second}"
    of = f"{found.profile}: " if found.profile else ""
    print_title(f"{of}{verdict}; bytes {same}; {precision}")
    rows = [
        (
            one.section,
            one.figure,
            _shown(one.first),
            _shown(one.second),
            _shown(one.allowed),
            tinted(_mark(one)),
        )
        for one in comparison.figures
    ]
    print_table(("section", "figure", "first", "second", "may differ by", "result"), rows)


def _mark(one: FigureComparison) -> str:
    return "equal" if one.equal else "differs"


def _shown(value: float | None) -> str:
    return "not a finite number" if value is None else f"{value:.4g}"


def _require_equal(found: list[Compared]) -> None:
    """Raise SmokeGateError if a build differs."""
    lines = []
    for one in found:
        of = f"{one.profile}: " if one.profile else ""
        first, second = one.comparison.precision
        if first != second:
            lines.append(f"\n{of}precision {first} and {second}")
        lines += [
            f"\n{of}{figure.section}: {figure.figure} {_shown(figure.first)} and"
            f" {_shown(figure.second)}, may differ by {figure.allowed:.4g}"
            for figure in one.comparison.figures
            if not figure.equal
        ]
    if lines:
        raise SmokeGateError(
            "The two builds do not compute the same",
            why="".join(lines),
            hint="compare versions of tools, precision and runner of both builds",
        )
