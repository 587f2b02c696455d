"""LangChain's ChatOpenAI and OpenAI."""

import asyncio
import sys

from cases import COUNT, FRANCE, PERSON_REQUEST, WEATHER, case, main, refused
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool as as_tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

URL = f"{sys.argv[1]}/v1"


def chat_model(model="llm", **options):
    options = {"temperature": 0, "max_tokens": 32, "max_retries": 3} | options
    return ChatOpenAI(model=model, base_url=URL, api_key="none", **options)


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@as_tool
def get_weather(city: str) -> str:
    """Return the weather in a city."""
    return f"Sunny in {city}"


@case
def chat():
    made = chat_model().invoke(FRANCE)
    return {
        "text": made.content,
        "usage": made.usage_metadata,
        "reason": made.response_metadata["finish_reason"],
    }


@case
def chat_stream():
    pieces = list(chat_model(stream_usage=True).stream(FRANCE))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    return {
        "text": whole.content,
        "pieces": len([one for one in pieces if one.content]),
        "usage": whole.usage_metadata,
    }


@case
def batch():
    return [one.content for one in chat_model(max_retries=8).batch([FRANCE] * 6)]


@case
def chat_async():
    return asyncio.run(chat_model().ainvoke(FRANCE)).content


@case
def json_schema():
    return (
        chat_model(max_tokens=200)
        .with_structured_output(Person, method="json_schema")
        .invoke(PERSON_REQUEST)
        .model_dump()
    )


@case
def function_calling():
    return (
        chat_model(max_tokens=200)
        .with_structured_output(Person, method="function_calling")
        .invoke(PERSON_REQUEST)
        .model_dump()
    )


@case
def json_mode():
    made = (
        chat_model(max_tokens=200)
        .bind(response_format={"type": "json_object"})
        .invoke(PERSON_REQUEST)
    )
    return made.content


@case
def tool():
    bound = chat_model(max_tokens=100).bind_tools([get_weather], tool_choice="get_weather")
    made = bound.invoke(WEATHER)
    [call] = made.tool_calls
    messages = [
        HumanMessage(WEATHER),
        made,
        ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]),
    ]
    answer = chat_model().bind_tools([get_weather], tool_choice="none").invoke(messages)
    return {"name": call["name"], "arguments": call["args"], "answer": answer.content}


@case
def tool_stream():
    bound = chat_model(max_tokens=100).bind_tools([get_weather], tool_choice="any")
    pieces = list(bound.stream(WEATHER))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    [call] = whole.tool_calls
    return {"name": call["name"], "arguments": call["args"]}


@case
def stop():
    made = chat_model(max_tokens=40).invoke(COUNT, stop=["4"])
    return {"text": made.content, "reason": made.response_metadata["finish_reason"]}


@case
def several_choices():
    made = chat_model(n=2, max_tokens=6, temperature=1).generate([[HumanMessage(COUNT)]])
    return [one.text for one in made.generations[0]]


@case
def logprobs():
    made = chat_model(max_tokens=8).bind(logprobs=True, top_logprobs=1).invoke(FRANCE)
    content = made.response_metadata["logprobs"]["content"]
    return {
        "text": made.content,
        "tokens": [one["token"] for one in content],
        "tops": [len(one["top_logprobs"]) for one in content],
    }


@case
def completion():
    return OpenAI(model="llm", base_url=URL, api_key="none", temperature=0, max_tokens=8).invoke(
        "The capital of France is"
    )


@case
def responses():
    made = chat_model(use_responses_api=True).invoke(FRANCE)
    return {
        "text": made.text if isinstance(made.text, str) else made.text(),
        "usage": made.usage_metadata,
    }


@case
def wrong_model():
    return refused(lambda: chat_model("gpt-4o").invoke(FRANCE))


main()
