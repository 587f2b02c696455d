"""Write the tokenizer of a GGUF file as Hugging Face has it: GGUF OUTPUT TOOLS.

TOOLS is forge/builders/tools; whoever compares its token ids with the device's compares two
independent ways to read the file: that of `tokenizers` and that of OpenVINO.
"""

import json
import sys
from pathlib import Path

sys.path.append(sys.argv[3])

from gguf import GGUFReader
from gguf_tokenizer import convert

reader = GGUFReader(sys.argv[1])
metadata = {
    name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.")
}
made = convert(metadata)
output = Path(sys.argv[2])
output.mkdir(parents=True)
config = {**made.config, "chat_template": made.templates.get("default")}
(output / "tokenizer.json").write_text(json.dumps(made.tokenizer))
(output / "tokenizer_config.json").write_text(json.dumps(config))
(output / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 49152}))
