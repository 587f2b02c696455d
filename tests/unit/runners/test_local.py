"""The local runner: the command, its environment and how it ends."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from forge.errors import ForgeError
from forge.runners.base import Cancelled, Job
from forge.runners.local import LocalRunner, host_platform, write_documents
from forge.runners.view import PlainView
from forge.serving.triton.containment import available
from forge.steps import Environment, Link, SourceFile, Step

INPUT = Step("checkpoint", ("true",), outputs=("checkpoint",))["checkpoint"]
LINK = Link("checkpoint", "0" * 64, {}, {"checkpoint": "1" * 64}, 1.0, "2026-11-24T04:00:00Z", "x")


@dataclasses.dataclass
class Place:
    """A folder for one job and what its view printed."""

    folder: Path
    out: io.StringIO = dataclasses.field(default_factory=io.StringIO)
    cancelled: threading.Event = dataclasses.field(default_factory=threading.Event)

    def job(self, step: Step) -> Job:
        outputs = {name: self.folder / "outputs" / name for name in step.outputs}
        for output in outputs.values():
            output.mkdir(parents=True, exist_ok=True)
        return Job(
            step=step,
            folder=self.folder,
            inputs={"checkpoint": Path("/trees/a")} if step.inputs else {},
            outputs=outputs,
            digests={"checkpoint": "1" * 64},
            chain=(LINK,),
            store_url="/the/store",
            keys=Path("/the/keys"),
            view=PlainView(self.out, verbose=True),
            cancelled=self.cancelled,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def runner(**environment: str) -> LocalRunner:
    return LocalRunner(Path("/none"), {"PATH": "/usr/bin:/bin"} | environment)


def script(text: str, **more: Any) -> Step:
    return Step(**({"id": "a", "argv": ("sh", "-ceu", text)} | more))


@pytest.mark.parametrize(
    ("machine", "platform"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("arm64", "linux/arm64"),
     ("riscv64", "linux/riscv64")],
)  # fmt: skip
def test_platform_is_named_as_containers_name_it(machine: str, platform: str) -> None:
    assert host_platform(machine) == platform


def test_runner_offers_its_machine_and_the_labels_it_was_given() -> None:
    found = LocalRunner(Path("/none"), {}, labels=frozenset({"gpu-sm120"}))
    assert found.name == found.carrier(script("true")) == f"local {host_platform()}"
    assert found.platforms == {host_platform()}
    assert found.labels == {"gpu-sm120"}
    assert not found.containers
    assert not found.runs_in("any/image:1")


def test_placeholders_become_paths(place: Place) -> None:
    step = Step(
        id="a",
        argv=(
            *(
                "printf",
                "%s\\n",
                "${inputs.checkpoint}",
                "${outputs.out}",
                "${source.tool}",
                "${lock.x}",
            ),
            *("${store}", "${keys}", "${python}", "--s=${settings}", "${digests}", "${chain}"),
        ),
        inputs={"checkpoint": INPUT},
        outputs=("out",),
        locks=(Environment("x", Path("/p/x/requirements.lock"), "0", "3.11"),),
        sources=(SourceFile("tool", Path("/p/tool.py"), "0"),),
    )
    execution = runner().execute(place.job(step))
    folder = place.folder
    assert execution.exit_code == 0
    assert execution.log.read_text().splitlines() == [
        *("/trees/a", f"{folder}/outputs/out", "/p/tool.py", "/p/x/requirements.lock"),
        *("/the/store", "/the/keys", sys.executable, f"--s={folder}/settings.json"),
        *(f"{folder}/digests.json", f"{folder}/chain.json"),
    ]


def test_documents_are_json_of_the_job(place: Place) -> None:
    job = place.job(script("true", settings={"b": 1, "a": [1.5]}))
    paths = write_documents(job, place.folder)
    read = {name: json.loads(path.read_bytes()) for name, path in paths.items()}
    assert read == {
        "settings": {"b": 1, "a": [1.5]},
        "digests": {"checkpoint": "1" * 64},
        "chain": [dataclasses.asdict(LINK)],
    }
    assert paths["settings"].read_text() == '{"a":[1.5],"b":1}'


def test_command_sees_its_own_variables_secrets_and_networks_and_nothing_else(
    place: Place,
) -> None:
    step = script("env", env={"OWN": "1", "LANG": "C"}, secrets=("HF_TOKEN", "ABSENT"))
    execution = runner(
        HF_TOKEN="secret", OTHER="hidden", LANG="de", http_proxy="http://p", UV_OFFLINE="1",
        AWS_SECRET_ACCESS_KEY="hidden", PYTHONPATH="hidden",
    ).execute(place.job(step))  # fmt: skip
    seen = dict(line.split("=", 1) for line in execution.log.read_text().splitlines())
    for name in ("PWD", "_", "SHLVL", "OLDPWD", "LC_CTYPE"):  # of the shell and of Python
        seen.pop(name, None)
    assert seen == {
        "PATH": "/usr/bin:/bin", "OWN": "1", "LANG": "C", "HF_TOKEN": "secret",
        "http_proxy": "http://p", "UV_OFFLINE": "1", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code_of_the_command_is_reported(place: Place, code: int) -> None:
    assert runner().execute(place.job(script(f"exit {code}"))).exit_code == code


def test_both_streams_are_in_the_log_and_in_the_view(place: Place) -> None:
    step = script("echo one; echo two >&2; echo 'forge warning: three'; printf four")
    execution = runner().execute(place.job(step))
    assert execution.log.read_text() == "one\ntwo\nforge warning: three\nfour"
    lines = place.out.getvalue().splitlines()
    for expected in ("  a | one", "  a | two", "  a: three", "  a | four"):
        assert expected in lines


def test_script_repeats_the_command_and_holds_no_secret(place: Place) -> None:
    step = script(
        'echo "$OWN $HF_TOKEN $1" > "$2"/f',
        argv=("sh", "-ceu", 'echo "$OWN $HF_TOKEN $1" > "$2"/f', "x", "it's", "${outputs.out}"),
        outputs=("out",), env={"OWN": "a b"}, secrets=("HF_TOKEN",),
    )  # fmt: skip
    given = runner(HF_TOKEN="hf_secret", HTTPS_PROXY="http://user:password@p")
    given.execute(place.job(step))
    written = place.folder / "outputs/out/f"
    assert written.read_text() == "a b hf_secret it's\n"
    written.unlink()
    again = place.folder / "reproduce.sh"
    assert again.stat().st_mode & 0o777 == 0o700
    for secret in ("hf_secret", "password"):
        assert secret not in again.read_text()
    refused = subprocess.run([again], env={}, capture_output=True, text=True, check=False)
    assert "HF_TOKEN" in refused.stderr
    assert not written.exists()
    subprocess.run([again], env={"HF_TOKEN": "other"}, check=True)
    assert written.read_text() == "a b other it's\n"


def test_cancelled_command_is_ended(place: Place) -> None:
    place.cancelled.set()
    with pytest.raises(Cancelled):
        runner().execute(place.job(script("exec sleep 600")))


def test_command_that_cannot_be_started_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("no processes left")

    monkeypatch.setattr(subprocess, "Popen", fails)
    with pytest.raises(ForgeError, match="Step a could not be started") as caught:
        runner().execute(place.job(script("true")))
    assert caught.value.why == "no processes left"
    assert "reproduce.sh" in caught.value.hint


def test_program_that_is_missing_fails_the_step(place: Place) -> None:
    assert shutil.which("forge-no-such-program") is None
    execution = runner().execute(place.job(Step("a", ("forge-no-such-program",))))
    assert execution.exit_code != 0
    assert "forge-no-such-program" in execution.log.read_text()


SECRETS = {
    "passphrase": {"FORGE_PASSPHRASE_FILE": "{}"},
    "passphrases": {"FORGE_KEY_PASSPHRASE_FILES": "root-1={}:root-2={}2"},
    "builder": {"FORGE_BUILDER_KEY": "{}", "FORGE_BUILDER_PASSPHRASE_FILE": "{}2"},
    "builder as a URI": {"FORGE_BUILDER_KEY": "file:{}"},
    "home": {"FORGE_BUILDER_KEY": "~/secret", "FORGE_PASSPHRASE_FILE": "~/secret2"},
    "kms": {"FORGE_BUILDER_KEY": "awskms:alias/x", "FORGE_PASSPHRASE_FILE": "{}"},
}


@pytest.mark.parametrize("given", SECRETS)
def test_a_step_reads_neither_keys_nor_passphrase_nor_the_runners_environment(
    tmp_path: Path, place: Place, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = available()
    if not allowed.has("files"):
        pytest.skip(f"files: {allowed.missing['files']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    keys, secret = tmp_path / "keys", tmp_path / "secret"
    keys.mkdir()
    (keys / "root.pem").write_text("secret")
    tried = [str(keys / "root.pem"), str(secret), f"/proc/{os.getpid()}/environ"]
    secret.write_text("secret")
    if "2" in "".join(SECRETS[given].values()):
        (tmp_path / "secret2").write_text("secret")
        tried.append(str(tmp_path / "secret2"))
    place.folder = tmp_path / "work" / "job"
    place.folder.mkdir(parents=True)
    program = (
        "import os, sys, tempfile\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        print(len(open(path, 'rb').read()), path)\n"
        "    except OSError as error:\n        print(type(error).__name__)\n"
        "tempfile.NamedTemporaryFile().close()\n"
        "open('made', 'w').close()\n"
        "os.rmdir(tempfile.mkdtemp(dir='/tmp'))\n"  # as Triton does; the keys are below
        "print('works', os.listdir(os.path.dirname(sys.argv[1])) != [])\n"
    )
    step = Step("compile", ("${python}", "-c", program, *tried))
    job = dataclasses.replace(place.job(step), keys=keys)
    variables = {name: value.format(*[secret] * 2) for name, value in SECRETS[given].items()}
    done = runner(**variables).execute(job)
    assert done.exit_code == 0, done.log.read_text()
    denied = ["PermissionError"] * len(tried)
    assert done.log.read_text().splitlines() == [*denied, "works True"]


def test_a_step_that_signs_reads_the_keys(tmp_path: Path, place: Place) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "root.pem").write_text("secret")
    step = Step("sign", ("cat", "${keys}/root.pem"))
    done = runner().execute(dataclasses.replace(place.job(step), keys=keys))
    assert done.log.read_text() == "secret"
