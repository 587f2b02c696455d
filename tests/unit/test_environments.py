"""Environments made with the real uv from a small wheel of the test's own; no network."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from forge import environments
from forge.environments import (
    Watch,
    ensure,
    environment_path,
    inspect,
    remove,
)
from forge.errors import BundleError, ConfigurationError, StepFailedError
from tests.support.spawn import Spawn

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place uv may look for packages."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("UV_FIND_LINKS", folder.as_uri())  # a list, split at spaces
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return folder


def make_wheel(folder: Path, value: int, more: Mapping[str, str] | None = None) -> str:
    """Package `tiny` with `tiny.VALUE` and a program `tiny`; returns the wheel's sha256."""
    files = {
        "tiny.py": f"VALUE = {value}\ndef main(): print(VALUE)\n".encode(),
        "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": (
            b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
        "tiny-1.0.dist-info/entry_points.txt": b"[console_scripts]\ntiny = tiny:main\n",
    } | {name: text.encode() for name, text in (more or {}).items()}
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()},\n"
        for name, data in files.items()
    )
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("tiny-1.0.dist-info/RECORD", record)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def lock(tmp_path: Path, wheels: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(f"tiny==1.0 --hash=sha256:{make_wheel(wheels, 7)}\n")
    return path


@pytest.fixture
def hostile(tmp_path: Path, wheels: Path) -> Path:
    """The lock of a package whose `.pth` writes the variables to `stolen` when it runs."""
    path, stolen = tmp_path / "hostile.lock", tmp_path / "stolen"
    code = f"import os; open({str(stolen)!r}, 'a').write(str(dict(os.environ)))\n"
    more = {"tiny.pth": code, "sitecustomize.py": code}
    path.write_text(f"tiny==1.0 --hash=sha256:{make_wheel(wheels, 7, more)}\n")
    return path


def output_of(*argv: Path | str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_ensure_makes_an_environment_that_works(lock: Path, tmp_path: Path) -> None:
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert output_of(root / "bin/python", "-c", "import tiny; print(tiny.VALUE)") == "7"
    assert output_of(root / "bin/tiny") == "7"  # its first line survived the rename
    facts = inspect(root)
    assert facts.python == PYTHON
    assert (facts.site_packages / "tiny.py").is_file()
    assert list(facts.site_packages.glob("__pycache__/tiny.*.pyc"))
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [root.name]


def test_ensure_says_what_it_installs_why_and_only_once(
    lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock.with_suffix(".in").write_text("# What compiles tiny things. Change it, then: make locks\n")
    first = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    said = capsys.readouterr().err
    assert "installing environment tools" in said
    assert "What compiles tiny things.\n" in said
    assert ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache") == first
    assert capsys.readouterr().err == ""


def test_environment_path_follows_lock_and_python(lock: Path, tmp_path: Path) -> None:
    def path(python: str = PYTHON) -> Path:
        return environment_path("tools", lock, python=python, cache=tmp_path)

    before = path()
    assert before == path()
    assert before != path("3.9")
    lock.write_text(lock.read_text() + "# other\n")
    assert path() != before


def test_two_processes_make_it_once(spawn: Spawn, lock: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from forge.environments import ensure;"
        "print(ensure('tools', Path(sys.argv[1]), python=sys.argv[2], cache=Path(sys.argv[3])))"
    )
    argv = [sys.executable, "-c", program, str(lock), PYTHON, str(tmp_path / "cache")]
    processes = [
        spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    results = [process.communicate(timeout=120) for process in processes]
    assert len({printed for printed, _ in results}) == 1
    assert sum("installing environment" in said for _, said in results) == 1


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_a_killed_build_is_never_used_and_the_next_one_works(
    lock: Path, tmp_path: Path, calls: int
) -> None:
    """SIGKILL when a program is started for the n-th time: the folder is then half made."""
    program = f"""
import os, subprocess, sys
from pathlib import Path
from forge import environments
run, left = subprocess.Popen, [{calls}]
def killing(*args, **kwargs):
    left[0] -= 1
    return run(*args, **kwargs) if left[0] else os.kill(os.getpid(), 9)
subprocess.Popen = killing
cache = Path({str(tmp_path)!r}) / "cache"
environments.ensure("tools", Path({str(lock)!r}), python={PYTHON!r}, cache=cache)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == -9
    target = environment_path("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert not target.exists()
    assert ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache") == target
    assert output_of(target / "bin/tiny") == "7"
    assert [path.name for path in target.parent.iterdir() if path.is_dir()] == [target.name]


def test_an_environment_whose_python_is_gone_is_made_again(lock: Path, tmp_path: Path) -> None:
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    (root / "bin").chmod(0o755)
    (root / "bin/python").unlink()
    (root / "bin/python").symlink_to("/nowhere/python")
    ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert output_of(root / "bin/tiny") == "7"


def test_ensure_refuses_a_package_with_another_hash(
    lock: Path, wheels: Path, tmp_path: Path
) -> None:
    make_wheel(wheels, 8)
    with pytest.raises(
        ConfigurationError, match="does not have the hash in its lock file"
    ) as caught:
        ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert caught.value.exit_code == 3
    assert "tiny" in caught.value.why
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_ensure_refuses_a_package_without_a_hash(lock: Path, tmp_path: Path) -> None:
    lock.write_text("tiny==1.0\n")
    with pytest.raises(ConfigurationError, match="hash"):
        ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")


def test_ensure_says_which_package_is_not_to_be_had(lock: Path, tmp_path: Path) -> None:
    lock.write_text(f"nowhere-to-be-found==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises((ConfigurationError, StepFailedError)) as caught:
        ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert "nowhere-to-be-found" in caught.value.why


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: Path) -> Path:
    """Wheels in a bundle, on a machine whose index and find-links have nothing."""
    folder = tmp_path / "a bundle" / "wheels"
    folder.parent.mkdir()
    wheels.rename(folder)
    monkeypatch.delenv("UV_FIND_LINKS")
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")  # nothing listens
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    return folder


def test_an_environment_of_bundled_wheels_asks_no_index_and_leaves_no_cache(
    lock: Path, bundled: Path, tmp_path: Path
) -> None:
    with pytest.raises(StepFailedError, match="could not be made"):
        ensure("tools", lock, python=PYTHON, cache=tmp_path / "none")
    shutil.rmtree(tmp_path / "uv-cache", ignore_errors=True)
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache", wheels=bundled)
    assert output_of(root / "bin" / "tiny") == "7"
    assert not (tmp_path / "uv-cache" / "archive-v0").exists()
    assert {path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()} == {root.name}
    (module,) = root.glob("lib/python*/site-packages/tiny.py")
    assert module.stat().st_nlink == 1  # it shares no file


def test_an_environment_is_the_same_of_an_index_and_of_a_bundle(
    lock: Path, wheels: Path, tmp_path: Path
) -> None:
    roots = [
        ensure("tools", lock, python=PYTHON, cache=tmp_path / name, wheels=given)
        for name, given in (("downloaded", None), ("bundled", wheels))
    ]
    assert roots[0].name == roots[1].name
    content = [
        {
            path.relative_to(root): (path.stat().st_mode, path.read_bytes())
            for path in root.rglob("*")
            if path.is_file() and path.suffix not in {".pyc", ".sealed"} and path.name != ".sealed"
        }
        for root in roots
    ]
    assert content[0] == content[1]
    assert len(content[0]) > 5


@pytest.mark.parametrize("fault", ["missing", "other bytes"])
def test_a_bundle_without_the_packages_of_its_lock_is_at_fault(
    lock: Path, bundled: Path, tmp_path: Path, fault: str
) -> None:
    (wheel,) = bundled.iterdir()
    if fault == "missing":
        wheel.unlink()
    else:
        make_wheel(bundled, 8)
    with pytest.raises(BundleError) as caught:
        ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache", wheels=bundled)
    assert "does not have the packages of environment 'tools'" in caught.value.what
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_wheel_that_the_disk_damaged_is_not_the_fault_of_the_bundle(
    lock: Path, bundled: Path, tmp_path: Path
) -> None:
    (wheel,) = bundled.iterdir()
    wheel.write_bytes(wheel.read_bytes()[:-20])
    with pytest.raises(StepFailedError) as caught:
        ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache", wheels=bundled)
    assert "forge device verify" in caught.value.hint


def test_a_python_that_is_missing_is_not_the_fault_of_the_bundle(
    lock: Path, bundled: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="could not be made"):
        ensure("tools", lock, python="3.4", cache=tmp_path / "cache", wheels=bundled)


@pytest.mark.parametrize("missing", ["3.4", "3.99"])
def test_ensure_says_that_a_python_version_is_missing(
    lock: Path, tmp_path: Path, missing: str
) -> None:
    with pytest.raises(ConfigurationError, match="could not be made") as caught:
        ensure("tools", lock, python=missing, cache=tmp_path / "cache")
    assert missing in caught.value.why


def test_ensure_says_that_the_lock_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="lock file of environment 'tools'") as caught:
        ensure("tools", tmp_path / "none.lock", python=PYTHON, cache=tmp_path / "cache")
    assert "dockerfiles/tools/requirements.lock" in caught.value.hint


@pytest.mark.parametrize("name", ["../up", "", "A", "a/b"])
def test_ensure_refuses_a_name_that_is_none(lock: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a valid environment name"):
        ensure(name, lock, python=PYTHON, cache=tmp_path / "cache")


def test_ensure_says_that_the_cache_cannot_be_written(lock: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StepFailedError, match="cannot be written") as caught:
        ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert caught.value.exit_code == 5


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mode, path.read_bytes()) for path in files(folder)}


def installed(root: Path) -> Path:
    (found,) = root.glob("lib/python*/site-packages/tiny.py")
    return found


def test_a_changed_file_of_one_environment_changes_no_other_and_not_the_cache(
    lock: Path, tmp_path: Path
) -> None:
    """Seen: Triton set the mode of a file that nine environments and uv's cache shared."""
    one = ensure("tools", lock, python=PYTHON, cache=tmp_path / "one")
    other = ensure("tools", lock, python=PYTHON, cache=tmp_path / "other")
    before = contents(other) | contents(tmp_path / "uv-cache")
    assert any("tiny.py" in name and "uv-cache" in name for name in before)
    for path in files(one):
        path.chmod(0o644)
        path.write_bytes(b"changed")
        path.chmod(0o100)
    assert contents(other) | contents(tmp_path / "uv-cache") == before
    assert {path.stat().st_nlink for path in files(other)} == {1}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_an_environment_is_read_only_and_every_user_can_run_it(
    lock: Path, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in [root, *root.rglob("*")]
             if not path.is_symlink()}  # fmt: skip
    assert {modes[path] for path in modes if path.is_dir()} == {0o555}
    assert {modes[path] for path in modes if path.is_file()} == {0o444, 0o555}
    assert modes[root / "bin/tiny"] == 0o555


@pytest.mark.parametrize("mode", [0o100, 0o644, 0o000])
def test_a_damaged_mode_is_found_said_and_mended_without_a_package(
    lock: Path, wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    shutil.rmtree(wheels)
    shutil.rmtree(tmp_path / "uv-cache")
    (root / "bin/tiny").chmod(mode)
    capsys.readouterr()
    assert ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache") == root
    assert (root / "bin/tiny").stat().st_mode & 0o777 == 0o555
    assert f"mode of {root.name}/bin/tiny was changed" in capsys.readouterr().err
    assert output_of(root / "bin/tiny") == "7"


def overwrite(file: Path) -> None:
    file.chmod(0o644)
    file.write_text("VALUE = 8\n")


def add(file: Path) -> None:
    file.parent.chmod(0o755)
    (file.parent / "numpy.py").touch()


def drop(file: Path) -> None:
    file.parent.chmod(0o755)
    file.unlink()


def cut_the_listing(file: Path) -> None:
    listing = file.parents[3] / ".sealed"
    listing.chmod(0o644)
    os.truncate(listing, 500)


CHANGES = {
    overwrite: "size of lib/python",
    add: "numpy.py was added",
    drop: "tiny.py is missing",
    cut_the_listing: "its listing cannot be used",
}


@pytest.mark.parametrize(("change", "why"), CHANGES.items())
def test_a_changed_environment_is_made_again_and_it_is_said_why(
    lock: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    why: str,
) -> None:
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    change(installed(root))
    assert ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache") == root
    said = capsys.readouterr().err
    assert "environment tools is made again: " in said
    assert why in said
    assert output_of(root / "bin/tiny") == "7"
    assert not list(root.rglob("numpy.py"))
    assert [path.name for path in root.parent.iterdir() if path.is_dir()] == [root.name]


def test_a_changed_environment_that_cannot_be_made_again_is_kept(
    lock: Path, wheels: Path, tmp_path: Path
) -> None:
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    overwrite(installed(root))
    shutil.rmtree(wheels)
    shutil.rmtree(tmp_path / "uv-cache")
    with pytest.raises((ConfigurationError, StepFailedError)):
        ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert root.is_dir()


def test_what_python_caches_as_root_is_no_change(
    lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    folder = installed(root).parent / "__pycache__"
    folder.chmod(0o755)
    (folder / "tiny.cpython-399.pyc").touch()
    folder.chmod(0o555)
    capsys.readouterr()
    ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert capsys.readouterr().err == ""


def test_an_environment_can_be_removed(lock: Path, tmp_path: Path) -> None:
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    remove(root)
    assert not root.exists()


def test_inspect_refuses_a_folder_that_is_no_environment(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a working Python"):
        inspect(tmp_path)


def test_inspect_runs_no_code_of_a_package(hostile: Path, tmp_path: Path) -> None:
    root = ensure("tools", hostile, python=PYTHON, cache=tmp_path / "cache")
    found = inspect(root)
    assert not (tmp_path / "stolen").exists()
    program = "import sys, sysconfig as s; print(s.get_python_version(), s.get_path('purelib'))"
    assert output_of(root / "bin/python", "-c", program) == f"{found.python} {found.site_packages}"
    assert (tmp_path / "stolen").exists()  # it does run when the environment's Python is started


@pytest.mark.parametrize("setting", ["variable", "file"])
@pytest.mark.parametrize("bundled", [False, True])
def test_an_installation_runs_no_code_of_a_package(
    hostile: Path,
    wheels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bundled: bool,  # noqa: FBT001
    setting: str,
) -> None:
    """Also where uv is set to compile, which starts the environment's own Python."""
    if setting == "variable":
        monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    else:
        (tmp_path / "uv").mkdir()
        (tmp_path / "uv" / "uv.toml").write_text("[pip]\ncompile-bytecode = true\n")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    given = wheels if bundled else None
    root = ensure("tools", hostile, python=PYTHON, cache=tmp_path / "cache", wheels=given)
    assert not (tmp_path / "stolen").exists()
    assert list(installed(root).parent.glob("__pycache__/tiny.*.pyc"))


def test_uv_gets_what_it_needs_and_no_secret(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("FORGE_PASSPHRASE", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "LD_PRELOAD_X")
    needed = ("HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "UV_INDEX_COMPANY_PASSWORD", "LC_ALL")
    real = environments._find_uv()
    for name in (*secrets, *needed):
        monkeypatch.setenv(name, "C" if name == "LC_ALL" else "/dev/null")
    program = tmp_path / "uv"
    program.write_text(f'#!/bin/sh\nenv >> {tmp_path}/seen\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(environments, "_find_uv", lambda: str(program))
    ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    seen = {line.partition("=")[0] for line in (tmp_path / "seen").read_text().splitlines()}
    assert seen & set(secrets) == set()
    assert seen >= {*needed, "PATH", "UV_FIND_LINKS"}


@pytest.mark.parametrize("epoch", [None, "1"])
def test_bytecode_is_checked_as_if_uv_had_compiled_it(
    lock: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: str | None
) -> None:
    if epoch:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    by_uv = tmp_path / "by uv"
    uv = environments._find_uv()
    subprocess.run([uv, "venv", "--python", sys.executable, by_uv], check=True)
    options = ("--compile-bytecode", "--python", by_uv / "bin/python")
    subprocess.run([uv, "pip", "install", *options, *wheels.iterdir()], check=True)
    heads = []
    for one in (root, by_uv):
        (found,) = one.glob("lib/python*/site-packages/__pycache__/tiny.*.pyc")
        heads.append(found.read_bytes()[:8])  # version of Python, and how it is checked (PEP 552)
    assert heads[0] == heads[1]


def test_a_file_that_does_not_compile_is_no_failure(wheels: Path, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    digest = make_wheel(wheels, 7, {"old.py": "print 'Python 2'\n", "bytes.py": "\x00"})
    lock.write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert list(installed(root).parent.glob("__pycache__/tiny.*.pyc"))
    assert not list(installed(root).parent.glob("__pycache__/old.*.pyc"))


def test_inspect_does_not_run_a_program_that_lies_where_the_python_is(
    lock: Path, tmp_path: Path
) -> None:
    root = ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    (root / "bin").chmod(0o755)
    (root / "bin/python").unlink()
    (root / "bin/python").write_text(f"#!/bin/sh\necho > {tmp_path}/stolen\n")
    (root / "bin/python").chmod(0o755)
    with pytest.raises(ConfigurationError, match="not a working Python"):
        inspect(root)
    assert not (tmp_path / "stolen").exists()


def test_ensure_leaves_no_descriptor_open(lock: Path, tmp_path: Path) -> None:
    ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    before = len(list(Path("/proc/self/fd").iterdir()))
    ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_ensure_can_be_ended_and_leaves_nothing_then(lock: Path, tmp_path: Path) -> None:
    class Ended(Exception):  # noqa: N818  what a caller raises
        pass

    def end() -> None:
        raise Ended

    with pytest.raises(Ended):
        ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache", watch=Watch(check=end))
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert ensure("tools", lock, python=PYTHON, cache=tmp_path / "cache").is_dir()
