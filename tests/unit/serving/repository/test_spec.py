"""Reading serving.json: whose fault it is when that does not work."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from forge.errors import ConfigurationError, StoreError
from forge.profiles import RuntimeSection
from forge.serving.repository.render import make_spec
from forge.serving.repository.spec import EngineFacts, RenderSettings, read_spec, write_spec
from tests.support.serving import profile_fields
from tests.support.spec import a_spec


def test_a_spec_that_is_missing_or_wrong_is_the_trees_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"serving.json cannot be read"):
        read_spec(tmp_path)
    (tmp_path / "serving.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"serving.json is not valid"):
        read_spec(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_disk_that_fails_is_not_the_trees_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_spec(tmp_path, a_spec())

    def fail(_path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(StoreError, match=os.strerror(number)) as caught:
        read_spec(tmp_path)
    assert caught.value.exit_code == 9


# As Forge 0.1 rendered it. Its devices refuse a document with other fields.
OLD = """{"builder":"openvino","compile_on_device":null,"default_max_tokens":128,"environment":
"triton-openvino","golden":[{"expect":["Paris"],"max_tokens":32,"prompt":"France?"}],"image":null,
"lock":"runtime/requirements.lock","max_batch_size":4,"max_input_len":512,"max_seq_len":1024,
"model":"llm","probe":{"output_tokens_per_s_min":null,"ttft_ms_max":null},"python":"3.11",
"repository":"models","runtime":{"openvino-genai":"2026.4.1.0"},"schema_version":1,"server":
"environment","start_timeout_s":60.0}"""


def test_document_of_forge_0_1_is_still_served(tmp_path: Path) -> None:
    (tmp_path / "serving.json").write_text(OLD)
    spec = read_spec(tmp_path)
    assert (spec.default_max_tokens, spec.max_seq_len, spec.settings) == (128, 1024, {})


def test_a_device_of_forge_0_1_knows_every_field_that_is_written(tmp_path: Path) -> None:
    document = profile_fields(serving__kv_cache_mib=700)
    settings = RenderSettings.model_validate_json(json.dumps(document))
    spec = make_spec(settings, EngineFacts(builder="openvino", runtime={}))
    assert spec.settings == RuntimeSection.model_validate(
        {name: document["serving"][name] for name in RuntimeSection.model_fields}
    ).model_dump(mode="json")
    write_spec(tmp_path, spec)
    assert json.loads((tmp_path / "serving.json").read_text()).keys() == json.loads(OLD).keys()
    assert read_spec(tmp_path) == spec.model_copy(update={"settings": {}})
