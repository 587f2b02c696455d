"""The versions of a machine that an engine depends on, and how two of them differ. Pure.

A driver upgrade, another JetPack or another TensorRT can end an engine that served for months. What
is not known now is not a difference: a driver that does not answer has not changed.
"""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel, ConfigDict

from forge.device.hardware.inventory import Hardware

__all__ = ["SystemVersions", "differences"]


class SystemVersions(BaseModel):
    """What a machine had at some time; None for what was not known then.

    Attributes:
        driver: of NVIDIA.
        l4t: Jetson Linux release.
        runtime: exact versions of runtimes that the system provides, as TensorRT on a Jetson.
        gpus: names, in nvidia-smi's order; empty where it is known that there is none.
        system: the operating system's name and version.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    driver: str | None = None
    l4t: str | None = None
    runtime: dict[str, str] = {}
    gpus: tuple[str, ...] | None = None
    system: str | None = None

    @classmethod
    def of(cls, hardware: Hardware) -> SystemVersions:
        """Return what the machine said last."""
        sure = hardware.nvidia != "unknown" and hardware.complete
        return cls(
            driver=hardware.driver,
            l4t=hardware.l4t,
            runtime=hardware.runtime,
            gpus=tuple(map(str, hardware.gpus)) if sure else None,
            system=None if hardware.system == "unknown" else hardware.system,
        )

    def known_since(self, before: SystemVersions) -> SystemVersions:
        """Return these versions, and the earlier ones where these are not known."""
        return SystemVersions(
            driver=self.driver or before.driver,
            l4t=self.l4t or before.l4t,
            runtime=before.runtime | self.runtime,
            gpus=before.gpus if self.gpus is None else self.gpus,
            system=self.system or before.system,
        )


def differences(before: SystemVersions, now: SystemVersions) -> tuple[str, ...]:
    """Return a phrase for each version that is known to be another one: `L4T 38.4.0 → 39.2.0`."""
    pairs = [
        ("NVIDIA driver", before.driver, now.driver),
        ("L4T", before.l4t, now.l4t),
        *((_title(name), old, now.runtime.get(name)) for name, old in before.runtime.items()),
        ("system", before.system, now.system),
    ]
    found = [f"{what} {old} → {new}" for what, old, new in pairs if old and new and old != new]
    if before.gpus is not None and now.gpus is not None and _other(before.gpus, now.gpus):
        found.append(f"GPU {_names(before.gpus)} → {_names(now.gpus)}")
    return tuple(found)


def _other(before: tuple[str, ...], now: tuple[str, ...]) -> bool:
    return Counter(before) != Counter(now)


def _names(gpus: tuple[str, ...]) -> str:
    return ", ".join(gpus) or "none"


def _title(runtime: str) -> str:
    return {"tensorrt": "TensorRT"}.get(runtime, runtime)
