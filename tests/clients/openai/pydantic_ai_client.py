"""pydantic-ai."""

import sys

from cases import FRANCE, PERSON_REQUEST, WEATHER, case, main, refused
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=f"{sys.argv[1]}/v1", api_key="none")
model = OpenAIChatModel("llm", provider=provider)
SETTINGS = {"temperature": 0.0, "max_tokens": 200}


class Person(BaseModel):
    name: str
    age: int


def agent(**options):
    return Agent(model, model_settings=SETTINGS, **options)


@case
def chat():
    made = agent().run_sync(FRANCE)
    return {"text": made.output, "usage": [made.usage.input_tokens, made.usage.output_tokens]}


@case
def chat_stream():
    import asyncio

    async def stream():
        async with agent().run_stream(FRANCE) as run:
            return [piece async for piece in run.stream_text(delta=True, debounce_by=None)]

    pieces = asyncio.run(stream())
    return {"text": "".join(pieces), "pieces": len(pieces)}


@case
def native_output():
    return agent(output_type=NativeOutput(Person)).run_sync(PERSON_REQUEST).output.model_dump()


@case
def tool_output():
    return agent(output_type=ToolOutput(Person)).run_sync(PERSON_REQUEST).output.model_dump()


@case
def prompted_output():
    return agent(output_type=PromptedOutput(Person)).run_sync(PERSON_REQUEST).output.model_dump()


@case
def tool():
    """The model must call a tool because its answer is one; what it says is the other tool's."""
    called = []
    helper = agent(output_type=ToolOutput(Person))

    @helper.tool_plain
    def get_weather(city: str) -> str:
        """Return the weather in a city."""
        called.append(city)
        return "Sunny"

    from pydantic_ai.usage import UsageLimits

    error = refused(
        lambda: helper.run_sync(WEATHER, usage_limits=UsageLimits(request_limit=3)).output
    )
    return {"called": called, "outcome": error}


@case
def wrong_model():
    other = OpenAIChatModel("gpt-4o", provider=provider)
    return refused(lambda: Agent(other).run_sync(FRANCE))


main()
