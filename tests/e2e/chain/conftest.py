"""One released bundle for all tests of the chain: real model, real compiler, real Triton."""

import shutil

import pytest

from tests.e2e.chain.world import ROOT, World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A fresh project with version 1.0.0 released and promoted to stable.

    Tool environments are this checkout's own, so they are installed once.
    """
    project = tmp_path_factory.mktemp("chain")
    for name in ("pipelines", "stages", "profiles", "dockerfiles"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    environments = ROOT / ".forge" / "environments"
    environments.mkdir(parents=True, exist_ok=True)
    (project / ".forge").mkdir()
    (project / ".forge" / "environments").symlink_to(environments)
    made = World(project)
    made.forge("keys", "init")
    made.release("1.0.0")
    made.forge("promote", "1.0.0", "stable")
    return made
