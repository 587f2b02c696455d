from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge.bundle import Fit, ServingSettings
from forge.container import RunningImage, Statement
from forge.device.hardware.facts import Facts
from forge.device.hardware.fit import Refusal, check, check_serving, require
from forge.device.hardware.inventory import Hardware, parse
from forge.errors import FitError
from forge.memory import CacheTerm, MemoryFormula, ServedMemory
from forge.profiles import MatchSection

Machine = Callable[[str], Hardware]

PLAIN: dict[str, Any] = {
    "platform": "linux/amd64",
    "match": MatchSection.model_validate({}),
    "compute_capability": None,
    "memory_mib": 1024,
    "free_disk_mib": 100,
    "driver_min": None,
    "jetpack": (),
    "runtime": {},
    "power_mode": None,
}
RTX = PLAIN | {"compute_capability": "12.0", "driver_min": "590.44.01", "memory_mib": 8192}
THOR = RTX | {
    "platform": "linux/arm64",
    "compute_capability": "11.0",
    "driver_min": None,
    "jetpack": ("7.2",),
    "power_mode": "120W",
}


def refusals(fit: dict[str, Any], hardware: Hardware, *, free_mib: int = 10_000) -> list[str]:
    found = check(Fit(**fit), hardware, free_mib, 100 * 2**20)
    assert all(type(refusal) is Refusal and refusal.hint for refusal in found)
    return [str(refusal) for refusal in found]


@pytest.mark.parametrize(
    ("fit", "name"),
    [
        (PLAIN, "no-gpu"),
        (PLAIN, "rtx-pro-4000"),
        (RTX, "rtx-pro-4000"),
        (RTX, "rtx-pro-4000-sff"),
        (THOR, "thor-jetpack-7.2"),
        (THOR | {"jetpack": ("7.1", "7.2")}, "thor-jetpack-7.1"),
        (THOR | {"jetpack": ("7.1",), "runtime": {"tensorrt": "10.13.3.9"}}, "thor-jetpack-7.1"),
        (RTX | {"runtime": {"tensorrt": "10.14.1.48"}}, "rtx-pro-4000"),  # comes with the image
    ],
)
def test_check_lets_a_fitting_bundle_pass(machine: Machine, fit: dict[str, Any], name: str) -> None:
    assert refusals(fit, machine(name)) == []


@pytest.mark.parametrize(
    ("fit", "name", "said"),
    [
        (THOR, "rtx-pro-4000", "it is built for linux/arm64, this is linux/amd64"),
        (RTX, "tesla-p40", "compute capability 12.0, this machine has 6.1"),
        (RTX, "no-gpu", "compute capability 12.0, this machine has none"),
        (RTX, "geforce", "driver 590.44.01 or newer, this is 580.126.09"),
        (RTX, "no-gpu", "driver 590.44.01 or newer, nvidia-smi reports none"),
        (THOR, "thor-jetpack-7.1", "it needs JetPack 7.2, this is JetPack 7.1 (L4T 38.4.0)"),
        (THOR, "orin-jetpack-6", "it needs JetPack 7.2, this is JetPack 6.2 (L4T 36.4.3)"),
        (THOR, "arm64-server", "this is not a known JetPack release"),
        (
            THOR | {"jetpack": (), "runtime": {"tensorrt": "10.16.0.72"}},
            "thor-jetpack-7.1",
            "bound to tensorrt 10.16.0.72, this is 10.13.3",
        ),
        (
            RTX | {"memory_mib": 24576},
            "rtx-pro-4000",
            "24576 MiB of memory, this machine has 24467 MiB",
        ),
        (
            PLAIN | {"memory_mib": 70_000},
            "rtx-pro-4000",
            "70000 MiB of memory, this machine has 64000",
        ),
        (THOR | {"power_mode": "90W"}, "thor-jetpack-7.2", "power mode 90W"),
        (
            THOR | {"power_mode": "90W"},
            "thor-jetpack-7.2",
            "/etc/nvpmodel.conf has MAXN, 120W;",
        ),
        (RTX | {"power_mode": "90W"}, "rtx-pro-4000", "/etc/nvpmodel.conf has none;"),
        (RTX | {"jetpack": ("7.2",)}, "rtx-pro-4000", "this is not a known JetPack release;"),
    ],
)
def test_check_refuses_in_a_sentence(
    machine: Machine, fit: dict[str, Any], name: str, said: str
) -> None:
    found = refusals(fit, machine(name))
    assert any(said in refusal for refusal in found), found


