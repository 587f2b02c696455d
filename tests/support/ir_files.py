"""Small OpenVINO IR files: constants, decompression, and one node that reads each weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np

KINDS = {"float32": "f32", "float16": "f16", "uint8": "u8", "int8": "i8", "int64": "i64"}


class IrFile:
    """Collects layers; weights are in the order in which they are added."""

    def __init__(self) -> None:
        self._layers: list[str] = ['<layer id="0" name="input_ids" type="Parameter"/>']
        self._edges: list[str] = []
        self._data = bytearray(b"\0" * 3)  # weights need not be aligned
        self._count = 1

    def write(self, folder: Path) -> None:
        """Write openvino_model.xml and openvino_model.bin."""
        text = f"<net><layers>{''.join(self._layers)}</layers><edges>{''.join(self._edges)}</edges>"
        (folder / "openvino_model.xml").write_text(f"{text}</net>")
        (folder / "openvino_model.bin").write_bytes(self._data)

    def plain(self, name: str, values: np.ndarray) -> None:
        """Add a weight of floating numbers."""
        self._read(self.node("Convert", self.constant(name, values), target="f32"))

    def bfloat16(self, name: str, values: np.ndarray) -> None:
        """Add a weight of the upper halves of float32, rounded to the nearest."""
        data = ((values.astype(np.float32).view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
        self._read(self.node("Convert", self._stored(name, "bf16", values.shape, data.tobytes())))

    def grouped(
        self,
        name: str,
        codes: np.ndarray,
        scales: np.ndarray,
        zeros: np.ndarray | None = None,
        *,
        packed: str = "",
    ) -> None:
        """Add a weight of codes [rows, groups, size] with scales; `packed`: u4 or i4."""
        if packed:
            halves = codes.astype(np.uint8).reshape(-1, 2) & 15
            data = (halves[:, 0] | halves[:, 1] << 4).astype(np.uint8).tobytes()
            number = self._stored(name, packed, codes.shape, data)
        else:
            number = self.constant(name, codes)
        number = self.node("Convert", number, target="f16")
        if zeros is not None:
            point = self.node("Convert", self.constant(f"{name}/zero_point", zeros), target="f16")
            number = self.node("Subtract", number, point)
        number = self.node("Multiply", number, self.constant(f"{name}/scale", scales))
        shape = np.array([codes.shape[0], codes.size // codes.shape[0]], np.int64)
        self._read(self.node("Reshape", number, self.constant(f"{name}/shape", shape)))

    def constant(self, name: str, values: np.ndarray) -> int:
        """Add a constant and return its number."""
        return self._stored(name, KINDS[values.dtype.name], values.shape, values.tobytes())

    def node(self, kind: str, *sources: int, target: str = "f32") -> int:
        """Add a layer that reads others and return its number."""
        number = self._add(f'name="{kind}" type="{kind}"><data destination_type="{target}"/')
        for port, source in enumerate(sources):
            self._edges.append(
                f'<edge from-layer="{source}" from-port="9" to-layer="{number}" to-port="{port}"/>'
            )
        return number

    def _stored(self, name: str, kind: str, shape: tuple[int, ...], data: bytes) -> int:
        place = len(self._data)
        self._data += data
        sizes = ", ".join(map(str, shape))
        return self._add(
            f'name="{name}" type="Const"><data element_type="{kind}" shape="{sizes}"'
            f' offset="{place}" size="{len(data)}"/'
        )

    def _read(self, number: int) -> None:
        self.node("MatMul", 0, number)

    def _add(self, rest: str) -> int:
        self._layers.append(f'<layer id="{self._count}" {rest}></layer>')
        self._count += 1
        return self._count - 1
