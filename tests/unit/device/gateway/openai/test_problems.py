"""What is wrong with a request, in the words of the API."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from forge.device.gateway.openai.problems import problem
from forge.device.gateway.openai.protocol import ChatRequest

HI = {"role": "user", "content": "Hi"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
WRONG: dict[str, tuple[dict[str, object], str, str]] = {
    "image": ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages", "not supported"),
    "temperature": ({"temperature": 3}, "temperature", "at most 2"),
    "n": ({"n": True}, "n", "integer"),
    "unknown": ({"colour": 1}, "colour", "colour"),
}


@pytest.mark.parametrize(("given", "param", "said"), WRONG.values(), ids=WRONG)
def test_problem_names_the_parameter_and_has_no_words_of_pydantic(
    given: dict[str, object], param: str, said: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate({"model": "llm", "messages": [HI], **given})
    found = problem(caught.value)
    assert found.param is not None
    assert found.param.startswith(param)
    assert said in found.message
    assert "Input should" not in found.message
    assert found.code
