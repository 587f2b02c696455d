"""Values of parameters that ask for nothing: the defaults of OpenAI's and vLLM's references."""

from __future__ import annotations

from typing import Any

__all__ = ["NEUTRAL", "NEUTRAL_CHAT", "NEUTRAL_COMPLETION", "USER"]

USER = {"role": "user", "content": "France?"}
NEUTRAL: dict[str, Any] = {
    "n": 1, "best_of": 1, "frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {},
    "functions": [], "function_call": "none", "modalities": ["text"], "service_tier": "default",
    "store": False, "seed": None, "user": "me", "metadata": {"a": "b"}, "prompt_cache_key": "k",
    "response_format": {"type": "text"}, "suffix": "", "tools": [], "tool_choice": "auto",
    "parallel_tool_calls": True, "top_logprobs": 0, "echo": False, "temperature": 0, "top_p": 1,
    "top_k": -1, "min_p": 0, "repetition_penalty": 1, "length_penalty": 1.0, "min_tokens": 0,
    "use_beam_search": False, "early_stopping": False, "ignore_eos": False, "stop": [],
    "stop_token_ids": [], "include_stop_str_in_output": False, "skip_special_tokens": True,
    "spaces_between_special_tokens": True, "truncate_prompt_tokens": None, "bad_words": [],
    "prompt_logprobs": None, "allowed_token_ids": None, "detokenize": True, "priority": 0,
    "guided_json": None, "guided_decoding_backend": "auto", "logits_processors": [],
    "request_id": "r1", "return_tokens_as_token_ids": False, "return_token_ids": False,
    "kv_transfer_params": {}, "vllm_xargs": {}, "stream": False, "stream_options": None,
    "thinking_token_budget": -1, "stream_interval": 4, "safety_identifier": "s",
}  # fmt: skip
NEUTRAL_CHAT: dict[str, Any] = {
    "logprobs": False, "add_generation_prompt": True, "continue_final_message": False,
    "add_special_tokens": False, "documents": [], "chat_template": None, "verbosity": "medium",
    "chat_template_kwargs": {}, "mm_processor_kwargs": {}, "include_reasoning": True,
    "reasoning_effort": "none",
}  # fmt: skip
NEUTRAL_COMPLETION: dict[str, Any] = {
    "logprobs": None,
    "add_special_tokens": True,
    "prompt_embeds": None,
}
