"""What a run has come to: what was published where, the gates' tables, the figures.

Read from the stored results of the steps, so that a run of cached steps shows the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ValidationError

from forge.cli.terminal import print_table, print_title, tinted
from forge.errors import ForgeError
from forge.progress import bytes_text
from forge.release.catalog import Catalog
from forge.runners.schedule import Done
from forge.smoke.gate import GATE_FILE, GateCheck, Report
from forge.smoke.result import RESULT_FILE, Result, figures
from forge.steps import Step
from forge.store import Store

__all__ = [
    "ProfileResult",
    "Publication",
    "PublishedPart",
    "RunResult",
    "print_result",
    "read_result",
]

_MAX_BYTES: Final = 16 * 1024 * 1024
_GATE: Final = "forge.smoke.steps.gate"
_BENCHMARK: Final = "forge.smoke.steps.benchmark"
_PUBLISH: Final = "forge.release.steps.publish"
_GATE_HEADER: Final = ("profile", "result", "metric", "measured", "limit", "why")
_PUBLISHED_HEADER: Final = ("bundle", "version", "profile", "tree", "size")


class PublishedPart(BaseModel):
    """One profile of a version that is published."""

    profile: str
    tree: str
    bytes: int


class Publication(BaseModel):
    """A version of a bundle in a store.

    Attributes:
        points_to: the version of the channel now.
        report: path of the HTML page that was written about it.
    """

    store: str
    name: str
    version: str
    channel: str
    points_to: str | None
    parts: tuple[PublishedPart, ...]
    report: str | None = None


class ProfileResult(BaseModel):
    """What was measured of one profile."""

    profile: str
    gate: tuple[GateCheck, ...] = ()
    passed: bool | None = None
    figures: dict[int, str] = {}


class RunResult(BaseModel):
    """The results of all profiles, and what was published."""

    profiles: tuple[ProfileResult, ...]
    published: tuple[Publication, ...]

    def gate_rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """Return a row for each check of each gate."""
        return [
            (one.profile, check.verdict, check.metric, check.measured, check.limit, check.why)
            for one in self.profiles
            for check in one.gate
        ]

    def figure_rows(self) -> list[tuple[str, str, str]]:
        """Return a row for each concurrency that was measured."""
        return [
            (one.profile, str(concurrency), text)
            for one in self.profiles
            for concurrency, text in one.figures.items()
        ]

    def of_step(self, step: Step) -> dict[str, object]:
        """Return what `--json` adds to a step: its figures, its gate, what it published."""
        profile = step.id.partition("@")[2]
        measured = next((one for one in self.profiles if one.profile == profile), None)
        if measured and _runs(step, _GATE):
            return {"gate": [one.model_dump(mode="json") for one in measured.gate]}
        if measured and _runs(step, _BENCHMARK):
            return {"figures": {str(key): text for key, text in measured.figures.items()}}
        if _runs(step, _PUBLISH):
            return {"published": [one.model_dump(mode="json") for one in self.published]}
        return {}


def read_result(store: Store, done: Sequence[Done]) -> RunResult:
    """Return the results of a run. What cannot be read is left out: the run itself succeeded."""
    reader = _Reader(store)
    profiles: dict[str, ProfileResult] = {}
    for one in done:
        profile = one.step.id.partition("@")[2]
        update = reader.measured(one)
        if update:
            before = profiles.get(profile, ProfileResult(profile=profile))
            profiles[profile] = before.model_copy(update=update)
    return RunResult(profiles=tuple(profiles.values()), published=tuple(reader.published(done)))


def print_result(result: RunResult) -> None:
    """Print the figures, the gates' tables, and last what was published where."""
    if rows := result.figure_rows():
        print_title("Measured")
        print_table(("profile", "concurrency", "figures"), rows)
    if checks := result.gate_rows():
        print_title("Gate")
        shown = [(row[0], tinted(row[1]), *row[2:]) for row in checks]
        keep = [n for n in range(len(_GATE_HEADER)) if n != 5 or any(row[5] for row in checks)]  # noqa: PLR2004
        print_table([_GATE_HEADER[n] for n in keep], [[row[n] for n in keep] for row in shown])
    for one in result.published:
        print_title(f"Published in {one.store}")
        rows_of = [(one.name, one.version, *_part(part)) for part in one.parts]
        print_table(_PUBLISHED_HEADER, rows_of)
        report = [("report", one.report)] if one.report else []
        print_table(("", ""), [("channel", _channel(one)), *report])


def _channel(one: Publication) -> str:
    if one.points_to == one.version:
        return f"{one.channel} → {one.version}"
    return f"{one.channel} stays at {one.points_to or 'no version'}, which is newer"


def _part(part: PublishedPart) -> tuple[str, str, str]:
    return part.profile, part.tree[:12], bytes_text(part.bytes)


@dataclass(frozen=True, slots=True)
class _Reader:
    store: Store

    def measured(self, done: Done) -> dict[str, object]:
        """Return the fields of a ProfileResult that a step's result has."""
        if _runs(done.step, _GATE) and (data := self._file(done, GATE_FILE)):
            return _gate(data)
        if _runs(done.step, _BENCHMARK) and (data := self._file(done, RESULT_FILE)):
            return _figures(data)
        return {}

    def published(self, done: Sequence[Done]) -> Iterator[Publication]:
        """Yield what the steps that publish have published."""
        for one in done:
            if one.result is not None and _runs(one.step, _PUBLISH):
                names = [str(one.step.settings.get(key)) for key in ("name", "version", "channel")]
                try:
                    yield self._publication(*names)
                except ForgeError:
                    continue

    def _publication(self, name: str, version: str, channel: str) -> Publication:
        catalog = Catalog(self.store.objects)
        found = [catalog.manifest(name, version, one) for one in catalog.profiles(name, version)]
        return Publication(
            store=self.store.url,
            name=name,
            version=version,
            channel=channel,
            points_to=catalog.channels(name).get(channel),
            parts=tuple(
                PublishedPart(profile=one.profile, tree=one.tree.digest, bytes=one.tree.size)
                for one in found
            ),
        )

    def _file(self, done: Done, name: str) -> bytes:
        for tree in done.result.outputs.values() if done.result else ():
            try:
                return self.store.read_file(tree.digest, name, max_bytes=_MAX_BYTES)
            except ForgeError:
                continue
        return b""


def _runs(step: Step, module: str) -> bool:
    return step.argv[1:3] == ("-m", module)


def _gate(data: bytes) -> dict[str, object]:
    try:
        report = Report.model_validate_json(data)
    except ValidationError:
        return {}
    return {"gate": report.checks, "passed": report.passed}


def _figures(data: bytes) -> dict[str, object]:
    try:
        result = Result.model_validate_json(data)
    except ValidationError:
        return {}
    return {"figures": {level.concurrency: figures(level) for level in result.levels}}
