"""What the time of a run is: of a batch or of a whole trace, measured without the profiler or with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from analyzer.insight.ledger import UNTRACED
from analyzer.schema.digest import Digest
from analyzer.schema.evidence import Evidence, Quantity

_BACKWARD = re.compile(r"backward", re.IGNORECASE)
_VERSIONS = ("torch", "cuda", "hip", "cudnn", "driver", "timm")
_OF_A_MODEL = ("attention", "matmul", "moe", "convolution", "depthwise")


def names_of(runs: Sequence[Digest]) -> tuple[str, ...]:
    """Return one name per run; the same name given twice gets a number behind it."""
    seen: Counter[str] = Counter()
    taken = {run.name for run in runs}
    out = []
    for run in runs:
        seen[run.name] += 1
        name = run.name if seen[run.name] == 1 else f"{run.name}-{seen[run.name]}"
        while name != run.name and name in taken:
            seen[run.name] += 1
            name = f"{run.name}-{seen[run.name]}"
        taken.add(name)
        out.append(name)
    return tuple(out)


def is_untraced(run: Digest) -> bool:
    """Tell whether the time of ``run`` was measured without the profiler."""
    return run.ledger.basis == UNTRACED


def batch_time(run: Digest) -> Quantity:
    """Return the time of one batch in ms, with its interval where it has one; of the whole trace where it names no steps."""
    total = run.ledger
    low, high = (total.low_us, total.high_us) if total.high_us is not None else (None, None)
    return Quantity(
        total.total_us / 1e3,
        "ms",
        Evidence.MEASURED,
        None if low is None else low / 1e3,
        None if high is None else high / 1e3,
        source=total.basis,
    )


def per_image(run: Digest) -> tuple[Quantity, Quantity]:
    """Return ms per image and images per second of one batch, without a value where the size of a batch is not known."""
    time, size = batch_time(run), run.batch_size
    if not size or not run.batches or not time.value:
        why = "the size of a batch is not known" if not size else "the time of a whole trace is not that of a batch"
        return Quantity.missing("ms", why), Quantity.missing("images/s", why)
    source = f"{time.source}; divided by {size} images"
    low, high = (time.low, time.high) if time.low and time.high else (None, None)
    least, most = (None if end is None else end / size for end in (low, high))
    each = Quantity(time.value / size, "ms", Evidence.DERIVED, least, most, source)
    rate = 1e3 * size
    fast = Quantity(
        rate / time.value, "images/s", Evidence.DERIVED, rate / high if high else None, rate / low if low else None, source
    )
    return each, fast


def is_training(run: Digest) -> bool | None:
    """Tell whether the trace holds backward operators or an optimizer; None where it holds no products of a model either."""
    if run.facts is not None:
        return False
    ops = run.groups["op"].astype(str)
    if run.groups["kind"].eq("optimizer").any() or ops.str.contains(_BACKWARD).any():
        return True
    return False if run.groups["kind"].isin(_OF_A_MODEL).any() else None


def training_against_inference(base: Digest, run: Digest) -> str:
    """Return what two runs are where one trains and the other does not, empty where both do the same or nobody knows."""
    training = [is_training(side) for side in (base, run)]
    if None in training or training[0] == training[1]:
        return ""
    words = ["training" if each else "inference" for each in training]
    return f"other work: {base.label} is {words[0]}, {run.label} is {words[1]}"


def same_model(a: Digest, b: Digest) -> bool:
    """Tell whether both runs are known to run one model; bare traces do not say what they ran."""
    return a.facts is not None and b.facts is not None and a.facts.model.name == b.facts.model.name and a.label == b.label


def same_input(a: Digest, b: Digest) -> bool:
    """Tell whether both runs take batches of the same size and images."""
    return (a.batch_size, a.image_size) == (b.batch_size, b.image_size)


def same_images(a: Digest, b: Digest) -> bool:
    """Tell whether images of both runs are the same amount of work, however many there are in a batch."""
    return a.image_size == b.image_size and bool(a.batch_size and b.batch_size)


def has_shapes(run: Digest) -> bool:
    """Tell whether the trace has shapes of operands."""
    return bool(run.groups["shapes"].astype(str).str.len().gt(0).any())


def device_name(run: Digest) -> str:
    """Return what the device of a run is called: the product by its datasheet, else the name that it gives itself."""
    return run.hardware.name if run.hardware.key else run.device.name


def family_of_work(run: Digest) -> str:
    """Return ``vit`` or ``cnn``; of a bare trace by what it runs: attention, else convolutions; empty where it has neither."""
    if run.family:
        return run.family
    kinds = set(run.kinds.loc[run.kinds["time_us"] > 0, "kind"].astype(str))
    if "attention" in kinds:
        return "vit"
    return "cnn" if kinds & {"convolution", "depthwise"} else ""


def settings_of(run: Digest) -> tuple[tuple[str, str], ...]:
    """Return the settings and versions under which a run is held against another, each with its name."""
    facts = run.facts
    out = [
        ("batch", str(run.batch_size)),
        ("", f"{run.image_size} px") if run.image_size else ("image size", "unknown"),
        ("", run.dtype),
        ("timed", "without the profiler" if is_untraced(run) else "with the profiler"),
    ]
    if facts is not None:
        s = facts.settings
        out += [("layout", s.memory_format or "unknown"), ("", s.execution or f"compile {s.compile}")]
        out += [("autocast", "on" if s.autocast else "off"), ("input", s.input)]
        out += [("matmul precision", s.matmul_precision or "unknown"), ("threads", str(s.threads))]
        out += [("TF32 in convolutions", str(s.convolution_tf32)), ("cudnn.benchmark", str(s.cudnn_benchmark))]
        out += [(name, facts.versions[name]) for name in _VERSIONS if name in facts.versions]
    return tuple(out)