def test_check_of_blue_green_asks_for_room_for_both(machine: Machine) -> None:
    fit, rtx = Fit(**RTX), machine("rtx-pro-4000")  # 8192 of 24467 MiB
    assert check(fit, rtx, 10_000, 0, serving_mib=16_275) == ()
    [refusal] = check(fit, rtx, 10_000, 0, serving_mib=16_276)
    assert str(refusal) == (
        "it is activated blue-green and needs 8192 MiB of memory in addition to the 16276 MiB"
        " in use, this machine has 24467 MiB; publish it with serving.activation: swap, which"
        " stops the active release first"
    )


def test_check_of_blue_green_names_one_reason_where_not_even_one_fits(machine: Machine) -> None:
    fit = Fit(**RTX | {"memory_mib": 30_000})
    [refusal] = check(fit, machine("rtx-pro-4000"), 10_000, 0, serving_mib=30_000)
    assert "it needs 30000 MiB of memory, this machine has 24467 MiB" in str(refusal)


def test_check_of_blue_green_names_what_serves_where_one_alone_just_fits(machine: Machine) -> None:
    fit, rtx = Fit(**RTX | {"memory_mib": 24_467}), machine("rtx-pro-4000")
    assert check(fit, rtx, 10_000, 0) == ()
    [refusal] = check(fit, rtx, 10_000, 0, serving_mib=1)
    assert "24467 MiB of memory in addition to the 1 MiB in use" in str(refusal)


RTX_16 = "NVIDIA RTX PRO 4000 Blackwell Generation Laptop GPU, 16303, 590.44.01, 12.0, GPU-16\n"
RTX_24 = "NVIDIA RTX PRO 4000 Blackwell, 24467, 590.44.01, 12.0, GPU-24\n"
P40 = "Tesla P40, 24576, 590.44.01, 6.1, GPU-p40\n"


def with_gpus(rows: str, **said: Any) -> Hardware:
    return parse(Facts("x86_64", "6.8", smi_gpus=rows, meminfo="MemTotal: 65536000 kB", **said))


def test_check_wants_capability_and_memory_of_one_gpu() -> None:
    wanted = RTX | {"memory_mib": 20_000}
    [refusal] = refusals(wanted, with_gpus(RTX_16 + P40))
    assert "20000 MiB of memory, NVIDIA RTX PRO 4000 Blackwell Generation Laptop GPU" in refusal
    assert refusals(wanted, with_gpus(RTX_16 + RTX_24)) == []
    [refusal] = [
        str(one) for one in check(Fit(**wanted), with_gpus(RTX_16 + RTX_24), None, 0, 0, "GPU-16")
    ]
    assert "16303 MiB" in refusal


def test_check_of_a_gpu_that_a_person_names_is_of_that_gpu() -> None:
    found = check(Fit(**RTX), with_gpus(RTX_24 + P40), None, 0, 0, "GPU-p40")
    assert any("GPU GPU-p40 has 6.1" in str(refusal) for refusal in found)


def test_check_takes_the_gpu_that_the_profile_matches() -> None:
    wanted = RTX | {"match": MatchSection.model_validate({"gpu_name": "*Laptop*"})}
    [refusal] = refusals(wanted | {"memory_mib": 20_000}, with_gpus(RTX_16 + RTX_24))
    assert "Laptop GPU (GPU-16) has 16303 MiB" in refusal


@pytest.mark.parametrize(
    "hardware",
    [
        parse(Facts("x86_64", "6.8", smi_state="failed")),
        parse(Facts("x86_64", "6.8", nvidia_signs=("/dev/nvidia0",))),
        with_gpus(P40.replace("590.44.01", "[N/A]"), smi_complete=False),
    ],
)
def test_check_of_a_driver_that_does_not_answer_is_not_known_now(hardware: Hardware) -> None:
    found = refusals(RTX, hardware)
    assert any("not known now" in refusal and "asked again" in refusal for refusal in found)
    assert not any("choose" in refusal or "install" in refusal for refusal in found)


def test_check_of_memory_that_is_not_known_now_is_not_passed() -> None:
    rows = RTX_24.replace("24467", "[GPU requires reset]")
    [refusal] = refusals(RTX, with_gpus(rows))
    assert "that of NVIDIA RTX PRO 4000 Blackwell is not known now" in refusal


def test_check_of_a_bundle_for_the_cpu_asks_for_memory_of_the_machine() -> None:
    assert refusals(PLAIN | {"memory_mib": 60_000}, with_gpus(P40)) == []


def test_check_lets_a_machine_pass_that_does_not_tell_its_memory(machine: Machine) -> None:
    hardware = machine("no-gpu").model_copy(update={"memory_mib": None})
    assert refusals(PLAIN, hardware) == []


