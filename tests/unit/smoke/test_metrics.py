import pytest

from forge.smoke.metrics import RequestTimes, percentile, percentiles, summarise


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1.0), (50, 2.5), (90, 3.7), (99, 3.97), (100, 4.0)]
)
def test_percentile_interpolates_between_ranks(percent: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == pytest.approx(expected)


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 99) == 7.0


def test_percentile_refuses_no_values() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_percentiles_are_milliseconds() -> None:
    found = percentiles([0.001, 0.002, 0.003])
    assert found is not None
    assert found.p50 == 2.0
    assert percentiles([]) is None


def test_summarise_counts_from_the_first_request_to_the_last_answer() -> None:
    requests = [
        RequestTimes(sent=10.0, tokens=(10.2, 10.3, 10.5), ended=11.0, output_tokens=4),
        RequestTimes(sent=10.5, tokens=(10.9, 11.0), ended=12.0, output_tokens=2),
    ]
    found = summarise(2, requests)
    assert found.seconds == 2.0
    assert found.output_tokens == 6
    assert found.output_tokens_per_s == 3.0
    assert found.ttft_ms is not None
    assert found.ttft_ms.p50 == pytest.approx(300)
    assert found.inter_token_ms is not None
    assert found.inter_token_ms.p50 == pytest.approx(100)
    assert found.error_rate == 0


def test_summarise_keeps_failed_requests_out_of_latency_and_rate() -> None:
    requests = [
        RequestTimes(sent=0.0, tokens=(0.1, 0.2), ended=1.0, output_tokens=2),
        RequestTimes(sent=0.0, tokens=(0.9,), ended=2.0, output_tokens=0, error="broke off"),
        RequestTimes(sent=0.0, tokens=(), ended=2.0, output_tokens=0, error="broke off"),
    ]
    found = summarise(3, requests)
    assert (found.requests, found.errors) == (3, 2)
    assert found.error_rate == pytest.approx(2 / 3)
    assert found.error_examples == ("broke off",)
    assert found.output_tokens_per_s == 1.0
    assert found.ttft_ms is not None
    assert found.ttft_ms.p99 == pytest.approx(100)


def test_summarise_has_no_latency_when_every_request_failed() -> None:
    found = summarise(1, [RequestTimes(0.0, (), 1.0, 0, "no")])
    assert found.ttft_ms is None
    assert found.inter_token_ms is None
    assert found.error_rate == 1
