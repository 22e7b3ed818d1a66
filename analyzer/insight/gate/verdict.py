"""The gate in one line and its reason in another."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.format import counted, interval, milliseconds, percent, times
from analyzer.schema.gate import GateModel, GateOperator, GateRow, GateState

_NAMED = 2
ALL_KERNELS = "all kernels"


def whole_name(untraced: bool) -> str:
    """Return what the row of the whole model is called."""
    return "whole model" if untraced else ALL_KERNELS


def say(models: Sequence[GateModel], missing: Sequence[str]) -> tuple[str, str]:
    """Return the headline and the reason."""
    slower = _in_state(models, "regression")
    unclear, faster = _in_state(models, "cannot tell"), _in_state(models, "improved")
    if slower:
        where = _listed(sorted({model.label for model, _ in slower}))
        classes = list(dict.fromkeys(row.name for _, row in slower if row.by == "kind"))
        return f"Regression in {where}" + (f": {_listed(classes)}" if classes else ""), _reason(models, slower)
    lacking = f"; {counted(len(missing), 'model has', 'models have')} no new run" if missing else ""
    if unclear:
        wholes = [row for _, row in unclear if row.by == "model"]
        rest = f"{counted(len(unclear), 'figure', 'figures')} of {sum(len(model.rows) for model in models)} cannot be told"
        what = "Cannot tell" if len(wholes) == len(models) else "No regression found"
        return f"{what}: {rest} from the noise{lacking}", _steadier(unclear)
    gained = f"; {counted(len(faster), 'figure', 'figures')} improved" if faster else ""
    return f"No regression in {counted(len(models), 'model', 'models')}{gained}{lacking}", _reason(models, faster)


def _in_state(models: Sequence[GateModel], state: GateState) -> list[tuple[GateModel, GateRow]]:
    return [(model, row) for model in models for row in model.rows if row.state == state]


def _reason(models: Sequence[GateModel], rows: Sequence[tuple[GateModel, GateRow]]) -> str:
    parts = [about(models, model) + changed(row) for model, row in rows[:_NAMED]]
    more = len(rows) - _NAMED
    return "; ".join(parts) + (f"; and {counted(more, 'other figure', 'other figures')}" if more > 0 else "")


def about(models: Sequence[GateModel], model: GateModel) -> str:
    """Return which model a line is about, nothing where there is only one."""
    return f"{model.label}, " if len(models) > 1 else ""


def changed(row: GateRow) -> str:
    """Return a change as text: ``convolution takes 1.12x as long (1.08x to 1.16x), 817 µs before and 915 µs now``."""
    ends = f" ({interval(row.ratio)})" if row.ratio.low is not None else ""
    was = f"{milliseconds(row.old_us)} before and {milliseconds(row.new_us)} now"
    takes = "take" if row.name == ALL_KERNELS else "takes"
    return f"{row.name} {takes} {times(row.ratio)} as long{ends}, {was}"


def operator_name(operator: GateOperator) -> str:
    """Return an operator with its shapes and modules as text."""
    name = f"{operator.op} {operator.shapes}".strip()
    if not operator.modules:
        return name
    more = operator.module_count - 1
    return f"{name} in {operator.modules[0]}" + (f" and {counted(more, 'other module', 'other modules')}" if more else "")


def _steadier(rows: Sequence[tuple[GateModel, GateRow]]) -> str:
    noisy = [row for _, row in rows if row.ratio.value and row.ratio.high is not None]
    if not noisy:
        return rows[0][1].note
    widest = max(100 * ((row.ratio.high or 0) / (row.ratio.value or 1) - 1) for row in noisy)
    return f"Intervals reach up to {percent(widest)} from their ratio; more runs on both sides or a quieter machine narrow them"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return " and ".join(names[:_NAMED]) if more <= 0 else f"{', '.join(names[:_NAMED])} and {more} more"
