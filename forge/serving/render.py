"""Render a Triton model repository from an engine and a profile's settings: pure but for files."""

from __future__ import annotations

import os
import re
import shutil
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from forge.errors import ConfigurationError
from forge.files import link_or_copy
from forge.serving.spec import (
    ENGINE_FILE,
    LOCK_PATH,
    MODELS_FOLDER,
    EngineFacts,
    RenderSettings,
    Spec,
    read_document,
    write_spec,
)

__all__ = ["config_pbtxt", "make_spec", "render", "templates"]

_SHARED: Final = "shared"  # what every template's model.py imports
_IMAGE = re.compile(r"[\w./:-]+@sha256:[0-9a-f]{64}")


def templates() -> list[str]:
    """Builders whose engines can be served: each folder of templates/ with a model.py is one."""
    folders = (resources.files("forge.serving") / "templates").iterdir()
    return sorted(folder.name for folder in folders if (folder / "model.py").is_file())


def make_spec(settings: RenderSettings, engine: EngineFacts) -> Spec:
    """What `serving.json` says. Raises ConfigurationError for settings that contradict."""
    limits, serving = settings.engine, settings.serving
    if engine.builder not in templates():
        message = f"No model repository can be rendered for builder {engine.builder!r} yet"
        raise ConfigurationError(message, hint=f"known: {', '.join(templates())}")
    if limits.max_input_len >= limits.max_seq_len:
        message = "engine.max_input_len leaves no room for an answer"
        why = f"max_input_len {limits.max_input_len}, max_seq_len {limits.max_seq_len}"
        raise ConfigurationError(message, why=why, hint="set max_seq_len to more")
    if serving.server == "environment" and not serving.environment:
        message = "serving.server is 'environment', but serving.environment names none"
        raise ConfigurationError(message, hint="name a folder of dockerfiles/")
    if serving.server == "container" and not _IMAGE.fullmatch(serving.image or ""):
        message = "serving.server is 'container', but serving.image names none by digest"
        raise ConfigurationError(message, hint="for example name@sha256:…")
    if not settings.smoke.golden:
        message = "smoke.golden is empty: a device could not tell whether the model answers rightly"
        raise ConfigurationError(message, hint="name a prompt and what its answer must contain")
    environment = serving.environment if serving.server == "environment" else None
    return Spec(
        model=serving.model,
        server=serving.server,
        environment=environment,
        python=serving.python,
        lock=LOCK_PATH if environment else None,
        image=serving.image if serving.server == "container" else None,
        repository=MODELS_FOLDER,
        builder=engine.builder,
        runtime=engine.runtime,
        max_batch_size=limits.max_batch_size,
        max_input_len=limits.max_input_len,
        max_seq_len=limits.max_seq_len,
        default_max_tokens=serving.default_max_tokens,
        start_timeout_s=serving.start_timeout_s,
        golden=settings.smoke.golden,
        probe=serving.probe,
        compile_on_device=engine.compile_on_device,
    )


def config_pbtxt(
    spec: Spec, kv_cache_mib: int | None, kv_cache_fraction: float | None = None
) -> str:
    """Triton's config.pbtxt for a spec."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("forge.serving"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - the output is protobuf text; every value is quoted by type
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template(f"{spec.builder}/config.pbtxt.j2")
    percent = round(100 * (kv_cache_fraction or 0))
    return template.render(spec=spec, kv_cache_mib=kv_cache_mib or 0, kv_cache_percent=percent)


def render(engine: Path, settings: RenderSettings, lock: Path | None, output: Path) -> Spec:
    """Write the whole tree into `output`, an empty or new folder.

    Args:
        engine: the builder's output.
        settings: the profile's fields.
        lock: of Triton's environment; None where it is served from a container.
        output: the folder.

    Raises:
        ConfigurationError: the engine or the settings cannot be served.
        OSError: the disk.
    """
    spec = make_spec(settings, read_document(engine / ENGINE_FILE, EngineFacts))
    if spec.lock and lock is None:
        raise ConfigurationError("Triton's environment is named and its lock is not given")
    version = output / spec.repository / spec.model / "1"
    version.mkdir(parents=True, exist_ok=True)
    _link_tree(engine, version / "engine")
    for name, source in _sources(spec.builder).items():
        (version / name).write_bytes(source)
    serving = settings.serving
    text = config_pbtxt(spec, serving.kv_cache_mib, serving.kv_cache_fraction)
    (version.parent / "config.pbtxt").write_text(text, encoding="utf-8")
    if spec.lock and lock is not None:
        (output / spec.lock).parent.mkdir(exist_ok=True)
        shutil.copyfile(lock, output / spec.lock)
    write_spec(output, spec)
    return spec


def _sources(builder: str) -> dict[str, bytes]:
    """A template's Python files, and those of shared/ that they import, directly or by another."""
    folder = resources.files("forge.serving") / "templates"
    found, shared = _python(folder / builder), _python(folder / _SHARED)
    while missing := {
        name: source
        for name, source in shared.items()
        if name not in found
        and any(_imports(one, name.removesuffix(".py")) for one in found.values())
    }:
        found |= missing
    return found


def _python(folder: Traversable) -> dict[str, bytes]:
    files = (path for path in folder.iterdir() if path.name.endswith(".py"))
    return {path.name: path.read_bytes() for path in files}


def _imports(source: bytes, module: str) -> bool:
    return re.search(rf"^(import|from) {module}\b".encode(), source, re.MULTILINE) is not None


def _link_tree(source: Path, target: Path) -> None:
    """Hard links where the disk allows it: an engine may have 100 GB."""
    for folder, folders, files in os.walk(source):
        for name in (*folders, *files):
            if (Path(folder) / name).is_symlink():
                message = f"The engine holds a symbolic link: {Path(folder) / name}"
                raise ConfigurationError(message, why="a link would not survive being shipped")
        here = target / Path(folder).relative_to(source)
        here.mkdir()
        for name in files:
            link_or_copy(Path(folder) / name, here / name)
