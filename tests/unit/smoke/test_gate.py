import json
from pathlib import Path
from typing import Any

import pytest

from forge.bundle import SmokeSummary
from forge.errors import SmokeGateError
from forge.profiles import ThresholdsSection
from forge.smoke.gate import GateSettings, Report, gate, require, table
from forge.smoke.result import (
    Baseline,
    Conditions,
    Estimate,
    Level,
    Machine,
    Result,
    summary,
)
from forge.smoke.steps.gate import main
from tests.support.smoke_results import MACHINE, measured, result, sample

NO_LIMITS: dict[str, Any] = {
    "ttft_ms_p50": None,
    "inter_token_ms_p50": None,
    "output_tokens_per_s": None,
    "error_rate": 0.0,
    "peak_rss_mib": None,
}


def settings(
    baseline: Baseline | SmokeSummary | None = None, *, regression_pct: float = 10, **limits: Any
) -> GateSettings:
    thresholds = ThresholdsSection.model_validate(NO_LIMITS | limits)
    return GateSettings.model_validate(
        {
            "smoke": {"thresholds": thresholds, "regression_pct": regression_pct},
            "baseline": baseline,
        }
    )


def verdicts(report: Report) -> dict[str, str]:
    return {check.metric: check.verdict for check in report.checks}


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [
        ("ttft_ms_p50", 300.0, 299.9),
        ("inter_token_ms_p50", 15.0, 14.9),
        ("output_tokens_per_s", 60.0, 60.1),
        ("peak_rss_mib", 500.0, 499.9),
    ],
)
def test_gate_holds_the_lowest_concurrency_against_each_threshold(
    metric: str, good: float, bad: float
) -> None:
    assert gate(result(), settings(None, **{metric: good})).passed
    report = gate(result(), settings(None, **{metric: bad}))
    assert not report.passed
    assert verdicts(report)[metric] == "failed"


def test_gate_checks_errors_at_every_concurrency() -> None:
    bad = measured(8).model_copy(update={"error_rate": 0.25, "error_examples": ("it broke off",)})
    report = gate(result(measured(1), bad), settings())
    assert verdicts(report) == {"error_rate at 1": "ok", "error_rate at 8": "failed"}
    assert "it broke off" in table(report)
    assert gate(result(measured(1), bad), settings(error_rate=0.25)).passed


@pytest.mark.parametrize(
    ("metric", "factor", "verdict"),
    [
        ("ttft_ms_p50", 1 / 1.09, "ok"),
        ("ttft_ms_p50", 1 / 1.11, "failed"),
        ("inter_token_ms_p50", 1 / 1.11, "failed"),
        ("output_tokens_per_s", 1.09, "ok"),
        ("output_tokens_per_s", 1.11, "failed"),
        ("peak_rss_mib", 1 / 1.11, "failed"),
        ("ttft_ms_p50", 5.0, "ok"),
    ],
)
def test_gate_allows_regression_pct_against_the_means_of_a_bundle_without_runs(
    metric: str, factor: float, verdict: str
) -> None:
    found = summary(result())
    before = found.model_copy(update={metric: getattr(found, metric) * factor})
    report = gate(result(), settings(before))
    assert verdicts(report)[f"{metric} against the last bundle"] == verdict
    assert report.passed == (verdict == "ok")


def test_regression_of_more_than_100_pct_still_has_a_limit_for_the_rate() -> None:
    found = summary(result())
    before = found.model_copy(update={"output_tokens_per_s": found.output_tokens_per_s * 6})
    assert not gate(result(), settings(before, regression_pct=400)).passed


def test_gate_takes_the_better_end_of_the_interval_against_means() -> None:
    """A mean of this build that is worse by chance must not refuse it."""
    level = measured(1)
    wide = Estimate(mean=300, ci_low=260, ci_high=340)
    figure = level.time_to_first_token
    assert figure is not None
    noisy = level.model_copy(
        update={"time_to_first_token": figure.model_copy(update={"p50": wide})}
    )
    before = summary(result(measured(1, ttft_ms=240)))  # limit 264 ms at 10 %
    assert gate(result(noisy), settings(before)).passed
    assert not gate(result(level), settings(before)).passed


def baseline(level: Level, *, machine: Machine = MACHINE) -> Baseline:
    return Baseline(version="1.0.0", summary=summary(result(level, machine=machine)), level=level)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "ok"), (1.04, "ok"), (1.06, "failed")])
def test_gate_compares_the_runs_of_both_builds_at_half_of_the_regression(
    factor: float, verdict: str
) -> None:
    now = measured(1, runs=[sample(processor_ms=20 * factor)] * 5)
    report = gate(result(now), settings(baseline(measured(1))))
    assert verdicts(report)["processor_ms_per_token against the last bundle"] == verdict
    assert report.passed == (verdict == "ok")


