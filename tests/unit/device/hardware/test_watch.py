"""How often a machine is asked what it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from forge.device.hardware.facts import Facts
from forge.device.hardware.inventory import Hardware, parse
from forge.device.hardware.watch import HardwareWatch

ROW = "Tesla P40, 24576, 580.126.09, 6.1, GPU-p40\n"
GOOD = parse(Facts("x86_64", "6.8", smi_gpus=ROW, smi_state="answered"))
FAILED = parse(Facts("x86_64", "6.8", smi_state="failed", problems=("nvidia-smi: exit code 18",)))
HANGS = parse(
    Facts("x86_64", "6.8", smi_state="failed", problems=("nvidia-smi: no answer within 10 s",))
)
LOST = parse(Facts("x86_64", "6.8", smi_gpus=ROW, smi_complete=False))


@dataclass
class Script:
    """What the machine says, one after another; the last for ever."""

    said: list[Hardware]
    asked: int = 0
    now: float = 0.0
    times: list[float] = field(default_factory=list)

    def __call__(self) -> Hardware:
        self.asked += 1
        return self.said.pop(0) if len(self.said) > 1 else self.said[0]

    def watch(self) -> HardwareWatch:
        return HardwareWatch(self, clock=lambda: self.now)


def test_a_driver_that_comes_later_is_seen_at_the_next_look() -> None:
    script = Script([FAILED, GOOD])
    watch = script.watch()
    assert watch.current().nvidia == "unknown"
    assert watch.current().nvidia == "unknown"
    assert script.asked == 1
    assert watch.look().nvidia == "present"
    assert watch.current().nvidia == "present"


def test_what_is_not_known_is_asked_again_soon_and_ever_more_seldom() -> None:
    script = Script([FAILED])
    watch = script.watch()
    assert watch.retry_s is None
    pauses: list[float | None] = []
    for _ in range(9):
        watch.look()
        pauses.append(watch.retry_s)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    script.said = [GOOD]
    watch.look()
    assert watch.retry_s is None
    script.said = [LOST]
    watch.look()
    assert watch.retry_s == 5


def test_an_nvidia_smi_that_hangs_is_left_alone_for_a_while() -> None:
    script = Script([HANGS])
    watch = script.watch()
    watch.look()
    script.now = 4.9
    assert watch.look() == HANGS
    assert script.asked == 1
    script.now = 5.0
    watch.look()
    script.now = 14.9
    watch.look()
    assert script.asked == 2
    script.said, script.now = [GOOD], 15.0
    assert watch.look() == GOOD
    assert watch.look() == GOOD
    assert script.asked == 4


def test_one_that_fails_quickly_is_asked_at_each_look() -> None:
    script = Script([FAILED])
    watch = script.watch()
    for _ in range(3):
        watch.look()
    assert script.asked == 3


def test_the_machine_is_this_one_by_default() -> None:
    assert HardwareWatch().current().platform.startswith("linux/")
