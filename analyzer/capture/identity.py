"""What identifies the device and the software here: ``python -m analyzer.capture.identity``, so that sweeps import no torch.

It reads one JSON line from stdin (``device``, ``path``) and writes a ``points.Identity``, or the error, to the file ``path``.
"""

from __future__ import annotations

import torch

from analyzer.capture.answers import serve
from analyzer.capture.environment import device_facts, device_uuid, versions
from analyzer.capture.ncu import provider as ncu
from analyzer.capture.permission import Obstacle
from analyzer.capture.points import Identity
from analyzer.capture.presets import DTYPES, dtype_name, resolve
from analyzer.schema.settings import CaptureSettings

_SHORT_FORMS = ("fp32", "float", "bf16", "fp16", "half")


def describe(device: str) -> Identity:
    """Return the facts and presets of ``device``.

    Raises:
        DeviceError: there is no such device.
    """
    presets = resolve(CaptureSettings(device=device))
    on_gpu = presets.device.type == "cuda"
    uuid = device_uuid(presets.device)
    counting = ncu.prepare("auto", presets)
    obstacle = Obstacle(f"it needs an NVIDIA GPU, and {presets.device} is none", "") if counting is None else counting.obstacle
    return Identity(
        facts=device_facts(presets.device),
        lock=f"gpu-{uuid or presets.device.index}" if on_gpu else "cpu",
        versions=versions(),
        batch_size=presets.batch_size,
        image_size=presets.image_size,
        dtype=presets.dtype,
        threads=None if on_gpu else torch.get_num_threads(),
        short_forms={text: dtype_name(text) for text in (*_SHORT_FORMS, *DTYPES)},
        no_counters=(obstacle.reason, obstacle.hint) if obstacle else ("", ""),
    )


def main() -> None:
    """Run the process."""
    serve(lambda request: describe(str(request["device"])))


if __name__ == "__main__":
    main()
