"""`forge plan|run|why|matrix PIPELINE`: the parameters of a pipeline are its options."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from forge import dead_settings, profiles
from forge.cli import completion, summary
from forge.cli.against import published_channel, show_comparison
from forge.cli.chosen_profiles import chosen_profiles
from forge.cli.common import (
    bytes_text,
    json_option,
    keys_option,
    open_project,
    open_project_store,
    owner,
    print_json,
    store_option,
)
from forge.cli.confirm import confirm_new_channel
from forge.cli.keyring import say_where_keys_are
from forge.cli.planned_memory import memory_lines
from forge.cli.report import report_run
from forge.cli.results import open_results, with_signer
from forge.cli.run_result import RunResult, print_result, read_result
from forge.cli.signing import refuse_unsigned, signing_environment, signing_only
from forge.cli.terminal import print_table, print_text, tinted
from forge.cli.trusted import verify_store
from forge.errors import NoRunnerError, UsageError
from forge.matrix import cut
from forge.plan import Plan, PlannedStep, Status, compare_published, explain, resolve, select
from forge.project import Option, Pipeline, Project
from forge.release.attest.invocation import Invocation, read_source
from forge.release.catalog import Catalog
from forge.release.keys.places import KeysPlace, find_folder
from forge.release.repository.unverified_index import has_root
from forge.runners.base import Runner, refuse
from forge.runners.open_runner import RUNNERS, open_runner
from forge.runners.results import Results
from forge.runners.schedule import Done, Scheduler
from forge.runners.view import choose
from forge.steps import Step
from forge.store import Store

__all__ = ["matrix", "plan", "run", "why"]


@dataclass(frozen=True, slots=True)
class _Call:
    """A pipeline call, resolved from the command line."""

    project: Project
    store: Store
    keys: KeysPlace
    plan: Plan
    chosen: Mapping[str, bool]
    environment: Mapping[str, str]
    runner_name: str
    default_channel: object
    profiles: tuple[str, ...]
    results: Results


_Body = Callable[..., int | None]
DEFAULT: Final = "release"
_WITHOUT_ARGUMENTS: Final = frozenset({"matrix", "plan"})  # they change nothing
_PUBLISHES: Final = "forge.release.steps.publish"
_DONE_HEADER: Final = ("step", "status", "seconds", "outputs")


class _PipelineGroup(click.Group):
    """Command group with one command per pipeline; its options come from the function."""

    def __init__(
        self, name: str, body: _Body, extra: list[click.Parameter], help_text: str
    ) -> None:
        super().__init__(name, help=help_text, params=[_project_parameter()])
        self._body = body
        self._extra = extra

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # The project defines the pipelines, so --project is honoured anywhere on the line.
        project, words = _project_first(args)
        return super().parse_args(ctx, [*project, *self._named(project, words)])

    def _named(self, project: list[str], words: list[str]) -> list[str]:
        """Return the arguments, with the default pipeline inserted if none is named.

        `forge why engine@thor` and `forge plan --profile thor` use the pipeline `release`, and so
        does `forge plan` alone; `forge run` alone prints its help.
        """
        if not words and self.name not in _WITHOUT_ARGUMENTS:
            return words
        if words and words[0] in {"-h", "--help"}:
            return words
        folder = project[-1].removeprefix("--project=") if project else None
        names = open_project(Path(folder) if folder else None).pipelines()
        first = words[0] if words else "--"
        left_out = first.startswith("-") or (self.name == "why" and first not in names)
        named = not left_out or any(word in names for word in words)
        return words if named or DEFAULT not in names else [DEFAULT, *words]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return open_project(ctx.params.get("project_dir")).pipelines()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        project = open_project(ctx.params.get("project_dir"))
        verb = str(self.name)
        return _command(project, project.load(cmd_name), verb, self._body, self._extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # A mistyped pipeline gets the project's message with a suggestion, not click's.
        return args[0], self.get_command(ctx, args[0]), args[1:]


def _project_first(args: list[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into those of --project and the rest."""
    for index, word in enumerate(args):
        if word == "--project" or word.startswith("--project="):
            end = index + (1 if "=" in word else 2)
            return args[index:end], [*args[:index], *args[end:]]
    return [], args


