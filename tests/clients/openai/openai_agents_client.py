"""OpenAI's Agents SDK, over chat completions and over responses."""

import sys

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from agents.agent import StopAtTools
from cases import FRANCE, PERSON_REQUEST, WEATHER, case, main, refused
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)
SETTINGS = ModelSettings(temperature=0, max_tokens=200)


class Person(BaseModel):
    name: str
    age: int


def agent(kind=OpenAIChatCompletionsModel, model="llm", **options):
    options = {"model_settings": SETTINGS} | options
    # One for each case: its connections belong to the event loop that used them first.
    client = AsyncOpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
    return Agent(
        name="assistant",
        instructions="Be brief.",
        model=kind(model=model, openai_client=client),
        **options,
    )


@case
def chat():
    made = Runner.run_sync(agent(), FRANCE)
    usage = made.context_wrapper.usage
    return {"text": made.final_output, "usage": [usage.input_tokens, usage.output_tokens]}


@case
def chat_stream():
    import asyncio

    async def stream():
        run = Runner.run_streamed(agent(), FRANCE)
        pieces = [
            event.data.delta
            async for event in run.stream_events()
            if event.type == "raw_response_event"
            and event.data.type == "response.output_text.delta"
        ]
        return {"text": run.final_output, "joined": "".join(pieces), "pieces": len(pieces)}

    return asyncio.run(stream())


@case
def json_schema():
    return Runner.run_sync(agent(output_type=Person), PERSON_REQUEST).final_output.model_dump()


def weather_tool():
    """Return the cities that were asked for, and the tool."""
    called = []

    @function_tool
    def get_weather(city: str) -> str:
        """Return the weather in a city."""
        called.append(city)
        return f"Sunny in {city}"

    return called, get_weather


@case
def tool():
    called, get_weather = weather_tool()
    forced = ModelSettings(temperature=0, max_tokens=100, tool_choice="get_weather")
    made = Runner.run_sync(
        agent(
            tools=[get_weather],
            model_settings=forced,
            tool_use_behavior=StopAtTools(stop_at_tool_names=["get_weather"]),
        ),
        WEATHER,
    )
    return {"called": called, "answer": made.final_output}


@case
def tool_and_answer():
    """The tool's result goes back to the model, which then says something."""
    called, get_weather = weather_tool()
    forced = ModelSettings(temperature=0, max_tokens=100, tool_choice="required")
    made = Runner.run_sync(agent(tools=[get_weather], model_settings=forced), WEATHER)
    return {"called": called, "answer": made.final_output}


@case
def responses():
    return Runner.run_sync(agent(OpenAIResponsesModel), FRANCE).final_output


@case
def responses_tool():
    called, get_weather = weather_tool()
    forced = ModelSettings(temperature=0, max_tokens=100, tool_choice="get_weather")
    made = Runner.run_sync(
        agent(
            OpenAIResponsesModel,
            tools=[get_weather],
            model_settings=forced,
            tool_use_behavior=StopAtTools(stop_at_tool_names=["get_weather"]),
        ),
        WEATHER,
    )
    return {"called": called, "answer": made.final_output}


@case
def wrong_model():
    return refused(lambda: Runner.run_sync(agent(model="gpt-4o"), FRANCE))


main()
