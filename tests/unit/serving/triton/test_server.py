import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import forge.serving.triton.server as server_module
from forge.environments import Installed
from forge.errors import ConfigurationError, LoadFailedError, NoRunnerError, StepFailedError
from forge.serving.repository.render import make_spec
from forge.serving.repository.spec import EngineFacts
from forge.serving.triton import containment
from forge.serving.triton.server import (
    Ports,
    TritonServer,
    _environment,
    _link_backends,
    command_line,
    last_reasons,
    started,
)
from tests.support.ordinary_user import as_ordinary_user, nested
from tests.support.serving import render_settings

INSTALLED = Installed(Path("/e"), "3.11", Path("/e/site-packages"), Path("/lib"))
LOG = """
I1124 04:18:00.1 12 pinned_memory_manager.cc:275] "Pinned memory pool is created"
E1124 04:18:03.2 12 x.cc:654] "failed to load 'llm': RuntimeError: oh\\n\\nAt: m.py(80)\\n"
E1124 04:18:03.2 12 x.cc:654] "failed to load 'llm': RuntimeError: oh\\n\\nAt: m.py(80)\\n"
I1124 04:18:03.3 12 server.cc:674]
+-------+---------+
| Model | Version |
error: creating server: Internal - failed to load all models
"""


def test_last_reasons_shows_once_why_a_model_did_not_load() -> None:
    assert last_reasons(LOG).splitlines() == [
        "failed to load 'llm': RuntimeError: oh",
        "At: m.py(80)",
    ]


def test_last_reasons_leaves_out_what_every_machine_without_gpu_says() -> None:
    usual = 'E1124 05:19:52.6 1 server.cc:241] "CudaDriverHelper has not been initialized."'
    log = f'{usual}\nError: Failed to initialize NVML\nE1124 05:19:52.6 1 x.cc:1] "disk full"\n'
    assert last_reasons(log) == "disk full"


def test_last_reasons_shows_the_last_lines_when_none_is_an_error() -> None:
    assert last_reasons("one\n\ntwo\n") == "one\ntwo"
    assert last_reasons("") == "it logged nothing"


def test_command_line_binds_loopback_only_and_restricts_changes() -> None:
    argv = command_line(INSTALLED, Ports(1, 2), "forge-x")
    assert argv[0] == "/e/site-packages/pytriton/tritonserver/bin/tritonserver"
    assert {"--http-address=127.0.0.1", "--metrics-address=127.0.0.1"} <= set(argv)
    assert {"--allow-grpc=false", "--model-control-mode=none", "--exit-on-error=true"} <= set(argv)
    restricted = next(word for word in argv if word.startswith("--http-restricted-api="))
    assert "model-repository" in restricted


def test_start_refuses_a_container(tmp_path: Path) -> None:
    image = "registry.example/triton@sha256:" + "0" * 64
    engine = EngineFacts(builder="openvino", runtime={})
    spec = make_spec(render_settings(serving__server="container", serving__image=image), engine)
    with pytest.raises(NoRunnerError, match="container") as caught:
        TritonServer.start(tmp_path, spec, INSTALLED, work=tmp_path / "work")
    assert caught.value.exit_code == 4


def test_start_refuses_an_environment_without_triton(tmp_path: Path) -> None:
    engine = EngineFacts(builder="openvino", runtime={})
    spec = make_spec(render_settings(), engine)
    with pytest.raises(ConfigurationError, match="no Triton backend for Python"):
        TritonServer.start(tmp_path, spec, INSTALLED, work=tmp_path / "work")


def test_command_line_takes_the_triton_of_the_image_where_it_is_told_one() -> None:
    installed = replace(INSTALLED, triton=Path("/opt/tritonserver"))
    argv = command_line(installed, Ports(1, 2), "forge-x")
    assert argv[0] == "/opt/tritonserver/bin/tritonserver"


