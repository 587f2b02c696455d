"""OpenAI's Python library."""

import asyncio
import json
import sys

import openai
from cases import (
    COUNT,
    FRANCE,
    PERSON,
    PERSON_REQUEST,
    WEATHER,
    WEATHER_TOOL,
    case,
    main,
    refused,
)
from pydantic import BaseModel

URL = f"{sys.argv[1]}/v1"
client = openai.OpenAI(base_url=URL, api_key="none", max_retries=2, timeout=60)


def ask(text, **options):
    options = {"model": "llm", "max_tokens": 32, "temperature": 0} | options
    return client.chat.completions.create(messages=[{"role": "user", "content": text}], **options)


@case
def chat():
    made = ask(FRANCE)
    return {"text": made.choices[0].message.content, "usage": made.usage.model_dump()}


@case
def chat_stream():
    chunks = list(ask(FRANCE, stream=True, stream_options={"include_usage": True}))
    texts = [one.choices[0].delta.content or "" for one in chunks if one.choices]
    usage = [one.usage.model_dump() for one in chunks if one.usage]
    return {"text": "".join(texts), "pieces": len(texts), "usage": usage}


@case
def chat_async():
    async def several():
        async with openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=5) as one:
            made = await asyncio.gather(
                *(
                    one.chat.completions.create(
                        model="llm",
                        messages=[{"role": "user", "content": FRANCE}],
                        max_tokens=16,
                    )
                    for _ in range(6)
                )
            )
        return [each.choices[0].message.content for each in made]

    return asyncio.run(several())


@case
def max_completion_tokens():
    made = client.chat.completions.create(
        model="llm", messages=[{"role": "user", "content": COUNT}], max_completion_tokens=5
    )
    return {"tokens": made.usage.completion_tokens, "reason": made.choices[0].finish_reason}


@case
def json_object():
    return (
        ask(PERSON_REQUEST, max_tokens=200, response_format={"type": "json_object"})
        .choices[0]
        .message.content
    )


@case
def json_schema():
    schema = {"name": "person", "schema": PERSON, "strict": True}
    made = ask(
        PERSON_REQUEST,
        max_tokens=200,
        response_format={"type": "json_schema", "json_schema": schema},
    )
    return made.choices[0].message.content


class Person(BaseModel):
    name: str
    age: int


@case
def parsed():
    made = client.chat.completions.parse(
        model="llm",
        messages=[{"role": "user", "content": PERSON_REQUEST}],
        response_format=Person,
        max_tokens=200,
    )
    return made.choices[0].message.parsed.model_dump()


@case
def json_schema_stream():
    with client.chat.completions.stream(
        model="llm",
        messages=[{"role": "user", "content": PERSON_REQUEST}],
        response_format=Person,
        max_tokens=200,
    ) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion().choices[0].message.parsed.model_dump()


FORCED = {"type": "function", "function": {"name": "get_weather"}}


@case
def tool():
    """A forced call, and the answer to its result."""
    made = ask(WEATHER, tools=[WEATHER_TOOL], tool_choice=FORCED, max_tokens=100)
    message = made.choices[0].message
    [call] = message.tool_calls
    messages = [
        {"role": "user", "content": WEATHER},
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees"},
    ]
    after = client.chat.completions.create(
        model="llm",
        messages=messages,
        tools=[WEATHER_TOOL],
        tool_choice="none",
        max_tokens=32,
        temperature=0,
    )
    return {
        "id": call.id,
        "type": call.type,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "reason": made.choices[0].finish_reason,
        "answer": after.choices[0].message.content,
        "after_reason": after.choices[0].finish_reason,
    }


@case
def tool_required():
    made = ask(WEATHER, tools=[WEATHER_TOOL], tool_choice="required", max_tokens=100)
    [call] = made.choices[0].message.tool_calls
    return {"name": call.function.name, "arguments": json.loads(call.function.arguments)}


