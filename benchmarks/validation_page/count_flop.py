"""``python -m benchmarks.validation_page.count_flop``: what torch's FlopCounterMode counts, into a file.

One image on the meta device, so nothing is computed. Attention runs as the two products that it consists of: the counter knows
no fused attention of a CPU.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

COUNTS = Path(__file__).with_name("flop_counts.json")
MODELS = {
    "vit_tiny_patch16_224": (224,),
    "resnet18": (224,),
    "vit_base_patch16_224": (224, 512, 1024),
    "convnext_base": (224, 512, 1024),
    "resnet50": (224,),
    "convnext_tiny": (224,),
    "swin_tiny_patch4_window7_224": (224,),
    "samvit_base_patch16": (1024,),
}
SIZED = ("vit_", "swin_", "samvit_")
"""Models that are made for one size of image."""


def count(model: str, image_size: int) -> int:
    """Return the FLOP of one image by FlopCounterMode: products and convolutions, a multiply-add being 2."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from analyzer.capture.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    import timm

    sized: dict[str, Any] = {"img_size": image_size} if model.startswith(SIZED) else {}
    with torch.device("meta"), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        timm.create_model(model, **sized).eval()(torch.empty(1, 3, image_size, image_size))
    return int(counter.get_total_flops())


def main() -> int:
    """Count all models and write the file."""
    counts = {model: {str(size): count(model, size) for size in sizes} for model, sizes in MODELS.items()}
    found = {"torch": version("torch").partition("+")[0], "timm": version("timm"), "flop": counts}
    COUNTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
