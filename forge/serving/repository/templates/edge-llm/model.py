# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton model that serves an Edge-LLM engine with in-flight batching. Never run on hardware by us.

`experimental.server.LLM` of tensorrt-edgellm 0.11.0 compiles a checkpoint itself when it is made.
Here the engine is compiled already (by `llm_build`, from the ONNX export), so the one function it
calls for that answers with the engine's folder; all else is its public interface.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

# Triton's stub makes sys.path without PYTHONPATH, so the packages come from here.
if "FORGE_SITE_PACKAGES" in os.environ:
    site.addsitedir(os.environ["FORGE_SITE_PACKAGES"])
sys.path.append(str(Path(__file__).parent))

from collections.abc import Iterator
from typing import Any

import tool_prompt
import turns
from sampling import Sampling
from streaming import Limits, Piece, RequestError, StreamingModel, Wanted

ENGINE = "llm.engine"
TEMPLATE = 128  # tokens that a chat template adds, at most


class TritonPythonModel(StreamingModel):
    """The LLM of one engine folder."""

    def load(self, engine: Path, limits: Limits) -> None:
        """Start the runtime on the compiled engine."""
        if not (engine / ENGINE).is_file():
            raise FileNotFoundError(
                f"The engine lacks {ENGINE}: the bundle brings only the export, and the device"
                " compiles it before it starts Triton"
            )
        from experimental.server import LLM
        from experimental.server.runtime import engine_build

        prepared = engine_build.PreparedModel(bundle_dir=str(engine), model_dir="")
        engine_build.prepare_model = lambda *_args, **_options: prepared
        self.llm = LLM(
            model=str(engine),
            cache_dir=str(engine),
            max_input_len=limits.max_input_len,
            max_batch_size=limits.max_batch_size,
            max_kv_cache_capacity=limits.max_seq_len,
            enable_in_flight_batching=limits.max_batch_size > 1,
        )

    def generate(self, wanted: Wanted) -> Iterator[Piece]:
        """The answer in pieces; the runtime applies the chat template itself, so always."""
        from experimental.server import SamplingParams

        if not isinstance(wanted.said, turns.Conversation):
            raise RequestError("This model's runtime takes messages only, no text without template")
        # The runtime applies the template, and takes no tools for it.
        messages = tool_prompt.as_text(wanted.said).messages
        params = SamplingParams(
            **options(wanted.sampling),
            # The prompt's length is known only to the runtime, which ends at its own capacity.
            max_tokens=min(wanted.max_tokens, self.limits.max_seq_len - 1),
        )
        deltas = self.llm.generate_stream(messages, params)
        try:
            for delta in deltas:
                if delta.finish_reason == "error":
                    raise self._refused(messages)
                yield Piece(
                    delta.text,
                    len(delta.token_ids),
                    delta.prompt_tokens or 0,
                    (delta.finish_reason or "stop") if delta.finished else "",
                )
        finally:
            deltas.close()  # tells the native side, whether it waits or decodes

    def _refused(self, messages: list[dict[str, Any]]) -> Exception:
        """The runtime does not say why; nothing has more tokens than bytes, its template apart."""
        if (
            sum(len(turn["content"].encode()) for turn in messages) + TEMPLATE
            < self.limits.max_input_len
        ):
            return RuntimeError("it ended the answer without a reason")
        return RequestError(
            "The engine refused the request; a prompt may have at most"
            f" {self.limits.max_input_len} tokens"
        )

    def close(self) -> None:
        """Let what runs end, then give the memory back."""
        self.llm.close()


def options(sampling: Sampling) -> dict[str, Any]:
    """Return the parameters as `SamplingParams` of `experimental.server` takes them."""
    if sampling.temperature == 0:
        return {"temperature": 1.0, "top_k": 1, "top_p": 1.0}
    found: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    return {**found, "top_k": sampling.top_k} if sampling.top_k else found
