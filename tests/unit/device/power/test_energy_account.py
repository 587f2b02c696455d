"""The account between the threads of a device."""

from __future__ import annotations

import threading

import pytest

from forge.device.power.energy_account import EnergyAccount, EnergyReport
from forge.energy.power_reading import PowerReading

READING = PowerReading(40.0, "nvidia-smi", "Tesla P40")


def test_a_request_is_observed_at_the_next_reading() -> None:
    times, seen = iter((0.0, 1.0, 1.5, 2.0)), list[float]()
    account = EnergyAccount(seen.append, lambda: next(times))
    account.sample(READING)
    account.end(account.begin())
    assert seen == []
    account.sample(READING)
    assert seen == pytest.approx([20])
    found = account.report()
    assert found.power == READING
    assert found.joules == pytest.approx({"nvidia-smi": 80})
    assert found.serving_joules == pytest.approx({"nvidia-smi": 20})


def test_before_the_first_reading_nothing_is_known() -> None:
    assert EnergyAccount().report() == EnergyReport()
    account = EnergyAccount()
    account.end(account.begin())
    account.sample(READING)
    assert account.report().unmeasured == 1


def test_no_request_of_another_thread_is_lost() -> None:
    account = EnergyAccount()

    def requests() -> None:
        for _ in range(200):
            account.end(account.begin())

    threads = [threading.Thread(target=requests) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        account.sample(PowerReading(problem="lost"))
    for thread in threads:
        thread.join()
    account.sample(PowerReading(problem="lost"))
    assert account.report().unmeasured == 800
