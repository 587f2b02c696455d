"""From the signed manifest in a slot to power and limits, before its server starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from forge.bundle import Manifest, Operating
from forge.device.agent.operating_point import OperatingPoint
from forge.device.commands import power
from forge.device.hardware.compute_target import ComputeTarget
from forge.device.hardware.facts import Answer, Facts
from forge.device.hardware.inventory import Hardware, parse
from forge.device.hardware.watch import HardwareWatch
from forge.device.power.control import PowerControl
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.release import Release
from forge.device.state.directory import StateDirectory
from forge.device.state_machine.journal import Journal
from forge.device.thermal.monitor import ThermalMonitor
from forge.device.thermal.sensors import Sensor, Temperatures
from forge.errors import ConfigurationError, FitError, UsageError
from forge.profiles import MatchSection, PowerSection, Profile, ThermalSection
from forge.serving.repository.spec import write_spec
from tests.support.captured import machine_of
from tests.support.machines import watch_of
from tests.support.release_world import manifest
from tests.support.spec import a_spec

CONFIG = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n< PM_CONFIG DEFAULT=1 >\n"
COOL = Temperatures(decisive=(Sensor(name="tj-thermal", celsius=45.0),))


@dataclass
class Thor:
    """Answers as a Thor's nvpmodel does; keeps what was run."""

    mode: int = 1
    fails: str = ""
    ran: list[str] = field(default_factory=list)

    def __call__(self, argv: Sequence[str], _timeout_s: float) -> Answer:
        match argv:
            case ["nvpmodel", "-q"]:
                return Answer(f"NV Power Mode: {('MAXN', '120W')[self.mode]}\n{self.mode}\n")
            case ["nvpmodel", "-m", mode]:
                self.ran.append(" ".join(argv))
                self.mode = self.mode if self.fails else int(mode)
                return Answer(self.fails)
            case ["jetson_clocks"]:
                self.ran.append("jetson_clocks")
                return Answer()
        return Answer(problem="not installed")


@dataclass
class Device:
    """A Jetson with a bundle in slot a."""

    home: StateDirectory
    thor: Thor
    operation: OperatingPoint

    def hold(self, mode: str | None, *, lock: bool = False, most: int = 8) -> None:
        settings = PowerSection(mode=mode, limit_w=None, lock_clocks=lock)
        thermal = ThermalSection(throttle_c=95, critical_c=105, batch_floor=2)
        self.put(Operating(power=settings, thermal=thermal), most)

    def put(self, operating: Operating | None, most: int = 8) -> Manifest:
        made = manifest("1.0.0", "jetson-agx-thor").model_copy(update={"operating": operating})
        self.home.slots.tree("a").mkdir(parents=True, exist_ok=True)
        write_spec(self.home.slots.tree("a"), a_spec(max_batch_size=most))
        self.home.slots.mark_complete("a", made)
        return made


@pytest.fixture
def device(tmp_path: Path) -> Device:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nvpmodel.conf").write_text(CONFIG)
    home, thor = StateDirectory(tmp_path / "state"), Thor()
    home.clean()
    control = PowerControl(root=tmp_path, run=thor, is_root=True)
    guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=lambda _target: COOL)
    watch = watch_of(machine_of("thor-jetpack-7.2"))
    return Device(home, thor, OperatingPoint(home, control, guard, watch))


