"""Dashboard and alerts use families and labels that a device has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from forge.device.telemetry.metrics import COUNTERS, HISTOGRAMS, SAMPLED

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "deploy" / "monitoring"
METRICS_PAGE = ROOT / "docs" / "reference" / "metrics.md"
# Labels that Prometheus adds, and what a histogram has.
ADDED = {"instance", "job", "le"}
LABELS = {
    **{name: set(one.labels) for name, one in COUNTERS.items()},
    **{name: set(one.labels) for name, one in SAMPLED.items()},
    **{name: set(one.labels) for name, one in HISTOGRAMS.items()},
}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "forge-dashboard.json").read_text())
    return found


def expressions() -> list[str]:
    panels = [one["expr"] for panel in dashboard()["panels"] for one in panel.get("targets", [])]
    document = yaml.safe_load((MONITORING / "forge-alerts.yaml").read_text())
    rules = [rule["expr"] for group in document["groups"] for rule in group["rules"]]
    return [*panels, *rules]


def family(name: str) -> str:
    histogram = re.sub(r"_(bucket|sum|count)$", "", name)
    return histogram if histogram in HISTOGRAMS else name


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_families_and_labels_of_a_device(expression: str) -> None:
    without_recorded = re.sub(r"instance:\S+", "", expression)
    for name, chosen in re.findall(r"\b(forge_device_\w+)(?:\{([^}]*)\})?", without_recorded):
        assert family(name) in LABELS
        labels = set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)", chosen))
        assert labels <= LABELS[family(name)] | ADDED
        assert not (family(name) in HISTOGRAMS and name == family(name)), "a histogram has no value"
    for group in re.findall(r"\b(?:by|on) \(([\w, ]+)\)", expression):
        known = set().union(*LABELS.values()) | ADDED
        assert set(group.split(", ")) <= known


def test_panels_have_ids_titles_and_places_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for one in panels:
        place = one["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, one["title"]
        taken |= cells


def test_each_alert_has_a_severity_a_summary_and_a_line_in_the_docs() -> None:
    page = (ROOT / "docs" / "how-to" / "monitor-a-device.md").read_text()
    document = yaml.safe_load((MONITORING / "forge-alerts.yaml").read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
            assert f"`{rule['alert']}`" in page


def test_every_family_is_in_the_table_of_the_docs() -> None:
    named = set(re.findall(r"`([a-z0-9_]+)(?:\{[a-z_,]*\})?`", METRICS_PAGE.read_text()))
    missing = {name for name in LABELS if name.removeprefix("forge_device_") not in named}
    assert not missing