def test_check_takes_a_point_release_of_jetpack_for_that_release(machine: Machine) -> None:
    thor = machine("thor-jetpack-7.2")
    assert refusals(THOR, thor.model_copy(update={"jetpack": "7.2.1"})) == []
    assert refusals(THOR, thor.model_copy(update={"jetpack": "7.20"})) != []


def test_check_names_runtimes_in_the_order_of_their_names(machine: Machine) -> None:
    hardware = machine("no-gpu").model_copy(update={"runtime": {"a": "1.0", "b": "1.0"}})
    first, second = refusals(PLAIN | {"runtime": {"b": "2.0", "a": "2.0"}}, hardware)
    assert "bound to a 2.0" in first
    assert "bound to b 2.0" in second


def test_check_compares_driver_versions_as_numbers(machine: Machine) -> None:
    hardware = machine("rtx-pro-4000").model_copy(update={"driver": "595.9"})
    assert refusals(RTX | {"driver_min": "595.78"}, hardware)
    assert not refusals(RTX | {"driver_min": "595.08"}, hardware)


def test_check_says_how_much_disk_is_missing(machine: Machine) -> None:
    [refusal] = refusals(PLAIN, machine("no-gpu"), free_mib=150)
    assert "it needs 200 MiB of free disk space, 150 MiB are free" in refusal
    assert "free 50 MiB" in refusal


def test_check_asks_no_disk_of_what_is_installed_and_is_content_with_just_enough(
    machine: Machine,
) -> None:
    assert check(Fit(**PLAIN), machine("no-gpu"), None, 10**15) == ()
    assert refusals(PLAIN, machine("no-gpu"), free_mib=200) == []


def test_require_says_each_hint_once() -> None:
    found = (Refusal("it is big", "free it"), Refusal("it is fat", "free it"), Refusal("c", "d"))
    with pytest.raises(FitError) as caught:
        require(found, "llm 1.0.0")
    assert (caught.value.why, caught.value.hint) == ("it is big; it is fat; c", "free it; d")


def test_require_lists_every_refusal_and_what_to_do(machine: Machine) -> None:
    found = check(Fit(**RTX), machine("no-gpu"), 0, 0)
    with pytest.raises(FitError) as caught:
        require(found, "llm 1.0.0 (rtx-pro-4000)")
    assert caught.value.exit_code == 8
    for refusal in found:
        assert refusal.what in str(caught.value)
        assert refusal.hint in str(caught.value)


def test_require_is_silent_when_it_fits() -> None:
    require((), "llm 1.0.0")


BASE = f"nvcr.io/nvidia/tritonserver@sha256:{'b' * 64}"
HERE = RunningImage(
    Statement(
        name="serving-triton",
        platform="linux/amd64",
        base="nvcr.io/nvidia/tritonserver:26.07",
        base_digest=f"sha256:{'b' * 64}",
        version="1",
    ),
    f"registry.example/serving-triton@sha256:{'a' * 64}",
)


def served_in(**images: str) -> ServingSettings:
    return ServingSettings(activation="swap", start_timeout_s=60, environments={}, images=images)


def test_a_bundle_served_in_an_image_is_refused_elsewhere_with_the_commands() -> None:
    [refusal] = check_serving(served_in(server=BASE), None)
    assert (
        f"requires the container image {BASE}, and this agent runs outside a container"
        in refusal.what
    )
    assert f"-e FORGE_IMAGE={BASE} " in refusal.hint
    for command in ("podman run ", "docker run ", "kustomize edit set image forge="):
        assert command in refusal.hint


@pytest.mark.parametrize("image", ["x; rm -r /", "$(id)", "a b", "a\nb", "--privileged x", ""])
def test_what_is_no_reference_gets_into_no_command(image: str) -> None:
    [refusal] = check_serving(served_in(server=image), HERE)
    assert "is not a valid image reference" in refusal.what
    assert refusal.hint == "publish it again"


def test_a_bundle_served_in_the_image_around_the_agent_or_in_its_base_fits() -> None:
    assert check_serving(served_in(server=BASE), HERE) == ()
    assert check_serving(served_in(server=HERE.reference), HERE) == ()


def test_a_bundle_of_another_image_is_refused_with_both_names() -> None:
    other = BASE.replace("b" * 64, "d" * 64)
    [refusal] = check_serving(served_in(server=other), HERE)
    assert other in refusal.what
    assert HERE.reference in refusal.what


def test_a_bundle_that_brings_an_environment_is_served_anywhere() -> None:
    serving = served_in().model_copy(update={"environments": {"triton": "0" * 64}})
    assert check_serving(serving, None) == check_serving(serving, HERE) == ()


