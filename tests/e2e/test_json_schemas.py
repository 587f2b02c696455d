"""Answers of the smallest real model to a corpus of JSON schemas, by OpenVINO and XGrammar."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any

import pytest

from tests.support.json_schemas import CORPUS, validator
from tests.support.serving import ROOT, engine, environment
from tests.support.templates import TEMPLATES

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.exhaustive]

SCHEMAS = 200
MAX_TOKENS = 2048


def problem(schema: Any, answer: str) -> str | None:
    """What is wrong with an answer; None if it is valid."""
    try:
        value = json.loads(answer)
    except ValueError as error:
        return str(error)
    return None if validator(schema).is_valid(value) else "it does not have the schema"


@pytest.mark.timeout(7200)
def test_every_answer_at_temperature_0_is_json_that_has_its_schema() -> None:
    schemas = random.Random(1).sample(CORPUS, SCHEMAS)  # noqa: S311 - no key
    script = ROOT / "tests" / "support" / "schema_answers.py"
    python = environment("triton-openvino") / "bin" / "python"
    done = subprocess.run(
        [str(python), str(script), str(TEMPLATES), str(engine()), str(MAX_TOKENS)],
        input=json.dumps(schemas),
        capture_output=True,
        text=True,
        check=False,
        timeout=7000,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert len(answers) == SCHEMAS
    found = [
        (schema, answer[:200], wrong)
        for schema, answer in zip(schemas, answers, strict=True)
        if (wrong := problem(schema, answer)) is not None
    ]
    assert found == []
