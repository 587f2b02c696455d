"""deploy/container: as closed as the docs say, and every option of its commands exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from forge.cli import main
from tests.support.overlays import of

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "container"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = ("provision", "agent")
VARIABLE = re.compile(r"\$\{(\w+)")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_nobody_special_and_its_image_is_read_only(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["user"] == "65532:65532"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "devices", "cap_add"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_options_of_a_command_exist(name: str) -> None:
    words = COMPOSE["services"][name]["command"]
    assert main(["device", *words, "--help"]) == 0


def test_the_agent_is_told_the_image_that_is_started() -> None:
    agent = COMPOSE["services"]["agent"]
    assert VARIABLE.findall(agent["image"]) == ["FORGE_IMAGE"]
    assert VARIABLE.findall(agent["environment"]["FORGE_IMAGE"]) == ["FORGE_IMAGE"]


def test_the_api_is_not_opened_to_other_machines() -> None:
    agent = COMPOSE["services"]["agent"]
    assert agent["network_mode"] == "host"
    assert agent["command"] == ["run"]  # its default is 127.0.0.1


def test_health_is_asked_as_the_image_says() -> None:
    text = (ROOT / "dockerfiles" / "device" / "Dockerfile").read_text()
    label = re.search(r'forge\.health="(.*)"$', text, re.MULTILINE)
    assert label is not None
    command = shlex.split(label[1].replace('\\"', '"'))
    assert COMPOSE["services"]["agent"]["healthcheck"]["test"] == ["CMD", *command]


def test_every_variable_without_a_default_is_in_the_example() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    given = {line.partition("=")[0] for line in (FOLDER / "env.example").read_text().splitlines()}
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert needed
    assert needed <= given


@pytest.mark.parametrize("name", ["compose.gpu.yaml", "compose.jetson.yaml"])
def test_a_gpu_adds_to_the_agent_and_opens_nothing_else(name: str) -> None:
    more = yaml.safe_load((FOLDER / name).read_text())
    assert set(more["services"]) == {"agent"}
    agent = more["services"]["agent"]
    assert set(agent) <= {
        "devices", "runtime", "group_add", "environment", "volumes", "read_only",
    }  # fmt: skip
    assert agent["read_only"] is False  # NVIDIA's hooks write: kserve#5711
    assert all(volume.endswith(":ro") for volume in agent.get("volumes", []))


def test_a_jetson_shows_a_container_what_it_is_recognised_by() -> None:
    """The same files as the overlays of Kubernetes mount, at the same places."""
    agent = yaml.safe_load((FOLDER / "compose.jetson.yaml").read_text())["services"]["agent"]
    mounted = {tuple(volume.split(":")[:2]) for volume in agent["volumes"]}
    assert mounted == {(one.path, one.inside) for one in of("jetson-agx-thor").host_files}


def test_a_profile_may_be_named_and_an_empty_name_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    given = COMPOSE["services"]["agent"]["environment"]["HARDWARE_PROFILE"]
    assert given == "${HARDWARE_PROFILE:-}"
    assert "HARDWARE_PROFILE=" in (FOLDER / "env.example").read_text()
    monkeypatch.setenv("HARDWARE_PROFILE", "no-such-profile")
    assert main(["device", "detect"]) == 2
    assert "no-such-profile" in capsys.readouterr().err
    monkeypatch.setenv("HARDWARE_PROFILE", "")
    main(["device", "detect", "--json"])
    assert "set by the user" not in capsys.readouterr().out
