"""LiteLLM, with its providers `openai` and `hosted_vllm`."""

import json
import sys

import litellm
from cases import COUNT, FRANCE, PERSON, PERSON_REQUEST, WEATHER, WEATHER_TOOL, case, main, refused
from pydantic import BaseModel

URL = f"{sys.argv[1]}/v1"


def ask(text, model="openai/llm", **options):
    options = {"temperature": 0, "max_tokens": 32, "num_retries": 0} | options
    return litellm.completion(
        model=model,
        api_base=URL,
        api_key="none",
        messages=[{"role": "user", "content": text}],
        **options,
    )


class Person(BaseModel):
    name: str
    age: int


@case
def chat():
    made = ask(FRANCE)
    return {
        "text": made.choices[0].message.content,
        "usage": made.usage.model_dump(),
        "reason": made.choices[0].finish_reason,
    }


@case
def chat_as_vllm():
    return ask(FRANCE, "hosted_vllm/llm").choices[0].message.content


@case
def chat_stream():
    chunks = list(ask(FRANCE, stream=True, stream_options={"include_usage": True}))
    pieces = [one.choices[0].delta.content or "" for one in chunks if one.choices]
    return {
        "text": "".join(pieces),
        "pieces": len([one for one in pieces if one]),
        "usage": [one.usage.model_dump() for one in chunks if getattr(one, "usage", None)],
    }


@case
def json_schema():
    return ask(PERSON_REQUEST, response_format=Person, max_tokens=200).choices[0].message.content


@case
def json_schema_as_vllm():
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    return (
        ask(PERSON_REQUEST, "hosted_vllm/llm", response_format=schema, max_tokens=200)
        .choices[0]
        .message.content
    )


@case
def tool():
    forced = {"type": "function", "function": {"name": "get_weather"}}
    made = ask(WEATHER, tools=[WEATHER_TOOL], tool_choice=forced, max_tokens=100)
    [call] = made.choices[0].message.tool_calls
    return {"name": call.function.name, "arguments": json.loads(call.function.arguments)}


@case
def stop():
    made = ask(COUNT, max_tokens=40, stop=["4"])
    return {"text": made.choices[0].message.content, "reason": made.choices[0].finish_reason}


@case
def several_choices():
    return [one.message.content for one in ask(COUNT, n=2, max_tokens=6, temperature=1).choices]


@case
def logprobs():
    made = ask(FRANCE, logprobs=True, top_logprobs=1, max_tokens=8)
    content = made.choices[0].logprobs.content
    return {
        "text": made.choices[0].message.content,
        "tokens": [one.token for one in content],
        "tops": [len(one.top_logprobs) for one in content],
    }


@case
def completion():
    made = litellm.text_completion(
        model="text-completion-openai/llm",
        api_base=URL,
        api_key="none",
        prompt="The capital of France is",
        max_tokens=8,
        temperature=0,
    )
    return made.choices[0].text


@case
def responses():
    made = litellm.responses(
        model="openai/llm", api_base=URL, api_key="none", input=FRANCE, max_output_tokens=32
    )
    return made.output[-1].content[0].text


@case
def wrong_model():
    return refused(lambda: ask(FRANCE, "openai/gpt-4o"))


main()
