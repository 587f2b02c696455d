"""Licences that installed packages state."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.release.attest.licences import installed_licences

OSI = "Classifier: License :: OSI Approved :: "


def environment(folder: Path, *lines: str) -> Path:
    info = folder / "lib" / "python3.11" / "site-packages" / "a_package-1.0.dist-info"
    info.mkdir(parents=True)
    text = "\n".join(["Metadata-Version: 2.4", "Name: A_Package", "Version: 1.0", *lines, ""])
    (info / "METADATA").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License-Expression: MIT OR Apache-2.0", f"{OSI}MIT License"], "MIT OR Apache-2.0"),
        ([f"{OSI}MIT License", "License: look at the file"], "MIT"),
        ([f"{OSI}MIT License", f"{OSI}Apache Software License", "License: MIT and Apache"],
         "MIT and Apache"),
        ([f"{OSI}BSD License", "License: BSD-3-Clause"], "BSD-3-Clause"),
        ([f"{OSI}BSD License"], "BSD License"),
        (["License: UNKNOWN", f"{OSI}BSD License"], "BSD License"),
        ([f"License: {'the whole text ' * 20}", f"{OSI}BSD License"], "BSD License"),
        (["Summary: nothing"], None),
    ],
)  # fmt: skip
def test_the_most_exact_statement_is_taken(
    tmp_path: Path, lines: list[str], licence: str | None
) -> None:
    found = installed_licences(environment(tmp_path, *lines))
    assert found == ({"a-package": licence} if licence else {})


def test_a_folder_that_is_no_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a virtual environment"):
        installed_licences(tmp_path)
