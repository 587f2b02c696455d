"""Chats, whole and streamed, as the official client reads them."""

from __future__ import annotations

import pytest

from tests.support.gateway_app import Script, served


@pytest.mark.parametrize("choices", [1, 3])
def test_streamed_choices_joined_are_the_whole_ones(choices: int) -> None:
    asked = {"model": "llm", "messages": [{"role": "user", "content": "Hi"}], "n": choices}
    with served(Script(pieces=("Par", "is"))) as (client, _):
        whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
        chunks = client.chat.completions.create(stream=True, **asked)  # type: ignore[call-overload]
        texts, ends = [""] * choices, [""] * choices
        for chunk in chunks:
            for one in chunk.choices:
                texts[one.index] += one.delta.content or ""
                ends[one.index] = one.finish_reason or ends[one.index]
    assert [one.message.content for one in whole.choices] == texts == ["Paris"] * choices
    assert [one.finish_reason for one in whole.choices] == ends == ["stop"] * choices
