"""From a digest to what the gate needs of it."""

from __future__ import annotations

from analyzer.format import count, percent
from analyzer.insight.comparison.identity import module_name, operand_shapes, operator_name
from analyzer.schema.digest import Digest
from analyzer.schema.gate import Facts, GateGroup, GateRun
from analyzer.schema.tables import records

_VERSIONS = ("torch", "timm", "cuda", "hip", "cudnn", "driver", "python")


def gate_run(run: Digest) -> GateRun:
    """Return what the gate needs of ``run``: its model and settings, its untraced latency and its operators."""
    return GateRun(
        name=run.name,
        label=run.label,
        model=(run.facts.model.factory or run.facts.model.name) if run.facts else "",
        conditions=_conditions(run),
        surroundings=_surroundings(run),
        samples=run.latency.samples if run.latency is not None else (),
        groups=_groups(run),
        per_batch=bool(run.batches),
        serial=run.device.type == "cpu",
    )


def _conditions(run: Digest) -> Facts:
    if run.facts is None:
        return ()
    settings = run.facts.settings
    return _known(
        {
            "batch size": count(settings.batch_size),
            "image size": f"{count(settings.image_size)} px" if settings.image_size else None,
            "element type": settings.dtype,
            "layout": settings.memory_format and settings.memory_format.split()[0],
            "compile": settings.compile,
            "attention": settings.attention,
            "autocast": "on" if settings.autocast else "off",
            "input": settings.input,
        }
    )


def _surroundings(run: Digest) -> Facts:
    device = run.device
    facts: dict[str, object] = {"device": device.name}
    if device.sm_count:
        facts["multiprocessors"] = device.sm_count
    if device.power_limit_w and device.power_default_w:
        facts["power cap, of the default"] = percent(100 * device.power_limit_w / device.power_default_w)
    if run.facts is not None:
        settings = run.facts.settings
        facts |= {
            "parameters": count(run.facts.model.parameters),
            "attention that ran": run.facts.model.attention_backend,
            "CPU threads": (settings.threads or device.threads) if device.type == "cpu" else None,
            "precision of matrix products": settings.matmul_precision,
            "TF32 in convolutions": settings.convolution_tf32,
            "cudnn.benchmark": settings.cudnn_benchmark,
        }
        facts |= {name: run.versions.get(name) for name in _VERSIONS}
    return _known(facts)


def _known(facts: dict[str, object] | dict[str, str | None]) -> Facts:
    return tuple((name, str(value)) for name, value in facts.items() if value is not None)


def _groups(run: Digest) -> tuple[GateGroup, ...]:
    out = []
    for row in records(run.groups):
        op = operator_name(str(row.op))
        shapes = operand_shapes(op, str(row.shapes))
        module = module_name(str(row.module))
        steps = tuple(map(float, row.step_us)) if run.batches else ()
        kernels = tuple(map(str, row.kernels))
        out.append(GateGroup(str(row.kind), op, shapes, str(row.dtype), module, float(row.time_us), steps, kernels))
    return tuple(out)
