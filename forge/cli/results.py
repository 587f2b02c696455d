"""Which results a run uses: signed ones in a shared store, if the project names builders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from forge.project import Project
from forge.runners.project_file import read_project_file
from forge.runners.results import Results, SignedResults, StoredResults
from forge.store import Store
from forge.store.backends.open import local_folder

__all__ = ["open_results", "with_signer"]


def open_results(project: Project, store: Store, store_url: str | None) -> Results:
    """Return the results of a store, signed or not.

    Args:
        project: the project, whose forge.yaml may name builders.
        store: the store.
        store_url: what `--store` or FORGE_STORE says; None: the default, which is not shared.

    Raises:
        ConfigurationError: forge.yaml is not valid.
    """
    builders = read_project_file(project.root).builders
    if builders is None or _is_own(project, store_url):
        return StoredResults(store)
    return SignedResults(store, builders)


def with_signer(results: Results, environment: Mapping[str, str]) -> Results:
    """Return the results with the signer of FORGE_BUILDER_KEY, if they are signed and it is set.

    Raises:
        ConfigurationError: forge.yaml does not name its public key.
        UsageError: the key cannot be used.
    """
    if not isinstance(results, SignedResults):
        return results
    from forge.release.keys.builder_key import builder_signer

    return replace(results, signer=builder_signer(results.builders, environment))


def _is_own(project: Project, store_url: str | None) -> bool:
    """Return whether the store is `artifacts/` of the project, as trusted as its code."""
    if not store_url:
        return True
    folder = local_folder(store_url)
    return folder is not None and folder.resolve() == (project.root / "artifacts").resolve()