def test_a_bundle_with_neither_environment_nor_image_is_refused() -> None:
    [refusal] = check_serving(served_in(), HERE)
    assert "no container image" in refusal.what


# 1110 MiB and one for each token of each sequence.
SERVED = ServedMemory(
    formula=MemoryFormula(
        weights_mib=1000, runtime_mib=100, workspace_mib=10,
        caches=(CacheTerm(bytes_per_token=2**20),),
    ),
    max_batch_size=8,
    max_seq_len=4096,
)  # fmt: skip


def with_memory(memory_mib: int, served: ServedMemory, have: Hardware, serving: int = 0) -> str:
    fit = Fit(**(RTX | {"memory_mib": memory_mib}))
    return "\n".join(map(str, check(fit, have, 10_000, 0, serving, served=served)))


def test_refusal_names_the_largest_batch_and_length_that_fit(machine: Machine) -> None:
    said = with_memory(33_878, SERVED, machine("rtx-pro-4000"))
    assert "it needs 33878 MiB of memory, this machine has 24467 MiB" in said
    assert "would fit: max_batch_size 5 with max_seq_len 4096" in said  # 1110 + 5 x 4096
    assert "or max_seq_len 2919 with max_batch_size 8" in said  # 1110 + 8 x 2919


def test_beside_what_serves_less_fits(machine: Machine) -> None:
    said = with_memory(20_000, SERVED, machine("rtx-pro-4000"), serving=10_000)
    assert "in addition to the 10000 MiB in use" in said
    assert "max_batch_size 3 with max_seq_len 4096" in said  # in 14467 MiB


def test_requirement_that_is_larger_than_computed_is_told(machine: Machine) -> None:
    small = SERVED.model_copy(update={"max_batch_size": 1})
    said = with_memory(30_000, small, machine("rtx-pro-4000"))
    assert "its model is computed to take 5206 MiB" in said


def test_model_of_which_nothing_fits_has_no_suggestion(machine: Machine) -> None:
    huge = SERVED.model_copy(
        update={"formula": SERVED.formula.model_copy(update={"weights_mib": 90_000})}
    )
    assert "no batch and length of its model fits" in with_memory(
        90_000, huge, machine("rtx-pro-4000")
    )


def test_system_keeps_its_part_of_unified_memory_only(machine: Machine) -> None:
    thor = machine("thor-jetpack-7.2")
    have = thor.memory_mib
    assert have is not None
    system = SERVED.model_copy(
        update={"formula": SERVED.formula.model_copy(update={"system_mib": 2048})}
    )
    fitting = Fit(**(THOR | {"memory_mib": have - 2048}))
    assert check(fitting, thor, 10_000, 0, served=system) == ()
    more = Fit(**(THOR | {"memory_mib": have - 2047}))
    [refusal] = check(more, thor, 10_000, 0, served=system)
    assert "and 2048 MiB for the system" in refusal.what
    assert check(more, thor, 10_000, 0) == ()  # its publisher did not compute it
    on_card = Fit(**(RTX | {"memory_mib": 24_467}))
    assert check(on_card, machine("rtx-pro-4000"), 10_000, 0, served=system) == ()


def test_suggestion_fits_when_it_is_followed(machine: Machine) -> None:
    have = machine("rtx-pro-4000")
    said = with_memory(33_878, SERVED, have)
    assert "with a smaller batch or length and requires.memory_mib 24467" in said
    smaller = SERVED.model_copy(update={"max_batch_size": 5})
    assert with_memory(24_467, smaller, have) == ""
    beside = with_memory(20_000, SERVED, have, serving=10_000)
    assert "and requires.memory_mib 14467" in beside
    assert with_memory(14_467, smaller, have, serving=10_000) == ""
    lower = with_memory(30_000, SERVED.model_copy(update={"max_batch_size": 1}), have)
    assert "or publish it with requires.memory_mib 24467 or less" in lower


def test_suggestion_leaves_the_system_its_part(machine: Machine) -> None:
    thor = machine("thor-jetpack-7.2")
    assert thor.memory_mib is not None
    system = SERVED.model_copy(
        update={
            "formula": SERVED.formula.model_copy(update={"system_mib": 2048}),
            "max_batch_size": 64,
        }
    )
    more = Fit(**(THOR | {"memory_mib": 250_000}))
    [refusal] = check(more, thor, 10_000, 0, served=system)
    room = thor.memory_mib - 2048
    assert f"requires.memory_mib {room}" in refusal.hint
    assert f"max_batch_size {(room - 1110) // 4096} with" in refusal.what
    assert check(Fit(**(THOR | {"memory_mib": room})), thor, 10_000, 0, served=system) == ()