def _project_parameter() -> click.Option:
    return click.Option(
        ["--project", "project_dir"],
        type=click.Path(path_type=Path, file_okay=False),
        help="Project folder. Default: the current folder or its nearest parent with a project.",
    )


def _command(
    project: Project, pipeline: Pipeline, verb: str, body: _Body, extra: list[click.Parameter]
) -> click.Command:
    @store_option
    @keys_option
    @json_option
    def callback(**values: Any) -> int | None:
        own = {option.name: values.pop(option.name) for option in pipeline.options}
        call = _resolve_call(project, pipeline, own, values)
        return body(call, **values)

    example = f"\b\nforge {verb} {pipeline.name} --profile development"
    command = click.command(pipeline.name, help=f"{pipeline.help}\n\n{example}")(callback)
    command.params += [*_common_parameters(), *extra, *map(_parameter, pipeline.options)]
    return command


def _common_parameters() -> list[click.Parameter]:
    return [
        click.Option(
            ["--profile", "profile_names"],
            multiple=True,
            shell_complete=completion.profile_names,
            help="Device profile; '*' matches any letters. Repeatable, or separated by commas. "
            "Default: those of forge.yaml, else all.",
        ),
        click.Option(
            ["--set", "overrides"],
            multiple=True,
            metavar="FIELD=VALUE",
            help="Override a profile field, e.g. engine.max_batch_size=4.",
        ),
        click.Option(
            ["--only"],
            multiple=True,
            shell_complete=completion.step_ids,
            metavar="GLOB[,…]",
            help="Run only these steps and their inputs.",
        ),
        click.Option(
            ["--skip"],
            multiple=True,
            metavar="GLOB[,…]",
            shell_complete=completion.step_ids,
            help="Skip these steps.",
        ),
        click.Option(
            ["--runner", "runner_name"],
            type=click.Choice(RUNNERS),
            default="local",
            envvar="FORGE_RUNNER",
            show_envvar=True,
            show_default=True,
            help="Runner that executes the steps; see docs/reference/runners.md.",
        ),
    ]


def _parameter(option: Option) -> click.Option:
    return click.Option(
        [f"--{option.name.replace('_', '-')}", option.name],
        type=option.type,
        default=option.default,
        required=option.required,
        # click would print a default of type bool as Python does.
        show_default=str(option.default).lower() if option.type is bool else True,
        help=option.help,
    )


def _resolve_call(
    project: Project, pipeline: Pipeline, own: Mapping[str, object], values: dict[str, Any]
) -> _Call:
    store_url = values.pop("store_url")
    store = open_project_store(project, store_url)
    keys = _keys(project, values.pop("keys_dir"))
    overrides = values.pop("overrides")
    resolved = [
        profiles.load(name, project.profiles, environment=os.environ, overrides=overrides)
        for name in chosen_profiles(project, _words(values.pop("profile_names")))
    ]
    for one in resolved:
        dead_settings.check(one)
    built_for = [one.profile for one in resolved]
    given = {
        "profiles": built_for,
        "catalog": Catalog(store.objects),
        "keys": keys.folder,
        "invocation": Invocation.of(
            pipeline.name, own, overrides, read_source(project.root, os.environ)
        ),
    }
    made = pipeline.plan(given, own)
    chosen = select(made, _words(values.pop("only")), _words(values.pop("skip")))
    runner_name = values.pop("runner_name")
    default = next((one.default for one in pipeline.options if one.name == "channel"), None)
    return _Call(
        project, store, keys, made, chosen, dict(os.environ), runner_name, default,
        tuple(one.name for one in built_for), open_results(project, store, store_url),
    )  # fmt: skip


