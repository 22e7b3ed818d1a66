"""What is here for a plan: packages, the device, counters, a compiler. ``python -m benchmarks.evidence.probe`` asks torch."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

PACKAGES = (
    ("torch", "torch"), ("torchvision", "torchvision"), ("timm", "timm"), ("msgspec", "msgspec"), ("numpy", "numpy"),
    ("pandas", "pandas"), ("psutil", "psutil"), ("pynvml", "nvidia-ml-py"), ("yaml", "pyyaml"), ("rich", "rich"),
)  # fmt: skip
"""What the steps import (torchvision because timm does), and the name to install it by.

Hydra and matplotlib are for reports, which are made elsewhere.
"""
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a plan meets. ``lacks``: why a need is not met, by its key; ``why_not``: why there is no such device."""

    type: str
    name: str = ""
    memory_bytes: int = 0
    why_not: str = ""
    lacks: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def missing_packages(packages: Sequence[tuple[str, str]] = PACKAGES) -> list[str]:
    """Return the names by which packages that are not here can be installed."""
    return [name for module, name in packages if importlib.util.find_spec(module) is None]


def missing_line(missing: Sequence[str]) -> str:
    """Return the one line that says what is missing and how to get it."""
    names = " ".join(missing)
    return f"error: {len(missing)} packages are missing: {', '.join(missing)}; install them: python3 -m pip install {names}"


def ask(device: str) -> Surroundings:
    """Return what is here for ``device`` (auto, cpu, cuda or cuda:N); asked in a process of its own, which torch ends with."""
    from analyzer.capture.privacy import masked_text  # not above: what it imports may be among the missing packages

    command = [sys.executable, "-m", "benchmarks.evidence.probe", device]
    kind, said = "cpu" if device == "cpu" else "cuda", ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        said = masked_text((done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1])[:300]
        return Surroundings(**json.loads(done.stdout.strip().splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return Surroundings(kind, why_not=f"the device did not answer within {LIMIT_S:.0f} s")
    except (OSError, ValueError, IndexError, TypeError) as error:
        return Surroundings(kind, why_not=f"torch could not be asked for the device: {said or error}")


def look(device: str) -> Surroundings:
    """Return what is here; imports torch."""
    import torch

    from analyzer.capture.environment import device_facts, resolve_device, versions
    from analyzer.errors import AnalyzerError

    try:
        found = resolve_device(device)
    except AnalyzerError as error:
        return Surroundings("cpu" if device == "cpu" else "cuda", why_not=error.message)
    import msgspec

    facts = device_facts(found)
    on_gpu = found.type == "cuda"
    lacks = {
        "ncu": _without_counters(str(found)) if on_gpu else "counters are those of an NVIDIA GPU",
        "compiler": _without_compiler(on_gpu=on_gpu),
    }
    memory = torch.cuda.mem_get_info(found)[0] if on_gpu else facts.memory_bytes or 0
    return Surroundings(
        found.type, facts.name, int(memory), "", {need: why for need, why in lacks.items() if why}, msgspec.to_builtins(facts),
        versions(),
    )  # fmt: skip


def _without_counters(device: str) -> str:
    """Return why counters cannot be read, as far as that is known before one is tried; empty where they may be."""
    from analyzer.capture.ncu import provider
    from analyzer.capture.presets import resolve
    from analyzer.schema.settings import CaptureSettings

    prepared = provider.prepare("auto", resolve(CaptureSettings(device=device)))
    return prepared.obstacle.reason if prepared is not None and prepared.obstacle is not None else ""


def _without_compiler(*, on_gpu: bool) -> str:
    names = ("cc", "gcc", "clang") if on_gpu else ("c++", "g++", "clang++")
    lacking = [] if any(map(shutil.which, names)) else [f"no compiler ({', '.join(names)})"]
    if on_gpu and importlib.util.find_spec("triton") is None:
        lacking.append("no Triton")
    return " and ".join(lacking)


def main() -> None:
    """Print what is here as one line of JSON."""
    print(json.dumps(asdict(look(sys.argv[1] if len(sys.argv) > 1 else "auto"))))


if __name__ == "__main__":
    main()
