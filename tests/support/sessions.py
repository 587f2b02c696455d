"""Hundreds of applications that ask a device in every way there is; each outcome is judged."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

__all__ = ["Sessions"]

_CHAT: Final[dict[str, Any]] = {
    "model": "llm",
    "messages": [{"role": "user", "content": "France?"}],
}
_WAYS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("/v1/inference", {"prompt": "France?"}),
    ("/v1/inference", {"prompt": "France?", "stream": True}),
    ("/v1/chat/completions", _CHAT),
    ("/v1/chat/completions", {**_CHAT, "stream": True}),
)
_PAUSE_S: Final = 0.25  # between an answer and the next question
_REFUSALS: Final = (429, 503)


@dataclass
class Sessions:
    """Ask until told to stop.

    Attributes:
        url: of the gateway.
        words: what each version answers.
        statuses: how often each came.
        versions: of the answers, and how many.
        wrong: neither a whole right answer nor a refusal that says why and when to come back.
        seconds: of the answers.
    """

    url: str
    words: Mapping[str, str]
    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, count: int) -> None:
        """That many at once; each ends with the answer that it waits for."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=count)
        async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as client:
            await asyncio.gather(*(self._session(client, number) for number in range(count)))

    async def wait_for(self, version: str, answers: int = 50, timeout_s: float = 60) -> None:
        """Until so many more answers came from this version."""
        wanted = self.versions[version] + answers
        async with asyncio.timeout(timeout_s):
            while self.versions[version] < wanted:
                self.answered.clear()
                await self.answered.wait()

    def summary(self) -> str:
        """For the log: what came, and how long answers took."""
        middle = statistics.median(self.seconds)
        return (
            f"{self.statuses.total()} requests: {dict(self.statuses)}, answers by version"
            f" {dict(self.versions)}, median {middle:.2f} s, longest {max(self.seconds):.2f} s"
        )

    async def _session(self, client: httpx.AsyncClient, number: int) -> None:
        path, body = _WAYS[number % len(_WAYS)]
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                response = await client.post(self.url + path, json=body)
            except httpx.HTTPError as error:
                self.wrong.append(f"{path} {body}: {error!r}")
                continue
            self.statuses[response.status_code] += 1
            if response.status_code == httpx.codes.OK:
                self.seconds.append(time.monotonic() - began)
                self._judge(response, path, stream="stream" in body)
                await asyncio.sleep(_PAUSE_S)
            else:
                self._refused(response)
                await asyncio.sleep(min(1.0, float(response.headers.get("retry-after", "1"))))

    def _judge(self, response: httpx.Response, path: str, *, stream: bool) -> None:
        read = _streamed if stream else _whole
        text = read(response, path).strip()
        version = next((name for name, words in self.words.items() if words == text), "")
        if version:
            self.versions[version] += 1
            self.answered.set()
        else:
            self.wrong.append(f"{path}: {response.text[-300:]}")

    def _refused(self, response: httpx.Response) -> None:
        error = response.json().get("error", {})
        explained = error.get("message") and int(response.headers.get("retry-after", "0")) > 0
        if response.status_code not in _REFUSALS or not explained:
            self.wrong.append(f"{response.status_code} {dict(response.headers)} {response.text}")


def _whole(response: httpx.Response, path: str) -> str:
    body = response.json()
    if "inference" in path:
        return str(body["text"])
    return str(body["choices"][0]["message"]["content"])


def _streamed(response: httpx.Response, path: str) -> str:
    """The text, or nothing if the stream does not end as it should."""
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line[:7] == "data: {"]
    if "inference" in path:
        whole = "event: done" in response.text
        text = "".join(str(one.get("text", "")) for one in events)
    else:
        whole = response.text.endswith("data: [DONE]\n\n")
        deltas = [one["choices"][0]["delta"] for one in events if "choices" in one]
        text = "".join(str(delta.get("content") or "") for delta in deltas)
    return text if whole else ""
