"""A signal ends the agent, also one that came where Python swallows what is raised."""

import contextlib
import signal

import pytest

from forge.device.shared.signals import StopAskedError, check_signals, no_signals, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_raised_where_it_comes(number: signal.Signals) -> None:
    with pytest.raises(StopAskedError), stop_on_signals():
        signal.raise_signal(number)


def test_signal_that_was_swallowed_is_raised_at_the_next_check() -> None:
    with stop_on_signals():
        check_signals()
        with contextlib.suppress(StopAskedError):  # as an import's callback does
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopAskedError):
            check_signals()


def test_signal_of_an_earlier_run_is_forgotten() -> None:
    with pytest.raises(StopAskedError), stop_on_signals():
        signal.raise_signal(signal.SIGTERM)
    with stop_on_signals():
        check_signals()


def test_body_without_signals_is_finished() -> None:
    with stop_on_signals(), no_signals():
        signal.raise_signal(signal.SIGTERM)
