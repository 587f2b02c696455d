"""How a release is checked: the commands, and how long its metadata is valid. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from forge.report.figures import ReportTable
from forge.report.report import ReleaseReport

__all__ = ["CheckCommand", "commands", "metadata"]


@dataclass(frozen=True, slots=True)
class CheckCommand:
    """A way to check something: what it shows, and the command."""

    purpose: str
    command: str


def commands(report: ReleaseReport) -> tuple[CheckCommand, ...]:
    """Return how to check the release; STORE and root.json are the reader's."""
    name, version = report.name, report.version
    profile = report.profiles[0].name
    return (
        CheckCommand(
            "Make this report again, verified from the root of a device. The digests are the same.",
            f"forge report {name} {version} --store STORE --root root.json -o check",
        ),
        CheckCommand(
            "Print a signed manifest, with the digests that this page shows.",
            f"forge bundle show {version} --name {name} --profile {profile} --store STORE --json",
        ),
        CheckCommand(
            "Read every object of the store and check its digest.",
            "forge store verify --store STORE",
        ),
        CheckCommand(
            "On a device: read every file of both slots and check its digest.",
            "forge device verify --state /var/lib/forge",
        ),
        CheckCommand(
            "With another program: verify the engine of an unpacked bundle with the publisher's "
            "model key.",
            "python -m model_signing verify key --public_key model.pub --signature model.sig"
            " ENGINE",
        ),
    )


def metadata(report: ReleaseReport) -> ReportTable:
    """Return the verified metadata."""
    rows = tuple((one.role, str(one.version), f"{one.expires:%Y-%m-%d}") for one in report.roles)
    return ReportTable(("role", "version", "valid to"), rows, frozenset({1}))
