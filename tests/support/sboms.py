"""SBOMs of bundles for tests."""

from __future__ import annotations

import json


def sbom(*packages: str, files: tuple[tuple[str, str], ...] = ()) -> str:
    """A CycloneDX document with these packages, `aiohttp==3.12.1`, and files with their SHA-256."""
    components = []
    for one in packages:
        name, _, version = one.partition("==")
        components.append(
            {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name}@{version}",
                "hashes": [{"alg": "SHA-256", "content": f"{len(one):064x}"}],
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        )
    parts = [
        {"type": "file", "name": path, "hashes": [{"alg": "SHA-256", "content": digest}]}
        for path, digest in files
    ]
    model = {"type": "machine-learning-model", "name": "llm", "components": parts}
    return json.dumps(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "metadata": {"component": model},
            "components": components,
        }
    )
