"""`forge plan|run|why|matrix PIPELINE`: a pipeline's own parameters are its options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from forge import profiles
from forge.cli.common import (
    json_option,
    keys_option,
    open_project,
    open_project_store,
    owner,
    print_json,
    print_table,
    store_option,
)
from forge.errors import UsageError
from forge.plan import Plan, Planned, Status, explain, resolve, select
from forge.project import Option, Pipeline, Project
from forge.release.catalog import Catalog
from forge.runners.base import refuse
from forge.runners.local import LocalRunner
from forge.runners.schedule import Done, Scheduler
from forge.runners.view import choose
from forge.store import Store

__all__ = ["matrix", "plan", "run", "why"]


@dataclass(frozen=True, slots=True)
class _Call:
    """A pipeline call, resolved from the command line."""

    project: Project
    store: Store
    keys: Path
    plan: Plan
    chosen: Mapping[str, bool]


_Body = Callable[..., int | None]


class _PipelineGroup(click.Group):
    """Its commands are the project's pipelines; their options come from the function."""

    def __init__(
        self, name: str, body: _Body, extra: list[click.Parameter], help_text: str
    ) -> None:
        super().__init__(name, help=help_text, params=[_project_parameter()])
        self._body = body
        self._extra = extra

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # The project decides which pipelines there are, so --project counts wherever it stands.
        for index, word in enumerate(args):
            if word == "--project" or word.startswith("--project="):
                end = index + (1 if "=" in word else 2)
                args = [*args[index:end], *args[:index], *args[end:]]
                break
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return open_project(ctx.params.get("project_dir")).pipelines()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        project = open_project(ctx.params.get("project_dir"))
        return _command(project, project.load(cmd_name), self._body, self._extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # `forge why engine@thor`: the pipeline is `release` unless one is named.
        if "@" in args[0]:
            return "release", self.get_command(ctx, "release"), args
        # A mistyped pipeline gets the project's message with a suggestion, not click's.
        return args[0], self.get_command(ctx, args[0]), args[1:]


def _project_parameter() -> click.Option:
    return click.Option(
        ["--project", "project_dir"],
        type=click.Path(path_type=Path, file_okay=False),
        help="The project's folder; default: the one this folder lies in.",
    )


def _command(
    project: Project, pipeline: Pipeline, body: _Body, extra: list[click.Parameter]
) -> click.Command:
    @store_option
    @keys_option
    @json_option
    def callback(**values: Any) -> int | None:
        own = {option.name: values.pop(option.name) for option in pipeline.options}
        call = _resolve_call(project, pipeline, own, values)
        return body(call, **values)

    command = click.command(pipeline.name, help=pipeline.help)(callback)
    command.params += [*_common_parameters(), *extra, *map(_parameter, pipeline.options)]
    return command


def _common_parameters() -> list[click.Parameter]:
    return [
        click.Option(
            ["--profile", "profile_names"],
            multiple=True,
            help="Device profile; may be given several times. Default: all.",
        ),
        click.Option(
            ["--set", "overrides"],
            multiple=True,
            metavar="FIELD=VALUE",
            help="Override a profile field, e.g. engine.max_batch_size=4.",
        ),
        click.Option(
            ["--only"], multiple=True, metavar="GLOB", help="These steps and what they need."
        ),
        click.Option(["--skip"], multiple=True, metavar="GLOB", help="Not these steps."),
    ]


def _parameter(option: Option) -> click.Option:
    return click.Option(
        [f"--{option.name.replace('_', '-')}", option.name],
        type=option.type,
        default=option.default,
        required=option.required,
        show_default=True,
        help=option.help,
    )


def _resolve_call(
    project: Project, pipeline: Pipeline, own: Mapping[str, object], values: dict[str, Any]
) -> _Call:
    store = open_project_store(project, values.pop("store_url"))
    keys = Path(values.pop("keys_dir") or project.work / "keys").absolute()
    overrides = values.pop("overrides")
    names = values.pop("profile_names") or profiles.names(project.profiles)
    resolved = [
        profiles.load(name, project.profiles, environment=os.environ, overrides=overrides).profile
        for name in dict.fromkeys(names)
    ]
    given = {"profiles": resolved, "catalog": Catalog(store.objects), "keys": keys}
    made = pipeline.plan(given, own)
    chosen = select(made, values.pop("only"), values.pop("skip"))
    return _Call(project, store, keys, made, chosen)


def _runner(call: _Call) -> LocalRunner:
    labels = os.environ.get("FORGE_RUNNER_LABELS", "")
    return LocalRunner(
        cache=call.project.work / "environments",
        environment=dict(os.environ),
        labels=frozenset(label for label in labels.split(",") if label),
    )


def _scheduler(call: _Call, *, jobs: int, verbose: bool) -> Scheduler:
    return Scheduler(
        store=call.store,
        runner=_runner(call),
        view=choose(sys.stderr, os.environ, verbose=verbose),
        work=call.project.work,
        keys=call.keys,
        owner=owner(),
        jobs=jobs,
    )


def _rows(call: _Call) -> tuple[Planned, ...]:
    look_up = _scheduler(call, jobs=1, verbose=False).look_up
    return resolve(call.plan, look_up, call.chosen)


def _plan(call: _Call, *, as_json: bool) -> None:
    runner = _runner(call)
    rows = []
    for row in _rows(call):
        refusal = refuse(runner, row.step) if row.status is not Status.HIT else ""
        reasons = (refusal, row.step.alternative) if refusal else (row.reason,)
        where = "—" if row.status in {Status.HIT, Status.SKIPPED} else runner.name
        rows.append(
            {
                "step": row.step.id,
                "status": row.status.value,
                "runner": "none here" if refusal else where,
                "key": row.key.digest if row.key else None,
                "reason": "; or ".join(filter(None, reasons)),
            }
        )
    if as_json:
        print_json(rows)
        return
    table = [
        (row["step"] or "", row["status"] or "", row["runner"] or "",
         row["key"][:12] if row["key"] else "not known yet", row["reason"] or "")
        for row in rows
    ]  # fmt: skip
    print_table(("step", "status", "runner", "key", "reason"), table)


def _run(call: _Call, *, as_json: bool, jobs: int, verbose: bool) -> None:
    scheduler = _scheduler(call, jobs=jobs, verbose=verbose)
    with call.store.writing(owner()):
        done = scheduler.run(call.plan, call.chosen)
    if as_json:
        print_json([_done_json(one) for one in done])
        return
    ran = [one for one in done if one.status in {Status.RUN, Status.EFFECT}]
    hits = sum(one.status is Status.HIT for one in done)
    skipped = sum(one.status is Status.SKIPPED for one in done)
    text = f"{len(done)} steps: {hits} from the store, {len(ran)} ran"
    click.echo(text + (f", {skipped} skipped" if skipped else ""))


def _done_json(done: Done) -> dict[str, object]:
    result = done.result
    outputs = result.outputs if result else {}
    return {
        "step": done.step.id,
        "status": done.status.value,
        "seconds": round(done.seconds, 3),
        "key": result.key if result else None,
        "inputs": result.inputs if result else {},
        "outputs": {name: tree.model_dump() for name, tree in outputs.items()},
        "reason": done.reason,
    }


def _why(call: _Call, *, as_json: bool, step: str) -> None:
    wanted = call.plan.step(step)
    row = next(row for row in _rows(call) if row.step is wanted)
    if row.key is None:
        _explain_nothing(row, as_json=as_json)
        return
    explanation = explain(row.key, step, call.store.recent_actions())
    if as_json:
        nearest = explanation.nearest
        differences = [
            {"field": one.field, "stored": one.stored, "wanted": one.wanted}
            for one in explanation.differences
        ]
        print_json(
            {"step": step, "status": row.status.value, "reason": row.reason,
             "key": row.key.digest, "nearest": nearest.key if nearest else None,
             "differences": differences}
        )  # fmt: skip
        return
    click.echo(f"{step}: {row.status.value} ({row.reason}), key {row.key.digest[:12]}")
    if row.status is Status.HIT or explanation.nearest is None:
        if explanation.nearest is None:
            click.echo("No result of this step was ever stored here.")
        return
    near = explanation.nearest
    click.echo(f"Nearest stored result: {near.key[:12]} of {near.started}. What differs:")
    rows = [(one.field, one.stored or "—", one.wanted or "—") for one in explanation.differences]
    print_table(("field", "stored", "wanted"), rows)


def _explain_nothing(row: Planned, *, as_json: bool) -> None:
    if as_json:
        print_json({"step": row.step.id, "status": row.status.value, "reason": row.reason})
    else:
        click.echo(f"{row.step.id}: {row.status.value} {row.reason}; its key depends on it")


def _matrix(call: _Call, *, as_json: bool) -> None:
    jobs = [
        {
            "id": row.step.id,
            "platform": row.step.platform or "any",
            "runs-on": list(row.step.labels) or [_GITHUB[row.step.platform or "any"]],
            "status": row.status.value,
        }
        for row in _rows(call)
        if row.status in {Status.RUN, Status.WAITS, Status.EFFECT}
    ]
    if as_json:
        print_json({"include": jobs})
        return
    rows = [
        (str(job["id"]), str(job["platform"]), " ".join(job["runs-on"]), str(job["status"]))
        for job in jobs
    ]
    print_table(("job", "platform", "runs on", "status"), rows)


_GITHUB = {"linux/amd64": "ubuntu-24.04", "linux/arm64": "ubuntu-24.04-arm", "any": "ubuntu-24.04"}


def _refuse_jobs(ctx: click.Context, parameter: click.Parameter, value: int) -> int:
    if value < 1:
        raise UsageError("--jobs must be at least 1")
    return value


plan = _PipelineGroup(
    "plan",
    _plan,
    [],
    """Show each step of a pipeline: runner, key, and whether the store has its result.

    \b
    forge plan release --profile development
    forge plan release --only 'engine@*' --json
    """,
)

run = _PipelineGroup(
    "run",
    _run,
    [
        click.Option(["--jobs"], type=int, default=os.cpu_count() or 2, show_default=True,
                     callback=_refuse_jobs, help="Steps at once."),
        click.Option(["--verbose", "-v"], is_flag=True, help="Print all that commands print."),
    ],
    """Run a pipeline: what the store lacks, and nothing else. Safe to repeat.

    \b
    forge run release --profile development --version 1.0.0
    forge run release --only 'engine@rtx-*'
    """,
)  # fmt: skip

why = _PipelineGroup(
    "why",
    _why,
    [click.Argument(["step"])],
    """Say why a step will run: the fields that differ from the nearest stored result.

    \b
    forge why engine@development --profile development
    """,
)

matrix = _PipelineGroup(
    "matrix",
    _matrix,
    [],
    """List what is left to do as jobs for native runners.

    \b
    forge matrix release --json        # {"include": [...]} for a GitHub Actions matrix
    """,
)
