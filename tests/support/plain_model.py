"""A model under the real Triton that does what its prompt says, and counts what is in it at once.

The prompt is JSON, all of it optional: `prefill_s` to compute it, one prompt at a time as an engine
does; `words` to say, one event each; `pause_s` after each; after them `error`, with `code` as the
backend's TritonError names it. What it says is how many requests were in it then. A cancel by
request_id ends a request after its step, and one that was not begun is not computed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from forge.serving.repository.render import config_pbtxt
from forge.serving.repository.spec import write_spec
from tests.support.serving import LOCK
from tests.support.spec import a_spec

__all__ = ["plain_tree"]

MODEL = """
import json, os, site, threading, time
site.addsitedir(os.environ["FORGE_SITE_PACKAGES"])
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        self.pool = ThreadPoolExecutor(256)
        self.lock = threading.Lock()
        self.engine = threading.Lock()
        self.inside = 0
        self.running = {}

    def execute(self, requests):
        for request in requests:
            prompt = given(request, "text_input")
            if given(request, "input_format") == "cancel":
                self.running.get(prompt, threading.Event()).set()
                self.end(request.get_response_sender(), 0, "cancelled")
                continue
            wanted, identity = json.loads(prompt), given(request, "request_id")
            self.running[identity] = cancelled = threading.Event()
            with self.lock:
                self.inside += 1
            self.pool.submit(
                self.say, request.get_response_sender(), wanted, identity, cancelled
            )

    def say(self, sender, wanted, identity, cancelled):
        said, reason = 0, "stop"
        if "prefill_s" in wanted:
            with self.engine:
                if not cancelled.is_set():
                    time.sleep(wanted["prefill_s"])
        for _ in range(wanted.get("words", 1)):
            if cancelled.is_set() or sender.is_cancelled():
                reason = "cancelled"
                break
            said += 1
            sender.send(triton.InferenceResponse([text("text_output", f"{self.inside} ")]))
            time.sleep(wanted.get("pause_s", 0))
        with self.lock:  # before the end is said: the next one may come from then on
            self.inside -= 1
        self.running.pop(identity, None)
        if "error" in wanted:
            code = getattr(triton.TritonError, wanted.get("code", "INTERNAL"))
            response = triton.InferenceResponse(error=triton.TritonError(wanted["error"], code))
            sender.send(response, flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        else:
            self.end(sender, said, reason)

    def end(self, sender, said, reason):
        response = triton.InferenceResponse([
            text("text_output", ""), number("output_tokens", said),
            number("input_tokens", 1), text("finish_reason", reason),
        ])
        sender.send(response, flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

def given(request, name):
    tensor = triton.get_input_tensor_by_name(request, name)
    return "" if tensor is None else tensor.as_numpy().reshape(-1)[0].decode()

def text(name, value):
    return triton.Tensor(name, np.array([value.encode()], dtype=np.object_))

def number(name, value):
    return triton.Tensor(name, np.array([value], dtype=np.int32))
"""


def plain_tree(folder: Path) -> Path:
    """A tree as a bundle's, with this model in it."""
    spec = a_spec()
    version = folder / "models" / spec.model / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version.parent / "config.pbtxt").write_text(_with_request_id(config_pbtxt(spec)))
    (folder / "runtime").mkdir()
    shutil.copyfile(LOCK, folder / "runtime" / "requirements.lock")
    write_spec(folder, spec)
    return folder


def _with_request_id(config: str) -> str:
    """Declare the input of cancels also where the template of this bundle does not."""
    declared = '{ name: "request_id", data_type: TYPE_STRING, dims: [ 1 ], optional: true },'
    return config if "request_id" in config else config.replace("input [", f"input [\n  {declared}")
