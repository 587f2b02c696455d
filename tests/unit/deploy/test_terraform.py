"""The roles that Terraform makes: those of the workflows, with the rights that the docs state.

That these rights suffice is shown by tests/e2e/chain/test_workflows.py, whose S3 server has them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "deploy" / "terraform" / "aws"
ROLES: dict[str, dict[str, Any]] = json.loads((MODULE / "roles.json").read_text())
GUIDE = (ROOT / "docs" / "how-to" / "github-actions.md").read_text()


def workflow_roles() -> dict[str, set[str]]:
    """Role variables by the environment of the jobs that assume them; "" for none."""
    found: dict[str, set[str]] = {}
    for name in ("release", "images", "promote", "refresh"):
        text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
        for job in yaml.safe_load(text)["jobs"].values():
            roles = re.findall(r"vars\.FORGE_(\w+)_ROLE", str(job))
            found.setdefault(job.get("environment", ""), set()).update(map(str.lower, roles))
    return found


def test_each_role_is_assumed_where_its_subject_says() -> None:
    for environment, roles in workflow_roles().items():
        for role in roles:
            subjects = ROLES[role]["subjects"]
            if environment:
                assert subjects == [f"environment:{environment}"]
            else:
                assert not any(one.startswith("environment:") for one in subjects)
    assert set().union(*workflow_roles().values()) == set(ROLES)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_the_guide_states_what_a_role_may_write(role: str) -> None:
    _, _, table = GUIDE.partition("| role | rights below the prefix |")
    (row,) = re.findall(rf"^\| {role} \| ([^|]*) \|", table.partition("\n\n")[0], re.MULTILINE)
    folders = ROLES[role]["write"]
    if role == "images":
        assert folders == ROLES["build"]["write"]
    elif role == "device":
        assert folders == [one.replace("hosted", "gpu") for one in ROLES["build"]["write"]]
    elif role == "refresh":
        assert folders == ROLES["promote"]["write"]
    elif folders == [""]:
        assert "write and delete all" in row
    else:
        named = set(re.findall(r"`(\w+)/", row))
        assert named == {one.split("/")[0] for one in folders}


def test_who_builds_cannot_sign_a_release() -> None:
    keys = {"bundles", "model", "channels", "online"}
    for role in ("plan", "build", "device", "images"):
        assert not keys & set(ROLES[role]["sign"])
        assert not any(one in {"", "tuf"} for one in ROLES[role]["write"])


def test_files_use_only_variables_that_are_declared() -> None:
    text = "\n".join(path.read_text() for path in sorted(MODULE.glob("*.tf")))
    declared = set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == declared
    used = set(re.findall(r"\b(?:data\.)?(aws_\w+\.\w+)(?=[.\[])", text))
    made = {
        ".".join(one)
        for one in re.findall(r'^(?:resource|data) "(\w+)" "(\w+)"', text, re.MULTILINE)
    }
    assert used <= made