def _keys(project: Project, named: Path | None) -> KeysPlace:
    place = KeysPlace(named, in_checkout=False) if named else find_folder(project.root, os.environ)
    return replace(place, folder=place.folder.absolute())


def _words(values: Sequence[str]) -> list[str]:
    """Return the values of a repeatable option, split at commas."""
    return [word.strip() for value in values for word in value.split(",")]


def _runner(call: _Call) -> Runner:
    return open_runner(call.runner_name, call.project.root, call.project.work, call.environment)


def _scheduler(call: _Call, *, jobs: int, verbose: bool) -> Scheduler:
    return Scheduler(
        store=call.store,
        runner=_runner(call),
        view=choose(sys.stderr, os.environ, verbose=verbose),
        work=call.project.work,
        keys=call.keys.folder,
        owner=owner(),
        jobs=jobs,
        results=call.results,
    )


def _rows(call: _Call) -> tuple[PlannedStep, ...]:
    look_up = _scheduler(call, jobs=1, verbose=False).look_up
    return resolve(call.plan, look_up, call.chosen)


def _plan(call: _Call, *, as_json: bool, against: str | None, markdown: bool) -> None:
    if against is None:
        if markdown:
            raise UsageError("--markdown requires --against", hint="add: --against CHANNEL")
        _show_plan(call, _rows(call), as_json=as_json)
        return
    root = call.keys.folder / "root.json"
    channel = published_channel(
        verify_store(call.store, root if root.is_file() else None),
        _published(call.plan, "name"), against, call.profiles,
    )  # fmt: skip
    found = compare_published(_rows(call), channel.keys, call.store.action)
    show_comparison(channel, found, as_json=as_json, markdown=markdown)


def _published(planned: Plan, setting: str) -> str | None:
    """Return a setting of the step that publishes: the name or the version of the bundle."""
    found = [str(one.settings[setting]) for one in planned.steps if _publishes(one)]
    return found[0] if found else None


def _publishes(step: Step) -> bool:
    return step.effect and _PUBLISHES in step.argv


def _show_plan(call: _Call, planned: Sequence[PlannedStep], *, as_json: bool) -> None:
    runner = _runner(call)
    rows = []
    for row in planned:
        refusal = refuse(runner, row.step) if row.status is not Status.HIT else ""
        reasons = (refusal, row.step.alternative) if refusal else (row.reason,)
        where = "—" if row.status in {Status.HIT, Status.SKIPPED} else None
        rows.append(
            {
                "step": row.step.id,
                "status": row.status.value,
                "runner": "none here" if refusal else where or runner.carrier(row.step),
                "key": row.key.digest if row.key else None,
                "reason": "; or ".join(filter(None, reasons)),
            }
        )
    header = ("step", "status", "runner", "key", "reason")
    table = [
        (row["step"] or "", row["status"] or "", row["runner"] or "",
         row["key"][:12] if row["key"] else "unknown", row["reason"] or "")
        for row in rows
    ]  # fmt: skip
    summary.append(os.environ, f"Plan of {call.plan.pipeline}", header, table)
    if as_json:
        print_json(rows)
    else:
        shown = [
            (one, tinted(status), tinted(where), key, reason)
            for one, status, where, key, reason in table
        ]
        print_table(header, shown, optional=("key", "runner"))
        for line in memory_lines(call.plan.steps):
            print_text(line)


