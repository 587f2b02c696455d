"""What LimitedConnection relies on in uvicorn, which promises none of it."""

from __future__ import annotations

import inspect

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from forge.device.gateway.connection_limits import LimitedConnection

OVERRIDDEN = {
    "__init__": ["self", "config", "server_state", "app_state", "_loop"],
    "connection_made": ["self", "transport"],
    "connection_lost": ["self", "exc"],
    "data_received": ["self", "data"],
    "send_400_response": ["self", "msg"],
    "on_message_begin": ["self"],
    "on_headers_complete": ["self"],
    "timeout_keep_alive_handler": ["self"],
    "pause_writing": ["self"],
    "resume_writing": ["self"],
}
CALLED = {"_unset_keepalive_if_required": ["self"]}
ATTRIBUTES = (
    "app_state", "connections", "cycle", "flow", "loop", "pipeline", "scope", "transport",
)  # fmt: skip


def test_every_overridden_method_is_listed_here() -> None:
    own = {name for name, one in vars(LimitedConnection).items() if inspect.isfunction(one)}
    assert own & set(dir(HttpToolsProtocol)) == set(OVERRIDDEN)


@pytest.mark.parametrize(("name", "parameters"), [*OVERRIDDEN.items(), *CALLED.items()])
def test_uvicorn_still_has_the_method_with_these_parameters(
    name: str, parameters: list[str]
) -> None:
    assert list(inspect.signature(vars(HttpToolsProtocol)[name]).parameters) == parameters


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_uvicorn_still_sets_the_attribute(name: str) -> None:
    source = inspect.getsource(HttpToolsProtocol)
    assert f"self.{name} = " in source or f"self.{name}: " in source


def test_response_of_a_cycle_is_complete_by_its_own_flag() -> None:
    from uvicorn.protocols.http import httptools_impl

    assert "self.response_complete = " in inspect.getsource(httptools_impl.RequestResponseCycle)


def test_writing_is_paused_and_resumed_through_the_protocol() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    assert "self.flow.pause_writing()" in source
    assert "self.flow.resume_writing()" in source
    assert {"pause_writing", "resume_writing", "drain"} <= set(dir(FlowControl))


def test_reading_pauses_while_requests_wait_behind_another() -> None:
    source = inspect.getsource(HttpToolsProtocol.on_headers_complete)
    assert "self.flow.pause_reading()" in source
    assert "self.pipeline.append" in source
    assert "self.read_paused = " in inspect.getsource(FlowControl)


def test_handler_of_the_idle_timer_is_the_overridden_one() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    assert "self.timeout_keep_alive_handler" in source
