"""A model under the real Triton that does what its prompt says, and counts what is in it at once.

The prompt is JSON, all of it optional: `words` to say, one event each; `pause_s` after each; after
them `error`, with `code` as the backend's TritonError names it. What it says is how many requests
were in it then.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from forge.serving.render import config_pbtxt
from forge.serving.spec import write_spec
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
        self.inside = 0

    def execute(self, requests):
        for request in requests:
            prompt = triton.get_input_tensor_by_name(request, "text_input").as_numpy()
            wanted = json.loads(prompt.reshape(-1)[0])
            with self.lock:
                self.inside += 1
            self.pool.submit(self.say, request.get_response_sender(), wanted)

    def say(self, sender, wanted):
        said, reason = 0, "stop"
        for _ in range(wanted.get("words", 1)):
            if sender.is_cancelled():
                reason = "cancelled"
                break
            said += 1
            sender.send(triton.InferenceResponse([text("text_output", f"{self.inside} ")]))
            time.sleep(wanted.get("pause_s", 0))
        with self.lock:  # before the end is said: the next one may come from then on
            self.inside -= 1
        if "error" in wanted:
            code = getattr(triton.TritonError, wanted.get("code", "INTERNAL"))
            response = triton.InferenceResponse(error=triton.TritonError(wanted["error"], code))
        else:
            response = triton.InferenceResponse([
                text("text_output", ""), number("output_tokens", said),
                number("input_tokens", 1), text("finish_reason", reason),
            ])
        sender.send(response, flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

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
    (version.parent / "config.pbtxt").write_text(config_pbtxt(spec, None))
    (folder / "runtime").mkdir()
    shutil.copyfile(LOCK, folder / "runtime" / "requirements.lock")
    write_spec(folder, spec)
    return folder