def _run(
    call: _Call,
    *,
    as_json: bool,
    jobs: int,
    verbose: bool,
    yes: bool,
    sign_only: bool,
    dry_run: bool,
    report_dir: Path | None,
) -> None:
    if sign_only:
        call = replace(call, chosen=signing_only(_rows(call), call.chosen))
    if dry_run:
        _show_plan(call, _rows(call), as_json=as_json)
        return
    call = replace(call, results=with_signer(call.results, call.environment))
    _scheduler(call, jobs=jobs, verbose=verbose).refuse_early(call.plan, call.chosen)
    _confirm_channels(call, yes=yes)
    if call.keys.in_checkout:
        say_where_keys_are(call.keys.folder)
    published = functools.partial(has_root, call.store.objects)
    environment = signing_environment(
        call.environment, call.keys.folder, lambda: _rows(call), published
    )
    scheduler = _scheduler(replace(call, environment=environment), jobs=jobs, verbose=verbose)
    with call.store.writing(owner()):
        done = scheduler.run(call.plan, call.chosen)
    if sign_only:
        refuse_unsigned([(one.step, one.status, one.reason) for one in done], call.chosen)
    result, report = read_result(call.store, done), ""
    if report_dir is not None:
        result, report = report_run(call.store, result, report_dir)
    _summarise(call.plan.pipeline, done, result, report)
    if as_json:
        print_json([_done_json(one) | result.of_step(one.step) for one in done])
        return
    ran = [one for one in done if one.status in {Status.RUN, Status.EFFECT}]
    hits = sum(one.status is Status.HIT for one in done)
    skipped = sum(one.status is Status.SKIPPED for one in done)
    text = f"{len(done)} steps: {hits} cached, {len(ran)} ran"
    print_text(text + (f", {skipped} skipped" if skipped else ""))
    print_result(result)


def _summarise(pipeline: str, done: Sequence[Done], result: RunResult, report: str) -> None:
    """Write the steps and the result to GitHub's job summary; the report, where there is one."""
    add = functools.partial(summary.append, os.environ)
    for one in result.published[:1]:  # a later job of the workflow reports on it
        summary.set_output(os.environ, "bundle", one.name)
        summary.set_output(os.environ, "version", one.version)
    add(f"Run of {pipeline}", _DONE_HEADER, [_done_row(one) for one in done])
    if report:  # it has the same figures, gates and sizes
        summary.append_text(os.environ, report)
        return
    if figures := result.figure_rows():
        add("Measured", ("profile", "concurrency", "figures"), figures)
    if checks := result.gate_rows():
        add("Gate", ("profile", "result", "metric", "measured", "limit", "why"), checks)
    published = [
        (one.name, one.version, part.profile, part.tree[:12], bytes_text(part.bytes))
        for one in result.published
        for part in one.parts
    ]
    if published:
        places = ", ".join(f"{one.channel} → {one.points_to}" for one in result.published)
        title = f"Published in {result.published[0].store}: {places}"
        add(title, ("bundle", "version", "profile", "tree", "size"), published)


def _confirm_channels(call: _Call, *, yes: bool) -> None:
    """Ask before a long run ends by creating a channel; the pipeline's default was not typed."""
    catalog = Catalog(call.store.objects)
    for step in call.plan.steps:
        if call.chosen[step.id] and _publishes(step):
            name, channel, version = (
                str(step.settings[key]) for key in ("name", "channel", "version")
            )
            if channel != call.default_channel:
                known = list(catalog.channels(name))
                confirm_new_channel(channel, name, known, version, yes=yes)


def _done_row(done: Done) -> tuple[str, ...]:
    outputs = done.result.outputs if done.result else {}
    made = ", ".join(
        f"{name} {tree.digest[:12]} {bytes_text(tree.size)}" for name, tree in outputs.items()
    )
    return done.step.id, done.status.value, f"{done.seconds:.1f}", made or done.reason


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
    print_text(f"{step}: {row.status.value} ({row.reason}), key {row.key.digest[:12]}")
    if row.status is Status.HIT or explanation.nearest is None:
        if explanation.nearest is None:
            print_text("The store has no earlier result of this step.")
        return
    near = explanation.nearest
    print_text(f"Nearest stored result: {near.key[:12]} of {near.started}. Differences:")
    rows = [(one.field, one.stored or "—", one.wanted or "—") for one in explanation.differences]
    print_table(("field", "stored", "current"), rows, empty="No field differs.")


def _explain_nothing(row: PlannedStep, *, as_json: bool) -> None:
    if as_json:
        print_json({"step": row.step.id, "status": row.status.value, "reason": row.reason})
    else:
        print_text(
            f"{row.step.id}: {row.status.value} {row.reason}; its key depends on that result"
        )