def test_a_bundle_is_served_at_its_own_power_and_temperatures(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.hold("MAXN", lock=True)
    device.operation.configure("a")
    assert device.thor.ran == ["nvpmodel -m 0", "jetson_clocks"]
    assert device.operation.power().mode == "MAXN"
    heat = device.operation.heat()
    assert (heat.limit, heat.most, heat.floor, heat.throttle_c) == (8, 8, 2, 95.0)
    assert caplog.messages == []


def test_a_bundle_from_before_operating_settings_changes_nothing(device: Device) -> None:
    device.put(None)
    device.operation.configure("a")
    assert device.thor.ran == []
    assert device.operation.heat().limit == 8  # its batch: more would wait in Triton, unseen


def test_power_that_cannot_be_had_is_logged_and_does_not_stop_the_bundle(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.hold("90W")
    device.operation.configure("a")
    said = "power mode 90W is not available; /etc/nvpmodel.conf has MAXN, 120W"
    assert caplog.messages == [f"power: {said}"]
    assert device.operation.power().problems == (said,)
    assert device.operation.heat().most == 8


def test_a_mode_changed_by_hand_is_seen_and_not_fought_over(device: Device) -> None:
    device.hold("120W", lock=True)
    device.operation.configure("a")
    device.thor.mode = 0
    device.operation.refresh()
    report = device.operation.power()
    assert (report.mode, report.commands) == ("MAXN", ("nvpmodel -m 1",))
    assert device.thor.ran == ["jetson_clocks"]


def test_why_power_was_not_had_is_kept_until_it_is(device: Device) -> None:
    device.thor.fails = "NVPM ERROR: no"
    device.hold("MAXN")
    device.operation.configure("a")
    device.operation.refresh()
    assert "NVPM ERROR: no" in device.operation.power().problems[0]
    device.thor.mode = 0
    device.operation.refresh()
    assert device.operation.power().problems == ()


def test_a_slot_that_says_not_how_it_is_served_is_refused(device: Device) -> None:
    device.hold("MAXN")
    (device.home.slots.tree("a") / "serving.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"serving\.json"):
        device.operation.configure("a")
    assert device.thor.ran == []


# The GPU that serves


RTX = "NVIDIA RTX PRO 4000 Blackwell, 24467, 590.44.01, 12.0, GPU-rtx\n"
G5090 = "NVIDIA GeForce RTX 5090, 32607, 590.44.01, 12.0, GPU-5090\n"


@dataclass
class Workstation:
    """Two unlike GPUs, of which a bundle is for one."""

    home: StateDirectory
    said: list[Hardware]
    heard: list[ComputeTarget] = field(default_factory=list)

    def operation(self, gpu: str | None = None) -> OperatingPoint:
        def look(target: ComputeTarget) -> Temperatures:
            self.heard.append(target)
            return COOL

        guard = ThermalMonitor(ConcurrencyLimit(), read_sensors=look)
        watch = HardwareWatch(lambda: self.said[-1])
        control = PowerControl(run=lambda *_: Answer(problem="not installed"), is_root=True)
        return OperatingPoint(self.home, control, guard, watch, gpu)


@pytest.fixture
def workstation(tmp_path: Path) -> Workstation:
    home = StateDirectory(tmp_path / "state")
    home.clean()
    made = manifest("1.0.0", "rtx-pro-4000")
    rules = MatchSection.model_validate({"gpu_name": "NVIDIA RTX PRO 4000*"})
    needs = {"compute_capability": "12.0", "match": rules}
    home.slots.tree("a").mkdir(parents=True)
    write_spec(home.slots.tree("a"), a_spec(max_batch_size=8))
    home.slots.mark_complete(
        "a", made.model_copy(update={"fit": made.fit.model_copy(update=needs)})
    )
    return Workstation(home, [parse(Facts("x86_64", "6.8", smi_gpus=G5090 + RTX))])


def test_the_server_sees_the_gpu_that_the_profile_matches_and_its_heat_decides(
    workstation: Workstation,
) -> None:
    operation = workstation.operation()
    operation.configure("a")
    assert operation.environment("a") == {"CUDA_VISIBLE_DEVICES": "GPU-rtx"}
    operation.monitor.check()
    assert workstation.heard[-1].is_of("GPU-rtx", 0)
    assert not workstation.heard[-1].is_of("GPU-5090", 1)


def test_a_gpu_that_a_person_names_is_the_one(workstation: Workstation) -> None:
    assert workstation.operation("GPU-5090").environment("a") == {
        "CUDA_VISIBLE_DEVICES": "GPU-5090"
    }


def test_a_driver_that_does_not_answer_at_a_restart_takes_no_gpu_away(
    workstation: Workstation,
) -> None:
    operation = workstation.operation()
    assert operation.environment("a") == {"CUDA_VISIBLE_DEVICES": "GPU-rtx"}
    workstation.said.append(parse(Facts("x86_64", "6.8", smi_state="failed")))
    assert operation.environment("a") == {"CUDA_VISIBLE_DEVICES": "GPU-rtx"}
    workstation.said.append(parse(Facts("x86_64", "6.8", smi_gpus=G5090)))
    assert operation.environment("a") == {"CUDA_VISIBLE_DEVICES": "GPU-5090"}  # it is the only one


def test_a_slot_that_is_empty_has_no_gpu(workstation: Workstation) -> None:
    assert workstation.operation().environment("b") == {}


# forge device power


def thor(device: Device) -> Hardware:
    return device.operation.watch.current()


def control(device: Device) -> PowerControl:
    root = device.home.path.parent
    return PowerControl(root=root, run=device.thor, is_root=True)


def test_the_active_bundle_says_which_power_is_wanted(
    device: Device, shipped: dict[str, Profile]
) -> None:
    device.hold("MAXN")
    release = Release.of(device.put(Operating.model_validate({
        "power": {"mode": "MAXN", "limit_w": None, "lock_clocks": False},
        "thermal": {"throttle_c": 95, "critical_c": 105, "batch_floor": 1},
    })))  # fmt: skip
    device.home.write_journal(Journal(active="a", slots={"a": release}))
    shown = power(device.home.path, shipped, control=control(device), hardware=thor(device))
    assert shown.wanted_by == "the bundle of the active slot"
    assert (shown.power.mode, shown.power.commands) == ("120W", ("nvpmodel -m 0",))
    assert device.thor.ran == []
    done = power(
        device.home.path, shipped, control=control(device), hardware=thor(device), apply=True
    )
    assert (done.power.mode, done.power.commands) == ("MAXN", ())
    by_hand = power(
        device.home.path,
        shipped,
        profile="jetson-agx-thor",
        control=control(device),
        hardware=thor(device),
    )
    assert by_hand.wanted_by == "profile jetson-agx-thor"
    assert by_hand.power.commands == ("nvpmodel -m 1",)


def test_a_device_without_a_bundle_goes_by_its_hardware(
    tmp_path: Path, device: Device, shipped: dict[str, Profile]
) -> None:
    only = {"development": shipped["development"]}
    shown = power(tmp_path / "nowhere", only, control=control(device), hardware=thor(device))
    assert shown.wanted_by == "nothing: no profile matches"  # development is for amd64
    assert (shown.power.mode, shown.power.commands) == ("120W", ())
    with pytest.raises(FitError):
        power(
            tmp_path / "nowhere", only, control=control(device), hardware=thor(device), apply=True
        )
    own = power(tmp_path / "nowhere", shipped, control=control(device), hardware=thor(device))
    assert own.wanted_by == "profile jetson-agx-thor"
    assert not (tmp_path / "nowhere").exists()


def test_a_profile_that_is_none_is_refused(device: Device, shipped: dict[str, Profile]) -> None:
    with pytest.raises(UsageError, match="did you mean 'tesla-p40'"):
        power(
            device.home.path,
            shipped,
            profile="tesla-p4",
            control=control(device),
            hardware=thor(device),
        )


def test_a_state_folder_that_cannot_be_read_is_said(
    tmp_path: Path, device: Device, shipped: dict[str, Profile]
) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/state.json").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        power(tmp_path / "odd", shipped, control=control(device), hardware=thor(device))
    assert "--profile" in caught.value.hint