def test_gate_compares_memory_by_one_number_also_where_it_has_runs() -> None:
    level = measured(1)
    last = baseline(level)
    small = last.summary.model_copy(update={"peak_rss_mib": 450.0})
    report = gate(result(level), settings(last.model_copy(update={"summary": small})))
    assert verdicts(report)["peak_rss_mib against the last bundle"] == "failed"
    assert sum("peak_rss_mib" in check.metric for check in report.checks) == 1


def test_gate_does_not_compare_the_runs_of_another_machine() -> None:
    other = MACHINE.model_copy(update={"cores": 64})
    fast = measured(1, runs=[sample(processor_ms=1, itl_ms=1, ttft_ms=1, rate=900)] * 5)
    report = gate(result(measured(1)), settings(baseline(fast, machine=other)))
    assert report.passed
    assert "not compared" in verdicts(report).values()


def test_gate_says_that_the_machine_throttled_when_a_figure_fails() -> None:
    slow = result(measured(1, runs=[sample(processor_ms=40)] * 5)).model_copy(
        update={"conditions": Conditions(throttled=True, throttle_reasons=("HW slowdown",))}
    )
    assert "the machine throttled: HW slowdown" in table(
        gate(slow, settings(baseline(measured(1))))
    )


def test_gate_does_not_compare_with_another_machine() -> None:
    other = Machine(**MACHINE.model_dump() | {"cores": 64})
    before = summary(result(measured(1, ttft_ms=1, rate=9000), machine=other))
    report = gate(result(), settings(before))
    assert report.passed
    lines = [check for check in report.checks if "last bundle" in check.metric]
    assert len(lines) == 4
    assert {check.verdict for check in lines} == {"not compared"}
    assert "64 cores" in lines[0].why


def test_gate_does_not_compare_with_another_concurrency() -> None:
    before = summary(result(measured(4, ttft_ms=1)))
    assert gate(result(), settings(before)).passed


def test_require_names_every_metric_that_fell_short() -> None:
    report = gate(result(), settings(ttft_ms_p50=1, output_tokens_per_s=1000))
    with pytest.raises(SmokeGateError) as caught:
        require(report)
    assert caught.value.exit_code == 6
    assert "ttft_ms_p50 is 300 ms, limit ≤ 1 ms" in caught.value.why
    assert "output_tokens_per_s is 60 tokens/s" in caught.value.why
    assert "error_rate" not in caught.value.why


def test_table_has_one_aligned_line_for_each_check() -> None:
    lines = table(gate(result(), settings(ttft_ms_p50=20_000))).splitlines()
    assert lines[0].split() == ["metric", "measured", "limit", "verdict"]
    assert lines[1].split() == ["ttft_ms_p50", "300", "ms", "≤", "20000", "ms", "ok"]
    assert lines[0].index("limit") == lines[1].index("≤")


def test_gate_stops_a_result_without_a_single_answer() -> None:
    silent = measured(1).model_copy(
        update={"time_to_first_token": None, "error_examples": ("no connection",)}
    )
    with pytest.raises(SmokeGateError, match="No request succeeded") as caught:
        gate(result(silent), settings())
    assert "no connection" in caught.value.why


def write(folder: Path, found: Result, chosen: GateSettings) -> list[str]:
    (folder / "result.json").write_text(found.model_dump_json())
    (folder / "settings.json").write_text(chosen.model_dump_json())
    argv = ["--result", str(folder), "--settings", str(folder / "settings.json")]
    return [*argv, "--output", str(folder / "out")]


def test_command_writes_the_verdict_and_ends_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(write(tmp_path, result(), settings(ttft_ms_p50=400))) == 0
    assert json.loads((tmp_path / "out/gate.json").read_text())["passed"] is True
    assert "ttft_ms_p50" in capsys.readouterr().out


def test_command_ends_with_6_and_a_table_when_the_gate_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(write(tmp_path, result(), settings(ttft_ms_p50=4))) == 6
    printed = capsys.readouterr()
    assert "failed" in printed.out
    assert "Error: The release did not pass the smoke gate: ttft_ms_p50 is 300 ms" in printed.err
    assert "Traceback" not in printed.err


def test_command_reads_the_baseline_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = summary(result(measured(1, rate=600)))
    (tmp_path / "baseline.json").write_text(baseline.model_dump_json())
    argv = write(tmp_path, result(), settings())
    assert main(argv) == 0
    assert main([*argv, "--baseline", str(tmp_path / "baseline.json")]) == 6
    assert "output_tokens_per_s against the last bundle" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "{", '{"schema_version": 3}', "[]"])
def test_command_ends_with_3_when_the_result_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    argv = write(tmp_path, result(), settings())
    (tmp_path / "result.json").write_text(damage)
    assert main(argv) == 3
    assert "result.json is not valid" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
