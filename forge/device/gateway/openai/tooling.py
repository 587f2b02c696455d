"""The tools of a request: the form of an answer that must call one, and what reads it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from forge.device.gateway.openai.messages import ChatTool, NamedToolChoice, ToolChoice
from forge.device.gateway.openai.tool_calls import FORCED, CallParser
from forge.serving.sampling import StructuredOutputs

__all__ = ["Tooling"]


@dataclass(frozen=True)
class Tooling:
    """What a request's tools ask of the model and of its answer.

    Attributes:
        tools: those that the model may call.
        forced: whether it must call one.
        parallel: whether it may call more than one.
        answer: the form of an answer in words; None for any text.
    """

    tools: tuple[ChatTool, ...]
    forced: bool
    parallel: bool
    answer: StructuredOutputs | None

    @classmethod
    def of(
        cls,
        tools: tuple[ChatTool, ...],
        tool_choice: ToolChoice | None,
        *,
        parallel: bool | None,
        answer: StructuredOutputs | None,
    ) -> Tooling:
        """Return the tooling of a request.

        Raises:
            PydanticCustomError: the choice is of a tool that is not offered, or the form of the
                answer cannot have an alternative.
        """
        named = tool_choice.function.name if isinstance(tool_choice, NamedToolChoice) else None
        chosen = () if tool_choice == "none" else tools
        if named is not None:
            chosen = tuple(tool for tool in tools if tool.function.name == named)
        forced = named is not None or tool_choice == "required"
        if forced and not chosen:
            text = "must not be set unless tools are" if not tools else "names no function of tools"
            raise PydanticCustomError("tool_choice", text, {"param": "tool_choice"})
        if chosen and not forced and answer and _schema(answer) is None:
            text = "must be JSON where tools may be called: set tool_choice to none for another one"
            raise PydanticCustomError("tools", text, {"param": "structured_outputs"})
        return cls(chosen, forced, parallel is not False and named is None, answer)

    @property
    def form(self) -> StructuredOutputs | None:
        """The form that the whole answer must have; None for any text."""
        if not self.tools or (self.answer is None and not self.forced):
            return self.answer
        if self.forced or self.answer is None:
            return StructuredOutputs(json=self._calls("#"))
        answer = _moved(_schema(self.answer), "#/anyOf/0")
        return StructuredOutputs(json={"anyOf": [answer, self._calls("#/anyOf/1")]})

    def parser(self, call_format: str) -> CallParser:
        """Return a parser for one answer of a model that writes calls in this format."""
        names = frozenset(tool.function.name for tool in self.tools)
        listed = self.form is not None  # a grammar makes a list of the calls
        return CallParser(FORCED if listed else call_format, names, parallel=self.parallel)

    def _calls(self, place: str) -> dict[str, Any]:
        """Return the schema of a list of calls, which stands at this place of a schema."""
        calls = [
            _call(tool, f"{place}/items/anyOf/{index}/properties/arguments")
            for index, tool in enumerate(self.tools)
        ]
        schema: dict[str, Any] = {"type": "array", "items": {"anyOf": calls}, "minItems": 1}
        return schema if self.parallel else {**schema, "maxItems": 1}


def _schema(form: StructuredOutputs) -> dict[str, Any] | None:
    if form.json_object:
        return {"type": "object"}
    return form.json_schema if isinstance(form.json_schema, dict) else None


def _call(tool: ChatTool, place: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"const": tool.function.name},
            "arguments": _moved(tool.function.parameters or {"type": "object"}, place),
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str) -> Any:
    """Return a schema whose references within itself hold at its new place."""
    if isinstance(schema, list):
        return [_moved(one, place) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, place) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = place + reference[1:]
    return moved
