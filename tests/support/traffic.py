"""Clients that ask a device without a pause, and what became of each question."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx

__all__ = ["Outcome", "Traffic"]


@dataclass(frozen=True)
class Outcome:
    """Of one question.

    Attributes:
        status: HTTP's; 0 if the connection failed.
        version: of the bundle that answered.
        text: the answer, or the reason of the refusal.
        retry_after: what the header said.
    """

    status: int
    version: str = ""
    text: str = ""
    retry_after: str = ""


@dataclass
class Traffic:
    """Counts from several threads."""

    url: str
    outcomes: list[Outcome] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    @contextlib.contextmanager
    def on(cls, url: str, clients: int = 3) -> Iterator[Traffic]:
        """Ask until the body ends; every question has its outcome then."""
        traffic = cls(url)
        threads = [threading.Thread(target=traffic._run) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield traffic
        finally:
            traffic._stop.set()
            for thread in threads:
                thread.join(120)

    @property
    def failed(self) -> list[Outcome]:
        """Everything that was no answer."""
        return [one for one in self.outcomes if one.status != httpx.codes.OK]

    def versions(self) -> set[str]:
        """Of the bundles that answered."""
        return {one.version for one in self.outcomes if one.status == httpx.codes.OK}

    def wait(self, condition: Callable[[Traffic], bool], timeout_s: float = 60) -> None:
        """Until it holds."""
        until = time.monotonic() + timeout_s
        while not condition(self):
            if time.monotonic() > until:
                raise AssertionError(self.outcomes[-5:])
            time.sleep(0.05)

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not self._stop.is_set():
                self.outcomes.append(self._ask(client))

    def _ask(self, client: httpx.Client) -> Outcome:
        try:
            response = client.post(f"{self.url}/v1/inference", json={"prompt": "France?"})
        except httpx.HTTPError as error:
            return Outcome(0, text=repr(error))
        body = response.json()
        if response.is_success:
            return Outcome(200, body["release"]["version"], body["text"].strip())
        refusal = body["error"]
        said = f"{refusal.get('message')}; {refusal.get('hint')}"
        return Outcome(response.status_code, "", said, response.headers.get("Retry-After", ""))
