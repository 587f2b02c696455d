"""One released bundle for all tests of the chain: real model, real compiler, real Triton."""

import pytest

from tests.support.project_world import World, copy_project


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A fresh project with version 1.0.0 released and promoted to stable."""
    made = copy_project(tmp_path_factory.mktemp("chain"))
    made.forge("keys", "init")
    made.release("1.0.0")
    made.forge("promote", "1.0.0", "stable", "--yes")
    return made
