"""`reproduce.sh` of a step that ran in a container, and what it calls: the same container again.

    python -m forge.runners.dagger_again < PLAN

The plan stands in the script. Secrets do not: the script asks for them.
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
from forge.runners.dagger_container import ContainerPlan
from forge.runners.dagger_session import CLI, find_cli, probe, session

__all__ = ["main", "write"]

_PLAN = TypeAdapter(ContainerPlan)


def write(plan: ContainerPlan, cli: str, path: Path) -> None:
    """Write the script that runs `plan` by hand; its outputs go where the step's would have."""
    bare = dataclasses.replace(plan, secrets=dict.fromkeys(plan.secrets, ""))
    lines = [
        "#!/bin/sh",
        f"# Runs step {plan.step} by hand, in a container as Forge ran it; needs the engine.",
        "set -eu",
        *(
            f': "${{{name}:?set it first: it is a secret and not stored here}}"'
            for name in bare.secrets
        ),
        f"export {CLI}={shlex.quote(cli)}",
        f"{shlex.quote(sys.executable)} -m forge.runners.dagger_again <<'PLAN'",
        _PLAN.dump_json(bare).decode(),
        "PLAN",
        "",
    ]
    write_durably(path, "\n".join(lines).encode(), mode=0o755)


def main() -> int:
    """Read a plan from standard input and run it; the command's exit code."""
    plan = _PLAN.validate_json(sys.stdin.read())
    secrets = {name: os.environ[name] for name in plan.secrets}
    try:
        return asyncio.run(_again(dataclasses.replace(plan, secrets=secrets), os.environ))
    except ForgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


async def _again(plan: ContainerPlan, environment: Mapping[str, str]) -> int:
    cli = find_cli(environment)
    probe(plan.engine)
    from forge.runners import dagger_exec

    async with session(cli, plan.engine, environment, lambda _line: None) as client:
        ended = await dagger_exec.run(client, plan, lambda text: print(text, file=sys.stderr))  # noqa: T201
    sys.stdout.write(ended.output)
    return ended.exit_code


if __name__ == "__main__":
    sys.exit(main())