def test_backend_of_an_image_brings_its_own_stub(tmp_path: Path) -> None:
    triton = tmp_path / "opt"
    for name in ("libtriton_python.so", "triton_python_backend_stub"):
        (triton / "backends" / "python").mkdir(parents=True, exist_ok=True)
        (triton / "backends" / "python" / name).write_bytes(b"of the image")
    installed = replace(INSTALLED, triton=triton)
    links = _link_backends(installed, tmp_path / "work") / "python"
    assert {path.name for path in links.iterdir()} == {
        "libtriton_python.so",
        "triton_python_backend_stub",
    }
    assert (links / "triton_python_backend_stub").read_bytes() == b"of the image"


def test_right_backend_links_stay_and_wrong_ones_are_made_again(tmp_path: Path) -> None:
    triton = tmp_path / "pytriton" / "tritonserver"
    for path in ("backends/python/libtriton_python.so", "backends/python/utils.py",
                 "python_backend_stubs/3.11/triton_python_backend_stub"):  # fmt: skip
        (triton / path).parent.mkdir(parents=True, exist_ok=True)
        (triton / path).write_bytes(b"x")
    installed = Installed(tmp_path, "3.11", tmp_path, tmp_path)
    links = _link_backends(installed, tmp_path / "work") / "python"
    kept = (links / "libtriton_python.so").lstat().st_mtime_ns
    (links / "utils.py").unlink()
    (links / "utils.py").symlink_to(tmp_path / "elsewhere")
    _link_backends(installed, tmp_path / "work")
    assert (links / "libtriton_python.so").lstat().st_mtime_ns == kept
    assert (links / "utils.py").read_bytes() == b"x"
    assert (links / "triton_python_backend_stub").is_file()


@pytest.fixture
def fake_triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an image's Triton and a tree; what is started is only noted.

    Not below `tmp_path`, whose folders above are for one user only.
    """
    folder = Path(tempfile.mkdtemp(prefix="forge-test-", dir="/tmp"))
    for path in ("triton/backends/python/utils.py", "tree/models/m/1/model.py",
                 "triton/backends/python/triton_python_backend_stub"):  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")
    folder.chmod(0o755)
    monkeypatch.setenv(containment.OFF, "all")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: None)
    yield folder
    monkeypatch.undo()
    subprocess.run(["rm", "-rf", str(folder)], check=True)  # however deep


@pytest.mark.parametrize(
    "closed",
    ["work", "work/triton.log", "work/backends", "work/backends/python", "work/models/m",
     "work/home", "work/tmp", "all", "deep"],
)  # fmt: skip
def test_what_a_bundle_did_to_the_modes_of_its_folders_ends_with_the_next_start(
    fake_triton: Path, closed: str
) -> None:
    spec = make_spec(render_settings(), EngineFacts(builder="openvino", runtime={}))
    spec = spec.model_copy(update={"repository": "models"})

    def start() -> None:
        installed = replace(INSTALLED, triton=fake_triton / "triton")
        TritonServer.start(fake_triton / "tree", spec, installed, work=fake_triton / "work")

    def work(_: Path) -> None:
        folder = fake_triton / "work"
        every = [*sorted(folder.rglob("*"), reverse=True), folder]
        if closed == "deep":
            nested(folder / "home" / "a", 1500, 0o000)
        for path in every if closed == "all" else [fake_triton / closed]:
            if path.exists() and not path.is_symlink():
                path.chmod(0o000)
        start()
        for name in ("home", "tmp"):
            assert list((folder / name).iterdir()) == []
        assert (folder / "models/m/1/model.py").read_bytes() == b"x"

    start()
    as_ordinary_user(fake_triton, work)


@pytest.mark.parametrize("damage", ["mode", "bytes", "link"])
def test_what_triton_does_to_its_stub_reaches_no_environment_and_no_next_start(
    tmp_path: Path, damage: str
) -> None:
    """Triton sets the mode 0100 where the stub's first run did not end with 1."""
    triton = tmp_path / "pytriton" / "tritonserver"
    stub = triton / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    for path in (triton / "backends" / "python" / "utils.py", stub):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    stub.chmod(0o555)
    installed = Installed(tmp_path, "3.11", tmp_path, tmp_path)
    used = _link_backends(installed, tmp_path / "work") / "python" / stub.name
    if damage == "mode":
        used.chmod(0o100)
    elif damage == "bytes":
        used.write_bytes(b"y")
    else:  # as an earlier Forge left it
        used.unlink()
        used.symlink_to(stub)
    assert (stub.stat().st_mode & 0o777, stub.read_bytes()) == (0o555, b"x")
    _link_backends(installed, tmp_path / "work")
    assert not used.is_symlink()
    assert (used.stat().st_mode & 0o777, used.read_bytes()) == (0o755, b"x")


