"""Haystack."""

import sys

from cases import (
    COUNT,
    FRANCE,
    PERSON,
    PERSON_REQUEST,
    WEATHER,
    WEATHER_PARAMETERS,
    case,
    main,
    refused,
)
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack.utils import Secret


def generator(model="llm", **options):
    settings = {"max_completion_tokens": 32, "temperature": 0} | options.pop("settings", {})
    return OpenAIChatGenerator(
        api_key=Secret.from_token("none"),
        model=model,
        api_base_url=f"{sys.argv[1]}/v1",
        generation_kwargs=settings,
        max_retries=0,
        **options,
    )


def ask(text, made):
    return made.run(messages=[ChatMessage.from_user(text)])["replies"]


@case
def chat():
    [reply] = ask(FRANCE, generator())
    return {"text": reply.text, "usage": reply.meta["usage"], "reason": reply.meta["finish_reason"]}


@case
def chat_stream():
    pieces = []
    [reply] = ask(FRANCE, generator(streaming_callback=lambda chunk: pieces.append(chunk.content)))
    return {
        "text": reply.text,
        "pieces": len([one for one in pieces if one]),
        "joined": "".join(pieces),
    }


@case
def json_schema():
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "person", "schema": PERSON, "strict": True},
    }
    [reply] = ask(
        PERSON_REQUEST,
        generator(settings={"response_format": schema, "max_completion_tokens": 200}),
    )
    return reply.text


@case
def tool():
    tool = Tool(
        name="get_weather",
        description="Return the weather in a city",
        parameters=WEATHER_PARAMETERS,
        function=lambda city: f"Sunny in {city}",
    )
    forced = {"type": "function", "function": {"name": "get_weather"}}
    [reply] = ask(
        WEATHER,
        generator(tools=[tool], settings={"tool_choice": forced, "max_completion_tokens": 100}),
    )
    [call] = reply.tool_calls
    return {"name": call.tool_name, "arguments": call.arguments}


@case
def several_choices():
    return [
        one.text for one in ask(COUNT, generator(settings={"n": 2, "max_completion_tokens": 6}))
    ]


@case
def stop():
    [reply] = ask(COUNT, generator(settings={"stop": ["4"], "max_completion_tokens": 40}))
    return {"text": reply.text, "reason": reply.meta["finish_reason"]}


@case
def wrong_model():
    return refused(lambda: ask(FRANCE, generator("gpt-4o")))


main()
