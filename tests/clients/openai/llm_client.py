"""Simon Willison's llm: its command line, with the device as an extra OpenAI model."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cases import FRANCE, PERSON, PERSON_REQUEST, case, main

LLM = str(Path(sys.executable).with_name("llm"))
folder = tempfile.mkdtemp(prefix="forge-llm-")
MODELS = {
    "forge": {"model_name": "llm", "supports_schema": True, "supports_tools": True},
    "forge-text": {"model_name": "llm", "completion": True},
    "forge-wrong": {"model_name": "gpt-4o"},
}
API = {"api_base": f"{sys.argv[1]}/v1"}
# JSON is YAML.
Path(folder, "extra-openai-models.yaml").write_text(
    json.dumps([{"model_id": name, **API, **one} for name, one in MODELS.items()])
)
SETTINGS = os.environ | {"LLM_USER_PATH": folder, "OPENAI_API_KEY": "none", "NO_COLOR": "1"}


def llm(*arguments):
    return subprocess.run(
        [LLM, *arguments],
        env=SETTINGS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def said(*arguments):
    done = llm(*arguments)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


OPTIONS = ("-o", "temperature", "0", "-o", "max_tokens", "200")


@case
def chat():
    text = said("-m", "forge", "--no-stream", *OPTIONS, FRANCE)
    [logged] = json.loads(said("logs", "--json", "-n", "1"))
    return {"text": text, "usage": [logged["input_tokens"], logged["output_tokens"]]}


@case
def chat_stream():
    return {"text": said("-m", "forge", *OPTIONS, FRANCE)}


@case
def conversation():
    said("-m", "forge", *OPTIONS, "My name is Zebedee.")
    return said("-m", "forge", "-c", *OPTIONS, "What is my name?")


@case
def system():
    return said("-m", "forge", "-s", "Be brief.", *OPTIONS, FRANCE)


@case
def completion():
    return said(
        "-m",
        "forge-text",
        "-o",
        "temperature",
        "0",
        "-o",
        "max_tokens",
        "8",
        "The capital of France is",
    )


@case
def json_schema():
    return said("-m", "forge", "--schema", json.dumps(PERSON), *OPTIONS, PERSON_REQUEST)


@case
def tools():
    """The model may call the tool or not; the conversation must end without an error."""
    return said("-m", "forge", "-T", "llm_version", "--chain-limit", "2", *OPTIONS, "Say hello.")


@case
def wrong_model():
    done = llm("-m", "forge-wrong", FRANCE)
    return {"code": done.returncode, "text": done.stderr}


main()
