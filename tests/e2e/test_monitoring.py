"""Alerts and dashboard of deploy/monitoring in a real Prometheus that scrapes a real device."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.device_world import World
from tests.support.prometheus import MONITORING, Prometheus, programs

pytestmark = [pytest.mark.network, pytest.mark.real_triton]

CASES = Path(__file__).parents[1] / "support" / "forge-alerts.test.yaml"
# A device without a GPU and without sensors, and an answer that nobody was refused.
ABSENT = re.compile(
    r"gpu_|throttle_celsius|temperature_celsius|power_watts|energy_joules|429|5\.\."
)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [programs()[1], *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        (MONITORING / "forge-dashboard.json").read_text(encoding="utf-8")
    )["panels"]
    return [one for one in found if one["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    """Title and expression of every target, as Grafana sends it for all devices."""
    return [
        (
            panel["title"],
            target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m"),
        )
        for panel in panels()
        for target in panel["targets"]
    ]


def outcome_of(folder: Path, rules: str) -> subprocess.CompletedProcess[str]:
    path, copy = folder / "cases.yaml", folder / "rules.yaml"
    copy.write_text(rules, encoding="utf-8")
    path.write_text(CASES.read_text(encoding="utf-8").replace("@RULES@", str(copy)))
    return promtool("test", "rules", str(path))


def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    done = outcome_of(tmp_path, (MONITORING / "forge-alerts.yaml").read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("== 0\n        for: 2m", "== 0\n        for: 30m"),
        ("> 0.05", "> 0.5"),
        ("forge_device_requests_limit < ", "forge_device_requests_limit <= "),
        ('event=~"not-kept|going-back"', 'event=~"not_kept"'),
        ("- time() < 30 * 86400", "- time() < 3 * 86400"),
    ],
)
def test_a_wrong_rule_does_not_pass_those_cases(tmp_path: Path, right: str, wrong: str) -> None:
    rules = (MONITORING / "forge-alerts.yaml").read_text(encoding="utf-8")
    assert right in rules
    assert outcome_of(tmp_path, rules.replace(right, wrong)).returncode != 0


def test_every_alert_has_a_case() -> None:
    rules = (MONITORING / "forge-alerts.yaml").read_text(encoding="utf-8")
    alerts = set(re.findall(r"- alert: (\w+)", rules))
    assert alerts == set(re.findall(r"alertname: (\w+)", CASES.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes a device that answers and, last, refuses."""
    programs()
    folder = tmp_path_factory.mktemp("monitoring")
    world = World(folder)
    world.publish("1.0.0")
    with world.device().running(poll_s=600) as agent:
        agent.wait_ready("1.0.0")
        with Prometheus.scraping(agent.url, folder) as made:
            until = time.monotonic() + 60
            seen = 0
            while seen < 3 and time.monotonic() < until:  # a rate needs some scrapes
                agent.ask()
                httpx.post(f"{agent.url}/v1/inference", json={}, trust_env=False)
                time.sleep(1.2)
                found = made.query("rate(forge_device_generation_tokens_total[1m]) > 0")
                seen += bool(found)
            yield made


def test_the_device_is_scraped_and_no_rule_fails(prometheus: Prometheus) -> None:
    assert [one["value"][1] for one in prometheus.query('up{job="forge-device"}')] == ["1"]
    groups = prometheus.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) >= 14
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    firing = [rule["name"] for rule in rules if rule.get("state") == "firing"]
    assert firing == []


def test_every_expression_of_the_dashboard_finds_its_series(prometheus: Prometheus) -> None:
    for title, expression in expressions():
        found = prometheus.query(expression)
        if not ABSENT.search(expression):
            assert found, f"{title}: {expression}"


def test_the_instances_of_the_dashboard_are_the_devices(prometheus: Prometheus) -> None:
    assert len(prometheus.api("label/instance/values", **{"match[]": "forge_device_ready"})) == 1


def test_no_family_of_a_device_is_in_no_panel_and_no_alert(prometheus: Prometheus) -> None:
    """What a device tells and nobody looks at is named here."""
    names = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in prometheus.api("label/__name__/values")
        if name.startswith("forge_device_")
    }
    used = "".join(one for _, one in expressions())
    used += (MONITORING / "forge-alerts.yaml").read_text(encoding="utf-8")
    unused = {name.removeprefix("forge_device_") for name in names if name not in used}
    old = {"requests_in_flight", "requests_waiting", "inter_token_seconds", "queue_wait_seconds",
           "request_seconds"}  # fmt: skip
    assert unused - old <= {
        "state", "uptime_seconds", "limit_changes_total", "queued_total", "queue_seconds_total",
        "stream_errors_total", "slow_clients_total", "unended_requests_total",
        "channel_checks_failed_in_a_row", "offline_seconds", "last_contact_timestamp_seconds",
        "embedding_requests_total", "embedding_tokens_total", "unmeasured_requests_total",
    }  # fmt: skip
