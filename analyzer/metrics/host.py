"""Who called what: trees of operators and modules, steps in parts, and time by call stack."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.format import count, counted, milliseconds, percent
from analyzer.metrics.stacks import COLUMNS, MAX_STACKS, Stacks, by_stack
from analyzer.metrics.steps import break_down
from analyzer.metrics.trees import MAX_ROWS, Bool, Merged, merge_paths, own_ns, tree_of, within
from analyzer.schema.profile import TREE_COLUMNS, HostView
from analyzer.schema.results import Window
from analyzer.trace.frames import MODULE_FRAME
from analyzer.trace.kineto import Trace
from analyzer.trace.link import Linked, as_launched
from analyzer.trace.scopes import MODULE_SCOPE, SOURCES, Scopes
from analyzer.trace.spans import Int64

_NO_STACKS = "the trace has none; record it with analyzer stacks=true, or with torch.profiler.profile(with_stack=True)"
_NO_MODULES = (
    "the trace names no modules; record it with analyzer, with torch.profiler.profile(with_stack=True), or with "
    "torch.profiler.record_function around them"
)
_NO_LOADER = "no enumerate(DataLoader) annotation is in the trace: loading of data, if there was any, counts as host or other"
_NO_RUNTIME = "no call of the runtime or driver is in the trace: time in them counts as host or other"


def host_view(trace: Trace, linked: Linked, launches: pd.DataFrame, window: Window) -> HostView:
    """Return the trees, steps and call stacks of ``trace``.

    Kernels count where they were launched: on the operator around the launch, for a backward operator in the backward. In the
    tree of modules a backward kernel counts for the module of its forward operator.
    """
    launches = as_launched(launches)
    stretches = linked.steps if linked.foreign is not None else None
    inside = within(linked.ops, stretches)
    own = own_ns(linked.ops, inside)
    operators, first = _operators(trace, linked, launches, inside, own, window)
    modules, second = _modules(linked, launches, within(linked.scopes.spans, stretches), window)
    stacks = by_stack(trace, linked, launches, inside, own)
    steps, between = break_down(trace, linked, window)
    said = [*first, *second, *(_stack_sentences(stacks, launches, window) if stacks else ())]
    if between:
        said.append(f"{milliseconds(between / 1e3)} between the steps belong to none of them")
    silent = {
        "operators": "" if len(operators) else "the trace holds no operators; record it with CPU activities on",
        "modules": "" if len(modules) else _NO_MODULES,
        "stacks": "" if stacks else _NO_STACKS,
        "dataloader": _NO_LOADER if steps["dataloader_us"].isna().all() else "",
        "runtime": _NO_RUNTIME if trace.device.type != "cpu" and steps["runtime_us"].isna().all() else "",
    }
    return HostView(
        operators=operators,
        modules=modules,
        stacks=stacks.table if stacks else pd.DataFrame(columns=list(COLUMNS)),
        steps=steps,
        left_out=tuple(said),
        silent=tuple((table, reason) for table, reason in silent.items() if reason),
    )


def _on_gpu(launches: pd.DataFrame) -> bool:
    return not launches["category"].eq("operator").any()


def _device(launches: pd.DataFrame, merged: Merged, row: Int64) -> tuple[Int64 | None, int]:
    """Return the kernel time launched in each node alone, None on a CPU run, and the kernel time of no node.

    ``row``: of each launch, the span that it was launched in, -1 for none.
    """
    if not _on_gpu(launches):
        return None, 0
    time = np.where(launches["category"].eq("kernel"), launches["dur_ns"].to_numpy(np.int64), 0)
    node = np.where(row >= 0, merged.node[row], -1) if len(merged.node) else np.full(len(row), -1, np.int64)
    out = np.zeros(len(merged.parent), np.int64)
    np.add.at(out, node[node >= 0], time[node >= 0])
    return out, int(time[node < 0].sum())


def _operators(
    trace: Trace, linked: Linked, launches: pd.DataFrame, inside: Bool, own: Int64, window: Window
) -> tuple[pd.DataFrame, list[str]]:
    names = trace.ops["name"].cat
    merged = merge_paths(linked.ops, np.asarray(names.codes, np.int64), inside)
    device, without = _device(launches, merged, launches["op_index"].to_numpy(np.int64))
    tree, dropped = tree_of(merged, list(names.categories), own, device)
    return tree, _said("operators", merged, dropped, _unplaced(without, launches, window))


def _modules(linked: Linked, launches: pd.DataFrame, inside: Bool, window: Window) -> tuple[pd.DataFrame, list[str]]:
    scopes = linked.scopes
    if not len(scopes.spans.start):
        return pd.DataFrame(columns=list(TREE_COLUMNS)), []
    label, names = _module_labels(scopes)
    merged = merge_paths(scopes.spans, label, inside)
    device, without = _device(launches, merged, launches["scope"].to_numpy(np.int64))
    tree, dropped = tree_of(merged, names, own_ns(scopes.spans, inside), device)
    return tree, _said("modules", merged, dropped, _unplaced(without, launches, window))


def _module_labels(scopes: Scopes) -> tuple[Int64, list[str]]:
    """Return a label for each scope, and what the labels stand for: its name without that of the module around it."""
    codes = np.asarray(scopes.names.cat.codes, np.int64)
    texts = [str(name) for name in scopes.names.cat.categories]
    if scopes.source == SOURCES[1]:
        return codes, [text.removeprefix(MODULE_FRAME) for text in texts]
    if scopes.source == SOURCES[2]:
        return codes, texts
    texts = [text.removeprefix(MODULE_SCOPE) for text in texts]
    above = np.where(scopes.spans.parent >= 0, codes[scopes.spans.parent], -1)
    pairs, number = np.unique(np.stack((above, codes), axis=1), axis=0, return_inverse=True)
    short = [_relative(texts[own], texts[up] if up >= 0 else "") for up, own in pairs.tolist()]
    unique = {text: i for i, text in enumerate(dict.fromkeys(short))}
    label: npt.NDArray[np.int64] = np.array([unique[text] for text in short], np.int64)
    return label[number.reshape(-1)], list(unique)


def _relative(path: str, around: str) -> str:
    rest = path.removeprefix(f"{around}.") if around else path
    # a number alone says nothing: one of a list of modules keeps the name of the list
    return f"{around.rpartition('.')[2]}.{rest}" if rest.isdecimal() and rest != path else rest


def _unplaced(without: int, launches: pd.DataFrame, window: Window) -> str:
    """Return the kernel time of no node in words, empty without any."""
    whole = float(launches.loc[launches["category"] == "kernel", "dur_ns"].sum())
    return _on_base(without / 1e3, window, "kernel time", 100 * without / whole) if without > 0 else ""


def _on_base(time_us: float, window: Window, what: str, share_pct: float) -> str:
    """Return a time on the base of the tables: per step where steps are known, else of the whole window."""
    unit = " per step" if window.batches else ""
    return f"{milliseconds(time_us / (window.batches or 1))} of {what}{unit} ({percent(share_pct)})"


def _said(what: str, merged: Merged, dropped: int, unplaced: str) -> list[str]:
    """Return what the tree of ``what`` leaves out, each a sentence."""
    out = []
    deep = int(((merged.node >= 0) & ~merged.apart).sum())
    if deep:
        out.append(f"{counted(deep, 'call', 'calls')} in the tree of {what} lie too deep and count for what called them")
    if dropped:
        out.append(
            f"the tree of {what} keeps its {count(MAX_ROWS)} longest paths; the time of {count(dropped)} others counts for "
            "what called them"
        )
    if unplaced:
        where = "outside of every operator" if what == "operators" else "in no known module"
        row = "(no operator)" if what == "operators" else "(no module)"
        out.append(f"{unplaced} was launched {where}: it is the row {row} of the tree of {what}, which its file does not have")
    return out


def _stack_sentences(stacks: Stacks, launches: pd.DataFrame, window: Window) -> list[str]:
    out = []
    if stacks.dropped:
        out.append(f"{count(stacks.dropped)} call stacks beyond the {MAX_STACKS} longest are left out")
    if stacks.without_us > 0:
        what = "kernel time" if _on_gpu(launches) else "host time in operators"
        lost = _on_base(stacks.without_us, window, what, 100 * stacks.without_us / stacks.whole_us)
        out.append(f"no call stack is known for {lost}; the backward pass, for example, runs in threads without Python")
    return out
