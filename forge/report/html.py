"""The report as one HTML page: no script, no request, nothing from outside.

The template escapes every text; pictures are SVG of `forge.report.svg`, which escapes too. The
policy of the page allows its own style sheet, by digest, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from forge.report import checks, figures
from forge.report.chain import arcs, build_rows, trust_rows
from forge.report.profile_plots import profile_figures
from forge.report.report import ProfileReport, ReleaseReport
from forge.wrapping import printable

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["html"]

_PAGE: Final = "report.html.j2"
_STYLE: Final = "report.css"
_MAX_PACKAGES: Final = 2000
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LONG_WORD: Final = 32  # characters
_POLICY: Final = (
    "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
)


def html(report: ReleaseReport) -> str:
    """Return the page. The same report gives the same bytes."""
    environment = _environment()
    style = environment.loader.get_source(environment, _STYLE)[0] if environment.loader else ""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template(_PAGE).render(
        report=report,
        created=min((one.manifest.created for one in report.profiles), default=""),
        style=style,
        policy=_POLICY.format(style=digest),
        overview=figures.overview(report),
        profiles=[_profile(report, one) for one in report.profiles],
        metadata=checks.metadata(report),
        checks=checks.commands(report),
    )


def _profile(report: ReleaseReport, one: ProfileReport) -> Mapping[str, Any]:
    """Return what the template shows of a profile."""
    packages = figures.packages(one)
    return {
        "profile": one,
        "facts": figures.facts(one),
        "measured_on": figures.measured_on(one),
        "figures": profile_figures(one),
        "measured": figures.measured(one),
        "versions": figures.versions(one),
        "downloads": figures.downloads(one),
        "gate": figures.gate(one),
        "gate_missing": figures.gate_missing(one),
        "accuracy_gate": figures.accuracy_gate(one),
        "verdicts": figures.verdicts(one),
        "accuracy": figures.accuracy(one),
        "build": arcs(f"Build of {one.name}", build_rows(one)),
        "unlinked": any(step.inputs is None for step in one.steps),
        "trust": arcs(f"Signatures of {one.name}", trust_rows(report, one)),
        "steps": figures.build_steps(one),
        "licences": figures.licences(one),
        "packages": packages,
        "shown_packages": packages.rows[:_MAX_PACKAGES],
        "proofs": figures.proofs(one),
    }


@lru_cache(maxsize=1)
def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("forge.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests |= {"unbroken": _unbroken, "digest": _digest}
    environment.filters["moment"] = figures.moment
    return environment


def _shown(value: object) -> object:
    """Return a text without control characters, which could also turn its direction round."""
    return printable(value) if type(value) is str else value


def _digest(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


def _unbroken(text: str) -> bool:
    """Return whether a word of a cell, such as a digest, may be broken anywhere."""
    return max(map(len, text.split()), default=0) > _LONG_WORD
