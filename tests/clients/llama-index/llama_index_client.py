"""LlamaIndex's OpenAILike."""

import sys

from cases import COUNT, FRANCE, PERSON_REQUEST, WEATHER, case, main, refused
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


def llm(model="llm", **options):
    options = {
        "is_chat_model": True,
        "is_function_calling_model": True,
        "temperature": 0.0,
        "max_tokens": 32,
        "max_retries": 0,
        "context_window": 1024,
    } | options
    return OpenAILike(model=model, api_base=f"{sys.argv[1]}/v1", api_key="none", **options)


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"Sunny in {city}"


def turns(text):
    return [ChatMessage(role="user", content=text)]


@case
def chat():
    made = llm().chat(turns(FRANCE))
    return {"text": made.message.content, "usage": made.raw.usage.model_dump()}


@case
def chat_stream():
    pieces = [one.delta for one in llm().stream_chat(turns(FRANCE))]
    return {"text": "".join(pieces), "pieces": len([one for one in pieces if one])}


@case
def completion():
    return llm(is_chat_model=False, max_tokens=8).complete("The capital of France is").text


@case
def completion_stream():
    return "".join(
        one.delta
        for one in llm(is_chat_model=False, max_tokens=8).stream_complete(
            "The capital of France is"
        )
    )


@case
def structured():
    made = llm(max_tokens=200).as_structured_llm(Person).chat(turns(PERSON_REQUEST))
    return made.raw.model_dump()


@case
def structured_native():
    made = (
        llm(max_tokens=200, should_use_structured_outputs=True)
        .as_structured_llm(Person)
        .chat(turns(PERSON_REQUEST))
    )
    return made.raw.model_dump()


@case
def tool():
    tools = [FunctionTool.from_defaults(get_weather)]
    model = llm(max_tokens=100)
    made = model.chat_with_tools(tools, user_msg=WEATHER, tool_required=True)
    [call] = model.get_tool_calls_from_response(made)
    return {"name": call.tool_name, "arguments": call.tool_kwargs}


@case
def stop():
    return llm(max_tokens=40).chat(turns(COUNT), stop=["4"]).message.content


@case
def wrong_model():
    return refused(lambda: llm("gpt-4o").chat(turns(FRANCE)))


main()
