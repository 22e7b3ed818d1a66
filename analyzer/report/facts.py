"""The facts of the runs side by side, those that differ first."""

from __future__ import annotations

from analyzer.format import count, digits, size
from analyzer.report.attributed import attribution_fact
from analyzer.report.text import clean
from analyzer.schema.results import Analysis, Study

ABSENT = "–"


def environment(study: Study) -> list[tuple[str, tuple[str, ...], bool]]:
    """Return (fact, value per run, whether they differ); differing facts first, facts that no run has left out."""
    columns = [_facts(a) for a in study.analyses]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names:
        values = tuple(clean(column.get(name) or ABSENT, 160) for column in columns)
        if any(value != ABSENT for value in values):
            rows.append((name, values, len(set(values)) > 1))
    return sorted(rows, key=lambda row: not row[2])


def _facts(a: Analysis) -> dict[str, str]:
    d = a.device
    out = {
        "device": d.name,
        "vendor": d.vendor or "",
        "compute capability": d.compute_capability or "",
        "multiprocessors": _whole(d.sm_count),
        "cores / threads": f"{d.cores} / {d.threads}" if d.cores else "",
        "memory": _bytes(d.memory_bytes),
        "L1": _bytes(d.l1_bytes),
        "L2": _bytes(d.l2_bytes),
        "L3": _bytes(d.l3_bytes),
        "clock": _number(d.clock_mhz, "MHz"),
        "memory clock": _number(d.memory_clock_mhz, "MHz"),
        "power cap": _number(d.power_limit_w, "W"),
        "power default": _number(d.power_default_w, "W"),
        "element type": a.dtype,
        "window": a.window.source,
        "time with operator / with module": attribution_fact(a),
        "trace file": a.run.trace_name,
        "hardware counters": _counters(a),
    }
    return out | (_run_facts(a) if a.run.facts else {})


def _counters(a: Analysis) -> str:
    view = a.counters
    if view is None:
        return ""
    tool, caches = view.tool or "not told by what", f", {view.mode} caches" if view.mode else ""
    return f"{view.source} ({tool}{caches}){', refused' if view.refused else ''}"


def _run_facts(a: Analysis) -> dict[str, str]:
    facts = a.run.facts
    if facts is None:
        return {}
    model, settings = facts.model, facts.settings
    out = {
        "model": model.name,
        "factory": model.factory or "",
        "family": model.family,
        "parameters": count(model.parameters),
        "attention backend": model.attention_backend or "",
        "attention asked for": settings.attention or "",
        "input": "×".join(map(str, model.input_shape)),
        "batch size": count(settings.batch_size),
        "image size": f"{settings.image_size} px" if settings.image_size else "",
        "weights": clean(model.weights or ""),
        "untraced iterations of the first process": count(settings.iterations),
        "traced steps": count(settings.traced_steps),
        "processes": count(settings.repeats),
        "CPU threads": _whole(settings.threads),
        "seed": str(settings.seed),
        "matmul precision": settings.matmul_precision or "",
        "TF32 in convolutions": "" if settings.convolution_tf32 is None else str(settings.convolution_tf32).lower(),
        "autocast": "on: weights in float32" if settings.autocast else "off",
        "input lies on the": f"{settings.input}: each step copies it" if settings.input == "host" else settings.input,
        "memory format": settings.memory_format or "",
        "execution": settings.execution or "",
        "cudnn.benchmark": "" if settings.cudnn_benchmark is None else str(settings.cudnn_benchmark).lower(),
        "warm-up": f"{facts.warmup.iterations} iterations, {'steady' if facts.warmup.steady else 'not steady'}",
        "recorded": facts.created_utc,
    }
    return out | {f"version of {clean(name, 60)}": value for name, value in facts.versions.items()}


def _whole(value: int | None) -> str:
    return "" if value is None else count(value)


def _bytes(value: int | None) -> str:
    return "" if value is None else size(value)


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{digits(value, 4)} {unit}"
