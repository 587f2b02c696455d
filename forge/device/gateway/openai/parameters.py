"""Names of OpenAI's and vLLM's API that this device does not obey, with neutral values. Pure.

A client that sends a neutral value, or null, asks for nothing: it is accepted. Another value would
change the answer and is refused by name. A name that is in neither table is not known here.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from pydantic_core import PydanticCustomError

__all__ = [
    "CHAT",
    "COMPLETIONS",
    "EMBEDDINGS",
    "RESPONSES",
    "UNSUPPORTED",
    "Known",
    "unsupported",
    "without_neutral",
]

UNSUPPORTED: Final = "unsupported_parameter"
Known: TypeAlias = "dict[str, tuple[Any, ...] | None]"
"""Neutral values by name, besides null; None: each value is, since none changes the answer."""

_ALL_TOKENS: Final = -1  # vLLM's top_k, which is 0 here
_OPENAI: Final[Known] = {
    "logit_bias": ({},),
    "metadata": None,
    "moderation": (),
    "prompt_cache_key": None,
    "prompt_cache_options": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "service_tier": ("auto", "default"),
    "store": (False,),
    "user": None,
}
_VLLM: Final[Known] = {
    "allowed_token_ids": (),
    "bad_words": ([],),
    "best_of": (1,),
    "cache_salt": (),
    "detokenize": (True,),
    "early_stopping": (False,),
    "ec_transfer_params": ({},),
    "guided_decoding_backend": None,
    "guided_whitespace_pattern": (),
    "include_stop_str_in_output": (False,),
    "kv_transfer_params": ({},),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "logprob_token_ids": (),
    "priority": (0,),
    "prompt_logprobs": (),
    "repetition_detection": (),
    "request_id": None,
    "return_mm_kwargs": None,
    "return_prompt_text": (False,),
    "return_token_ids": (False,),
    "return_token_offsets": (False,),
    "return_tokens_as_token_ids": (False,),
    "routed_experts_prompt_start": (0,),
    "session_id": None,
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "stream_interval": None,
    "structural_tag": (),
    "thinking_token_budget": (-1,),
    "truncate_prompt_tokens": (),
    "truncation_side": None,
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    "watermarking": (False,),
}

CHAT: Final[Known] = {
    **_OPENAI,
    **_VLLM,
    "add_generation_prompt": (True,),
    "add_special_tokens": (False,),
    "audio": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "include_reasoning": None,
    "media_io_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "modalities": (["text"],),
    "prediction": (),
    "reasoning_effort": ("none",),
    "suffix": ("",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""For POST /v1/chat/completions."""

COMPLETIONS: Final[Known] = {
    **_OPENAI,
    **_VLLM,
    "add_special_tokens": (True,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "parallel_tool_calls": None,
    "prompt_embeds": (),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}
"""For POST /v1/completions."""

RESPONSES: Final[Known] = {
    **{name: neutral for name, neutral in _OPENAI.items() if name != "metadata"},
    "access_programs": ([],),
    "background": (False,),
    "background_options": ({},),
    "cache_salt": (),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "include_stop_str_in_output": (False,),
    "max_tool_calls": (),
    "mm_processor_kwargs": ({},),
    "previous_response_id": (),
    "priority": (0,),
    "prompt": (),
    "reasoning": ({}, {"effort": None}, {"effort": "none"}),
    "request_id": None,
    "n": (1,),
    "skip_special_tokens": (True,),
    "stream_options": None,
    "truncation": ("disabled",),
}
"""For POST /v1/responses."""


EMBEDDINGS: Final[Known] = {
    "add_special_tokens": (True,),
    "embed_dtype": ("float32",),
    "endianness": ("native", "little"),
    "normalize": (),
    "priority": (0,),
    "request_id": None,
    "truncate_prompt_tokens": (),
    "truncation_side": None,
    "user": None,
}
"""For POST /v1/embeddings."""


def without_neutral(given: dict[str, Any], known: Known) -> dict[str, Any]:
    """Return the parameters that ask for something.

    Raises:
        PydanticCustomError: a known one has another value than a neutral one.
    """
    kept = {}
    for name, value in given.items():
        if value is None or (name == "top_k" and _same(value, _ALL_TOKENS)):
            continue
        if name not in known:
            kept[name] = value
            continue
        neutral = known[name]
        if neutral is not None and not any(_same(value, one) for one in neutral):
            raise unsupported(name)
    return kept


def unsupported(name: str) -> PydanticCustomError:
    """Return the error for a parameter that the device cannot obey."""
    return PydanticCustomError(
        UNSUPPORTED, "{name} is not supported by this device", {"name": name}
    )


def _same(given: Any, neutral: Any) -> bool:
    """Compare as JSON does: 1 equals 1.0 and not true."""
    return isinstance(given, bool) == isinstance(neutral, bool) and bool(given == neutral)