def test_python_inside_triton_finds_its_own_packages_though_a_virtual_environment_is_active(
    tmp_path: Path,
) -> None:
    """Seen: with another numpy first on PATH the stub read garbage and ended."""
    installed = Installed(tmp_path / "tools", "3.11", tmp_path / "site", tmp_path / "lib")
    made = _environment(installed, {"PATH": "/somebody/.venv/bin:/usr/bin"})
    assert made["PATH"] == f"{tmp_path}/tools/bin:/somebody/.venv/bin:/usr/bin"


def test_a_server_that_cannot_be_looked_at_is_not_called_dead(tmp_path: Path) -> None:
    spec = make_spec(render_settings(), EngineFacts(builder="openvino", runtime={}))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            server = TritonServer(process, spec, Ports(1, 2), tmp_path / "log")
            server._was_ready = True
            assert not server.alive  # no model's process is there
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            assert server.alive
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            process.kill()


def test_a_server_that_cannot_be_asked_is_nobody_s_fault_and_no_model_that_does_not_load(
    tmp_path: Path,
) -> None:
    spec = make_spec(render_settings(), EngineFacts(builder="openvino", runtime={}))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            server = TritonServer(process, spec, Ports(1, 2), tmp_path / "log")
            with pytest.raises(LoadFailedError):
                server.wait_ready(0.1)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            with pytest.raises(StepFailedError, match="Cannot determine") as caught:
                server.wait_ready(0.1)
            assert not isinstance(caught.value, LoadFailedError)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            process.kill()


def test_a_model_process_that_ends_while_it_loads_is_noticed_before_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_STUB_FAILED_S", 0.3)
    spec = make_spec(render_settings(), EngineFacts(builder="openvino", runtime={}))
    # The supervisor, Triton, and the process of a model that is killed.
    script = "sleep 60 & sleep 60 & sleep 0.5; kill -9 $!; wait"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as process:
        try:
            server = TritonServer(process, spec, Ports(1, 2), tmp_path / "log")
            with pytest.raises(LoadFailedError, match="'llm' ended while it loaded"):
                server.wait_ready(50)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_server_that_lost_the_lock_it_shares_with_its_model_is_started_again(
    tmp_path: Path,
) -> None:
    """Text and exit code as seen; its model's process was stopped for 3 s while it loaded."""
    lost = (
        "terminate called after throwing an instance of 'boost::interprocess::lock_exception'\\n"
        "  what():  boost::interprocess::lock_exception\\n"
    )
    spec = make_spec(render_settings(), EngineFacts(builder="openvino", runtime={}))
    codes = [("printf", lost, 134), ("true", "", 0)]

    def start() -> TritonServer:
        program, text, code = codes.pop(0)
        log = tmp_path / f"log-{len(codes)}"
        script = f'{program} "{text}" > {log}; exit {code}'
        process = subprocess.Popen(["sh", "-c", script])
        process.wait(30)
        return TritonServer(process, spec, Ports(1, 2), log)

    with pytest.raises(LoadFailedError, match="exited with code 0"):
        started(start, 50)
    assert codes == []


@pytest.mark.parametrize(
    ("counts", "gone"),
    [
        ([1] * 100, False),  # it has not started yet
        ([2] * 100, False),
        ([2, *[1] * 20, *[2] * 100], False),  # the next process of the model
        ([2, *[1] * 100], True),
        ([2, *[None] * 100], False),
    ],
)
def test_a_pause_between_two_processes_of_a_model_is_not_its_end(
    counts: list[int | None], gone: object
) -> None:
    watch = server_module._ModelProcess(2)
    found = [watch.is_gone(count, second / 5) for second, count in enumerate(counts)]
    assert any(found) is gone
