"""`forge profile list|show|schema`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from forge import profiles
from forge.check import SCHEMA, schema_text
from forge.cli import completion
from forge.cli.common import json_option, open_project, print_json, project_option
from forge.cli.terminal import print_list, print_table, print_text, value_text
from forge.files import write_durably

__all__ = ["profile"]


@click.group()
def profile() -> None:
    """Show and check device profiles.

    \b
    forge profile list
    forge profile show jetson-agx-thor
    """  # noqa: D301


@profile.command("list")
@project_option
@json_option
def list_profiles(project_dir: Path | None, *, as_json: bool) -> None:
    """List the project's profiles.

    \b
    forge profile list
    """  # noqa: D301
    project = open_project(project_dir)
    loaded = [profiles.load(name, project.profiles) for name in profiles.names(project.profiles)]
    found = [one.profile for one in loaded]
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    rows = [
        (one.name, one.platform, one.engine.builder, one.engine.precision,
         "yes" if one.unverified else "no", one.description)
        for one in found
    ]  # fmt: skip
    print_table(("profile", "platform", "builder", "precision", "unverified", "device"), rows,
                optional=("unverified", "precision"))  # fmt: skip


@profile.command()
@click.argument("name", shell_complete=completion.profile_names)
@click.option(
    "--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a profile field."
)
@project_option
@json_option
def show(name: str, overrides: tuple[str, ...], project_dir: Path | None, *, as_json: bool) -> None:
    """Show each value of a profile and its origin.

    \b
    forge profile show development
    forge profile show jetson-agx-thor --set engine.max_batch_size=4
    """  # noqa: D301
    project = open_project(project_dir)
    resolved = profiles.load(name, project.profiles, environment=os.environ, overrides=overrides)
    values = resolved.profile.model_dump(mode="json")
    if as_json:
        origins = {
            path: {"source": origin.source.name.lower(), "where": origin.where}
            for path, origin in resolved.origins.items()
        }
        print_json({"profile": values, "origins": origins})
        return
    rows = []
    by_origin = sorted(resolved.origins.items(), key=_by_origin)
    for path, origin in by_origin:
        value = values
        for part in path.split("."):
            value = value[part]
        if path != "unverified":  # printed below, a line each
            rows.append((path, value_text(value), origin.where))
    print_table(("field", "value", "from"), rows, group="from")
    print_list("\nNot verified on hardware", resolved.profile.unverified)


def _by_origin(one: tuple[str, profiles.Origin]) -> tuple[int, str, str]:
    """Sort fields by where their values come from, the lowest layer first."""
    path, origin = one
    return origin.source.value, origin.where, path


@profile.command()
@click.option("--write", is_flag=True, help="Write artifacts/schema/profile.schema.json.")
@project_option
def schema(project_dir: Path | None, *, write: bool) -> None:
    """Show the JSON Schema of a profile file, for editors.

    \b
    forge profile schema --write
    """  # noqa: D301
    text = schema_text()
    if not write:
        click.echo(text, nl=False)
        return
    path = open_project(project_dir).root / SCHEMA
    write_durably(path, text.encode())
    print_text(f"wrote {path}")
