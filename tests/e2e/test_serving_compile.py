"""The compiler on the real checkpoint, run as a step runs it."""

import hashlib
import json
from pathlib import Path

import pytest

from forge.serving.repository.spec import ENGINE_FILE
from tests.support.serving import GGUF_SHA256, checkpoint, compile_gguf, engine

pytestmark = [pytest.mark.slow, pytest.mark.network]

FILES = {
    *(
        f"openvino_{part}.{kind}"
        for part in ("model", "tokenizer", "detokenizer")
        for kind in ("xml", "bin")
    ),
    "generation_config.json",
    ENGINE_FILE,
}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.sample
def test_compile_writes_a_whole_engine_and_what_it_is_bound_to() -> None:
    assert {path.name for path in engine().iterdir()} == FILES
    facts = json.loads((engine() / ENGINE_FILE).read_text())
    assert facts["builder"] == "openvino"
    assert facts["runtime"]["openvino-genai"].startswith("2026.4.1")
    precision = facts["precision"]
    assert (precision["asked"], precision["checkpoint"]) == ("as-is", "Q4_1")
    assert (precision["found"], precision["requantised"]) == ("u8", {"Q4_1": "Q8_0"})
    assert facts["model"]["sha256"] == GGUF_SHA256


def test_compile_twice_gives_the_same_bytes_and_leaves_the_checkpoint_alone(
    tmp_path: Path,
) -> None:
    before = digests(checkpoint())
    settings = tmp_path / "settings.json"
    settings.write_text('{"engine": {"precision": "as-is"}}')
    done = compile_gguf(checkpoint(), settings, tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "again") == digests(engine())
    assert digests(checkpoint()) == before
    assert {path.name for path in tmp_path.iterdir()} == {"settings.json", "again"}