@case
def tool_auto():
    """The model decides, so any answer is right that is either text or a call."""
    made = ask(WEATHER, tools=[WEATHER_TOOL], max_tokens=64).choices[0]
    calls = made.message.tool_calls or []
    return {
        "text": made.message.content,
        "calls": [one.function.name for one in calls],
        "reason": made.finish_reason,
    }


@case
def tool_stream():
    with client.chat.completions.stream(
        model="llm",
        messages=[{"role": "user", "content": WEATHER}],
        tools=[WEATHER_TOOL],
        tool_choice=FORCED,
        max_tokens=100,
    ) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    [call] = choice.message.tool_calls
    return {
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "reason": choice.finish_reason,
    }


@case
def stop():
    whole = ask(COUNT, max_tokens=40)
    cut = ask(COUNT, max_tokens=40, stop=[" 4", "4"])
    return {
        "whole": whole.choices[0].message.content,
        "text": cut.choices[0].message.content,
        "reason": cut.choices[0].finish_reason,
        "tokens": cut.usage.completion_tokens,
        "whole_tokens": whole.usage.completion_tokens,
    }


@case
def several_choices():
    made = ask(COUNT, n=3, max_tokens=6, temperature=1.0, seed=7)
    return {
        "indexes": [one.index for one in made.choices],
        "tokens": made.usage.completion_tokens,
        "texts": [one.message.content for one in made.choices],
    }


@case
def seed():
    return [
        ask(COUNT, seed=number, temperature=1.5, max_tokens=12).choices[0].message.content
        for number in (1, 1, 2)
    ]


@case
def logprobs():
    made = ask(FRANCE, logprobs=True, top_logprobs=1, max_tokens=8)
    content = made.choices[0].logprobs.content
    return {
        "text": made.choices[0].message.content,
        "tokens": [one.token for one in content],
        "logprobs": [one.logprob for one in content],
        "best": [one.top_logprobs[0].logprob for one in content],
        "tops": [len(one.top_logprobs) for one in content],
        "bytes": [one.bytes for one in content],
    }


@case
def completion():
    made = client.completions.create(
        model="llm", prompt="The capital of France is", max_tokens=8, temperature=0
    )
    return {"text": made.choices[0].text, "usage": made.usage.model_dump()}


@case
def completions_several_prompts():
    made = client.completions.create(
        model="llm",
        prompt=["The capital of France is", "The capital of Italy is"],
        max_tokens=8,
        temperature=0,
    )
    return [(one.index, one.text) for one in made.choices]


@case
def completion_echo_logprobs():
    prompt = "The capital of France is"
    made = client.completions.create(
        model="llm", prompt=prompt, max_tokens=1, echo=True, logprobs=1, temperature=0
    )
    one = made.choices[0]
    return {
        "prompt": prompt,
        "text": one.text,
        "tokens": one.logprobs.tokens,
        "logprobs": one.logprobs.token_logprobs,
        "tops": one.logprobs.top_logprobs,
    }


@case
def models():
    return [one.id for one in client.models.list()]


@case
def retrieve_model():
    return client.models.retrieve("llm").id


@case
def wrong_model():
    return refused(lambda: ask(FRANCE, model="gpt-4o"))


@case
def too_long():
    try:
        ask("word " * 5000)
    except openai.BadRequestError as error:
        return {"code": error.code, "param": error.param, "type": error.type, "text": error.message}
    return None


@case
def image_part():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    return refused(lambda: ask([{"type": "text", "text": "What is it?"}, image]))


@case
def responses():
    made = client.responses.create(model="llm", input=FRANCE, max_output_tokens=32, temperature=0)
    return {"text": made.output_text, "status": made.status, "usage": made.usage.model_dump()}


@case
def responses_stream():
    with client.responses.stream(
        model="llm", input=FRANCE, max_output_tokens=32, temperature=0
    ) as stream:
        kinds = [event.type for event in stream]
        return {"text": stream.get_final_response().output_text, "kinds": kinds}


@case
def responses_parsed():
    made = client.responses.parse(
        model="llm", input=PERSON_REQUEST, text_format=Person, max_output_tokens=200
    )
    return made.output_parsed.model_dump()


main()
