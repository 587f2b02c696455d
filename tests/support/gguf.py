"""Hand-made GGUF files."""

import struct


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(*, architecture: str = "llama", kind: int = 3, version: int = 3, data: int = 40) -> bytes:
    """Metadata of every shape, one tensor of 64 elements; Q4_1 takes 40 bytes."""
    entries = [
        string("general.architecture") + struct.pack("<I", 8) + string(architecture),
        string("general.name") + struct.pack("<I", 8) + string("Tiny"),
        string("llama.block_count") + struct.pack("<II", 4, 1),
        string("general.quantized") + struct.pack("<I?", 7, True),
        string("tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b"),
        string("tokenizer.scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<ff", 1, 2),
    ]
    tensor = string("token_embd") + struct.pack("<IQQ", 2, 32, 2) + struct.pack("<IQ", kind, 0)
    head = b"GGUF" + struct.pack("<IQQ", version, 1, len(entries)) + b"".join(entries) + tensor
    return head + bytes(-len(head) % 32) + bytes(data)