def _matrix(
    call: _Call, *, as_json: bool, rounds: int | None, gitlab_file: Path | None
) -> int | None:
    made = cut(_rows(call))
    if gitlab_file is not None:
        from forge.gitlab import write_child_pipeline

        version = _published(call.plan, "version")
        if version is None:
            raise UsageError("--gitlab is for a pipeline that publishes a bundle")
        write_child_pipeline(gitlab_file, made, call.plan.pipeline, call.profiles, version)
    header = ("round", "job", "steps")
    summary.append(os.environ, f"Jobs of {call.plan.pipeline}", header, made.table())
    if as_json:
        print_json(made.as_json())
    else:
        print_table(header, made.table(), empty="Nothing is left to run.")
    if rounds is not None:
        made.fit(rounds)
    return NoRunnerError.exit_code if made.refused else None


def _refuse_jobs(ctx: click.Context, parameter: click.Parameter, value: int) -> int:
    if value < 1:
        raise UsageError("--jobs must be at least 1")
    return value


plan = _PipelineGroup(
    "plan",
    _plan,
    [
        click.Option(["--against"], metavar="CHANNEL", shell_complete=completion.channel_names,
                     help="Show which steps differ from those that the channel's version was built "
                     "by, and in which fields."),
        click.Option(["--markdown"], is_flag=True,
                     help="With --against: print Markdown, for a comment on a pull request."),
    ],
    """Show each step of a pipeline with its status, runner, key and reason.

    \b
    forge plan release --profile development
    forge plan release --only 'engine@*' --json
    forge plan release --against stable --markdown     # what a change would rebuild, and why
    """,
)  # fmt: skip

run = _PipelineGroup(
    "run",
    _run,
    [
        click.Option(["--jobs"], type=int, default=os.cpu_count() or 2, show_default=True,
                     callback=_refuse_jobs, help="Number of steps to run in parallel."),
        click.Option(["--yes", "-y"], is_flag=True,
                     help="Create a channel without asking; required where there is no terminal."),
        click.Option(["--sign-only"], is_flag=True,
                     help="Sign and publish what is stored; refuse to run any other step."),
        click.Option(["--dry-run"], is_flag=True,
                     help="Show what would run, as 'forge plan' does, and run nothing."),
        click.Option(["--report", "report_dir"], metavar="DIR",
                     type=click.Path(path_type=Path, file_okay=False),
                     help="Write the report of what is published to this folder: index.html and "
                     "report.md. A run whose report fails has published all the same."),
        click.Option(["--verbose", "-v"], is_flag=True, help="Print the output of the commands."),
    ],
    """Run the steps of a pipeline whose results are not in the store. Safe to repeat.

    \b
    forge run release --profile development --version 1.0.0
    forge run release --only 'engine@rtx-*'
    forge run release --profile development --dry-run
    forge run release --version 1.0.0 --report report
    """,
)  # fmt: skip

why = _PipelineGroup(
    "why",
    _why,
    [click.Argument(["step"], shell_complete=completion.step_ids)],
    """Explain why a step will run: the fields that differ from the nearest stored result.

    \b
    forge why engine@development --profile development
    """,
)

matrix = _PipelineGroup(
    "matrix",
    _matrix,
    [
        click.Option(["--rounds"], type=click.IntRange(0), metavar="N",
                     help="Fail if more than N rounds of jobs are left; 0: if any job is."),
        click.Option(["--gitlab", "gitlab_file"], metavar="FILE",
                     type=click.Path(path_type=Path, dir_okay=False),
                     help="Write the jobs as a child pipeline of GitLab to this file."),
    ],
    """List the remaining work as jobs for native runners. Exits with 4 if a step has no runner.

    \b
    forge matrix release --profile development
    forge matrix release --json        # rounds[N] is a matrix for GitHub Actions, id is for --only
    forge matrix release --version 1.0.0 --gitlab cells.yml
    """,
)  # fmt: skip
