"""`reproduce.sh` of a step that ran in a container, and the module that it runs.

    python -m forge.runners.dagger.reproduce < PLAN

The script contains the plan, but no secrets: these must be set in the environment.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from forge.errors import ForgeError
from forge.files import write_durably
from forge.runners.dagger.container import ContainerPlan
from forge.runners.dagger.session import CLI, find_cli, probe, session

__all__ = ["main", "write"]

_PLAN = TypeAdapter(ContainerPlan)


def write(plan: ContainerPlan, cli: str, path: Path) -> None:
    """Write the script that runs `plan` manually, with the same output folders as the step."""
    bare = dataclasses.replace(plan, secrets=dict.fromkeys(plan.secrets, ""))
    lines = [
        "#!/bin/sh",
        f"# Runs step {plan.step} manually in the same container. Requires the Dagger engine.",
        "set -eu",
        *(
            f': "${{{name}:?set it first: it is a secret and not stored here}}"'
            for name in bare.secrets
        ),
        f"export {CLI}={shlex.quote(cli)}",
        f"{shlex.quote(sys.executable)} -m forge.runners.dagger.reproduce <<'PLAN'",
        _PLAN.dump_json(bare).decode(),
        "PLAN",
        "",
    ]
    write_durably(path, "\n".join(lines).encode(), mode=0o755)


def main() -> int:
    """Read a plan from standard input, run it and return the exit code of the command."""
    plan = _PLAN.validate_json(sys.stdin.read())
    secrets = {name: os.environ[name] for name in plan.secrets}
    try:
        return asyncio.run(_rerun(dataclasses.replace(plan, secrets=secrets), os.environ))
    except ForgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


async def _rerun(plan: ContainerPlan, environment: Mapping[str, str]) -> int:
    cli = find_cli(environment)
    probe(plan.engine)
    from forge.runners.dagger.exec import run as run_exec

    async with session(cli, plan.engine, environment, lambda _line: None) as client:
        ended = await run_exec(client, plan, lambda text: print(text, file=sys.stderr))  # noqa: T201
    sys.stdout.write(ended.output)
    return ended.exit_code


if __name__ == "__main__":
    sys.exit(main())
