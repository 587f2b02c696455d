"""The shapes of all answers, for the API's description; the encoders do without these models."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ChatChunk",
    "ChatCompletion",
    "Detokenized",
    "EmbeddingList",
    "Error",
    "ModelCard",
    "ModelList",
    "ResponseDocument",
    "TextCompletion",
    "Tokenized",
]

Reason: TypeAlias = Literal["stop", "length", "tool_calls"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorDetail(_Document):
    """What is wrong, for a person (`message`) and for a program (`code`, `param`)."""

    message: str
    type: Literal[
        "invalid_request_error", "authentication_error", "rate_limit_error", "server_error"
    ]
    param: str | None
    code: str | None
    hint: str | None = Field(default=None, description="on the paths of Forge's own API only")


class Error(_Document):
    """The answer to a request that failed."""

    error: ErrorDetail


class TokenUsage(_Document):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Alternative(_Document):
    """A token that could have stood in this place."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobs(Alternative):
    """A token of the answer, with the likeliest ones in its place."""

    top_logprobs: list[Alternative]


class ChatLogprobs(_Document):
    """The logarithms of the probabilities of a chat's tokens."""

    content: list[TokenLogprobs]
    refusal: None


class CalledFunction(_Document):
    """A function that is called."""

    name: str
    arguments: str


class CalledTool(_Document):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(_Document):
    """The model's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[CalledTool] | None = None


class ChatChoice(_Document):
    """One answer of a chat."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Reason


class _Head(_Document):
    id: str
    created: int
    model: str
    system_fingerprint: str


class ChatCompletion(_Head):
    """The answer of /v1/chat/completions."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: TokenUsage | None = None


class CalledFunctionDelta(_Document):
    """A piece of a call."""

    name: str | None = None
    arguments: str | None = None


class CalledToolDelta(_Document):
    """A piece of a call of a tool; the first has its id."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunctionDelta | None = None


class Delta(_Document):
    """A piece of a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CalledToolDelta] | None = None


class ChunkChoice(_Document):
    """A piece of one answer."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Reason | None


class ChatChunk(_Head):
    """One event of a chat's stream; the last one has the usage and no choices, if it is wanted."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]
    usage: TokenUsage | None = None


class CompletionLogprobLists(_Document):
    """One entry for each token; null: it has no logarithm, as the first token of a prompt."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(_Document):
    """One continuation, or a piece of it in a stream."""

    index: int
    text: str
    logprobs: CompletionLogprobLists | None
    finish_reason: Literal["stop", "length"] | None


class TextCompletion(_Head):
    """The answer of /v1/completions, and each event of its stream."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: TokenUsage | None = None


class EmbeddingUsage(_Document):
    """Counts of tokens."""

    prompt_tokens: int
    total_tokens: int


class Embedding(_Document):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(
        description="text with encoding_format base64: float32, little endian"
    )


class EmbeddingList(_Document):
    """The vectors of all inputs, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ModelCard(_Document):
    """An active model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["forge"]
    root: str = Field(description="name, version and profile of the bundle")
    parent: None
    max_model_len: int = Field(
        description="tokens of prompt and answer together; of an embedding model of one input"
    )
    endpoints: list[str] = Field(description="paths that take the model's name")
    supported_parameters: list[str] | None = Field(description="null: its server does not tell")
    dimensions: int | None = Field(default=None, description="embedding models: of a vector")
    max_inputs: int | None = Field(default=None, description="embedding models: of a request")
    normalized: bool | None = Field(default=None, description="embedding models: length 1")


class ModelList(_Document):
    """The active models; empty while there is none."""

    object: Literal["list"]
    data: list[ModelCard]


class Tokenized(_Document):
    """The tokens of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: None


class Detokenized(_Document):
    """The text of tokens."""

    prompt: str


class ResponseUsage(_Document):
    """Counts of tokens."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class OutputText(_Document):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] = Field(max_length=0)
    logprobs: list[TokenLogprobs]


class OutputMessage(_Document):
    """A message of the model."""

    id: str
    type: Literal["message"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


class OutputCall(_Document):
    """A call of a function."""

    id: str
    type: Literal["function_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    call_id: str
    name: str
    arguments: str


class ResponseDocument(_Document):
    """The answer of /v1/responses; nothing of it is kept."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None = None
    model: str
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    output: list[OutputMessage | OutputCall]
    usage: ResponseUsage | None
    error: dict[str, str] | None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    temperature: float
    top_p: float
    top_logprobs: int
    parallel_tool_calls: bool
    tool_choice: str | dict[str, str]
    tools: list[dict[str, Any]]
    text: dict[str, Any]
    reasoning: dict[str, None]
    background: Literal[False]
    store: Literal[False]
    previous_response_id: None
    service_tier: Literal["default"]
    truncation: Literal["disabled"]
