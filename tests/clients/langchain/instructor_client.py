"""instructor, in the modes that a server of OpenAI's API can have."""

import sys

import instructor
import openai
from cases import FRANCE, PERSON_REQUEST, case, main, refused
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)


class Person(BaseModel):
    name: str
    age: int


def ask(mode, text=PERSON_REQUEST, model="llm", kind=Person):
    asking = instructor.from_openai(client, mode=mode)
    return asking.chat.completions.create(
        model=model,
        response_model=kind,
        messages=[{"role": "user", "content": text}],
        max_tokens=200,
        temperature=0,
        max_retries=0,
    )


@case
def chat():
    return ask(instructor.Mode.TOOLS, FRANCE, kind=None).choices[0].message.content


@case
def tools():
    return ask(instructor.Mode.TOOLS).model_dump()


@case
def tools_strict():
    return ask(instructor.Mode.TOOLS_STRICT).model_dump()


@case
def json_mode():
    return ask(instructor.Mode.JSON).model_dump()


@case
def json_schema():
    return ask(instructor.Mode.JSON_SCHEMA).model_dump()


@case
def partial():
    asking = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    parts = list(
        asking.chat.completions.create_partial(
            model="llm",
            response_model=Person,
            messages=[{"role": "user", "content": PERSON_REQUEST}],
            max_tokens=200,
            temperature=0,
            max_retries=0,
        )
    )
    return {"parts": len(parts), "last": parts[-1].model_dump()}


@case
def wrong_model():
    return refused(lambda: ask(instructor.Mode.JSON_SCHEMA, model="gpt-4o"))


main()
