"""Gives the kernels that a CUDA graph replays the operators and modules that a trace without graphs shows for them.

A graph is launched as a whole, so its kernels carry no operator. The same code run once without graphs launches the same
kernels one by one, from their operators. Kernel by kernel the two are aligned, and what every best alignment agrees on is
adopted:

* The kernels of one step, in the order of their launches (inside a graph in that of its nodes, else of their start), are one
  sequence; those of the one step of the reference are the other. Replays that follow one another in a step therefore take up
  one part of the reference after the other. Work that no profiler step encloses is cut into passes: one begins with each
  replay of a graph that the pass has already.
* Two kernels may be partners where name, grid and block are equal. An alignment keeps the order of both sides; the best ones
  align the most time. The time of a kernel is here the mean of all with the same name, grid and block, so that chance does not
  choose between equal kernels.
* A replayed kernel gets operator and module where every best alignment gives it a partner and all these partners have the same
  operator, with the same arguments, and the same module. What is ambiguous, repeated, moved or missing on one side stays empty.
* Where less than half of the kernel time of a replay has a partner, nothing of it is adopted.
* Where the trace tells graphs and their nodes apart, what is known of a node holds in every replay of its graph; where two
  replays disagree it holds in none.
* Where the nodes of a graph are not known and it ran on several streams, starts do not tell the order of its branches. Equal
  kernels on different streams then get something only if all places of theirs in the reference have the same operator and
  module.
* Where graphs of a step launch a kernel of the reference with other grids or blocks, they ran on tensors of another size: the
  kernels with a partner get operator and module, and no work. So do kernels that were compared by name alone.
* Copies and fills are aligned too, as marks on the way, and get nothing.
* Else an operator counts with its work where all of its kernels were adopted in that step; if not, what it does is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.errors import TraceError
from analyzer.schema.operators import OpCall
from analyzer.schema.run import Run
from analyzer.schema.tables import LAUNCHES
from analyzer.trace.doubts import crossed, other_sizes, say_replays, say_sizes, say_unproven
from analyzer.trace.kineto import Trace, read_trace
from analyzer.trace.link import ALIGNED, GRAPH, is_replayed
from analyzer.trace.passes import Pass, launched, passes_of
from analyzer.trace.proven import MAX_CELLS, MAX_WEIGHT, Proof, prove
from analyzer.trace.spans import Int64, Spans

Bool = npt.NDArray[np.bool_]

LEAST_SHARE = 0.5
"""A replay of which less time has a partner is no replay of what the reference ran."""

_REFUSED = -2
_OF_THE_HOST = ("scope", "launch_thread")
"""Columns that say where on the host a launch was made: that of a graph, whatever its kernels belong to."""

MAX_ALL_CELLS = 5 * MAX_CELLS
"""Pairs of places that all alignments of a trace may look at together: half a minute at worst."""


@dataclass(frozen=True, slots=True, eq=False)
class Operators:
    """The operators that ``op_index`` of launches points to: their names, which encloses which, and their calls."""

    names: list[str]
    ops: Spans
    calls: list[OpCall | None]


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """The launches of a trace (table LAUNCHES) and their operators."""

    launches: pd.DataFrame
    operators: Operators


@dataclass(frozen=True, slots=True, eq=False)
class _Keys:
    """One number for each row of the trace and of the reference that is equal for kernels that may be partners.

    ``by_name``: the replayed kernels that have only their names to be compared by.
    """

    replayed: Int64
    reference: Int64
    weight: Int64
    by_name: Bool


def replay_shares(launches: pd.DataFrame) -> tuple[float, float]:
    """Return what share of the kernel time CUDA graphs replayed, and of which share of that the operator is known, in percent.

    The second is NaN where nothing was replayed.
    """
    rows = launches[launches["category"] == "kernel"]
    time = rows["dur_ns"].to_numpy(np.float64)
    replayed, whole = float(time[is_replayed(rows)].sum()), float(time.sum())
    aligned = float(time[rows["link"].eq(ALIGNED).to_numpy(bool)].sum())
    return (100 * replayed / whole if whole else 0.0), (100 * aligned / replayed if replayed else float("nan"))


def adopt_ungraphed(
    run: Run, graphed: Described, describe: Callable[[Trace], Described], max_expansion: float
) -> tuple[Described, tuple[str, ...]]:
    """Return ``graphed`` with what the run's trace without CUDA graphs tells of replayed kernels, and what must be said of it.

    The trace is read only where graphs were replayed; ``describe`` links it and reads the arguments of its operators. One that
    cannot be read is told, and is no error.
    """
    if run.ungraphed is None or not graphed.launches["link"].eq(GRAPH).any():
        return graphed, ()
    try:
        trace = read_trace(run.ungraphed, max_expansion=max_expansion)
    except TraceError:
        return graphed, ("the trace without CUDA graphs cannot be read: replayed kernels have no operator",)
    return adopt_replay(graphed, describe(trace))


def adopt_replay(graphed: Described, reference: Described) -> tuple[Described, tuple[str, ...]]:
    """Return ``graphed`` with the operators and modules of replayed kernels, and what must be said of the alignment.

    Rows that get them have link ALIGNED; their ``op_index`` points to copies of the operators of ``reference``, put behind
    those of the trace, on threads of their own, for each pass anew. Times of these copies are those of the other trace.

    Approximation: a replayed kernel does what its partner in the trace without CUDA graphs did: both ran the same code, one
    after the other.

    Args:
        graphed: a trace, with launches of link GRAPH.
        reference: a trace of one step of the same code without graphs; of more steps the first is used.
    """
    launches = graphed.launches
    if not launches["link"].eq(GRAPH).any():
        return graphed, ()
    order = _reference_order(reference.launches)
    if not reference.launches["category"].iloc[order].eq("kernel").any():
        return graphed, ("the trace without CUDA graphs holds no kernel: replayed kernels have no operator",)
    keys = _make_keys(launches, reference.launches.iloc[order])
    passes = passes_of(launches, keys.replayed)
    label = _labels(reference, order)
    proofs, inexact = _prove_all(passes, keys, label)
    both, stream = (keys.replayed, keys.reference), launches["stream"].to_numpy(np.int64)
    doubtful = crossed(passes, [proof.partner for proof in proofs], both, stream, label)
    partner, several, refused = _accepted(launches, passes, proofs, label, doubtful)
    partner = _by_node(launches, partner, keys.replayed, label)
    found = np.flatnonzero(partner >= 0)
    place = np.full(len(launches), -1, np.int64)
    place[found] = order[partner[found]]
    resized = other_sizes(launches, reference.launches.iloc[order], passes, both)
    unsized = keys.by_name.copy()
    for each, is_resized in zip(passes, resized, strict=True):
        unsized[each.rows] |= is_resized
    kernel = (launches["category"].eq("kernel") & launches["link"].eq(GRAPH)).to_numpy(bool)
    notes = (
        *say_replays(sum(len(each.replays) for each in passes), refused, inexact),
        *say_sizes(sum(resized), int(keys.by_name.sum())),
        *say_unproven(launches, kernel & (partner == -1), several, doubtful),
    )
    return _adopt(graphed, reference, (place, unsized), passes, order), notes


def _reference_order(launches: pd.DataFrame) -> Int64:
    """Return the rows of one step in the order of their launches: of the first step, else all; of the device with the most."""
    step, device = (launches[column].to_numpy(np.int64) for column in ("step", "device"))
    kernel = launches["category"].eq("kernel").to_numpy(bool)
    if not kernel.any():
        return np.empty(0, np.int64)
    stepped = step[kernel & (step >= 0)]
    rows = np.flatnonzero(step == stepped.min() if len(stepped) else step >= -1)
    numbers, often = np.unique(device[rows[kernel[rows]]], return_counts=True)
    rows = rows[device[rows] == numbers[often.argmax()]]
    return np.asarray(rows[np.argsort(launched(launches)[rows], kind="stable")], np.int64)


def _make_keys(launches: pd.DataFrame, reference: pd.DataFrame) -> _Keys:
    """Return what may be partners: equal names, grids and blocks; names alone of those that somewhere have no grid or block."""
    columns = ["category", "kernel", "grid", "block", "copy_bytes"]
    both = pd.concat([launches[columns], reference[columns]], ignore_index=True)
    name = pd.factorize(both["kernel"])[0]
    kernel = both["category"].eq("kernel").to_numpy(bool)
    lacking = kernel & (both["grid"].eq("") | both["block"].eq("")).to_numpy(bool)
    alone = np.isin(name, name[lacking])
    parts = [name, pd.factorize(both["category"])[0]]
    parts += [np.where(alone, -1, pd.factorize(both[column])[0]) for column in ("grid", "block")]
    parts += [np.where(kernel, -1, pd.factorize(both["copy_bytes"])[0])]
    key = np.zeros(len(both), np.int64)
    for part in parts:
        key = pd.factorize(key * (int(part.max(initial=0)) + 2) + part + 1)[0].astype(np.int64)
    own = key[: len(launches)]
    total = np.bincount(own, weights=launches["dur_ns"].to_numpy(np.float64), minlength=int(key.max(initial=0)) + 1)
    mean = np.rint(total / np.maximum(np.bincount(own, minlength=len(total)), 1))
    replayed = launches["link"].eq(GRAPH).to_numpy(bool)
    by_name = alone[: len(launches)] & kernel[: len(launches)] & replayed
    return _Keys(own, key[len(launches) :], np.clip(mean, 1, MAX_WEIGHT).astype(np.int64), by_name)


def _labels(reference: Described, order: Int64) -> Int64:
    """Return a number for each row that is equal where operator, arguments and module are; -1 where there are none."""
    launches, calls = reference.launches.iloc[order], reference.operators.calls
    known: dict[object, int] = {}
    out = []
    columns = (launches[name].tolist() for name in ("category", "op", "module", "op_index"))
    for category, op, module, index in zip(*columns, strict=True):
        key = (op, module, calls[index] if index >= 0 else None)
        out.append(known.setdefault(key, len(known)) if category == "kernel" and (op or module) else -1)
    return np.array(out, np.int64)


def _prove_all(passes: list[Pass], keys: _Keys, label: Int64) -> tuple[list[Proof], int]:
    """Return the proof of each pass, equal ones once, and how many of them are not exact."""
    known: dict[bytes, Proof] = {}
    proofs, left = [], MAX_ALL_CELLS
    for each in passes:
        sequence = keys.replayed[each.rows]
        text = sequence.tobytes()
        if text not in known:
            known[text] = prove(sequence, keys.reference, keys.weight, label, min(left, MAX_CELLS))
            left = max(left - known[text].cells, 0)
        proofs.append(known[text])
    return proofs, sum(not proof.exact for proof in proofs)


def _accepted(
    launches: pd.DataFrame, passes: list[Pass], proofs: list[Proof], label: Int64, doubtful: Bool
) -> tuple[Int64, Bool, int]:
    """Return each row's partner where that is certain (else -1 or _REFUSED), which fit several places, the refused replays.

    ``doubtful`` rows are not certain, whatever their proofs say.
    """
    partner, paired = np.full(len(launches), -1, np.int64), np.zeros(len(launches), bool)
    several = np.zeros(len(launches), bool)
    for each, proof in zip(passes, proofs, strict=True):
        paired[each.rows] = proof.partner >= 0
        certain = proof.certain & ~doubtful[each.rows]
        several[each.rows] = (proof.partner >= 0) & ~certain
        partner[each.rows] = np.where(certain & (label[proof.partner] >= 0), proof.partner, -1)
    kernel = launches["category"].eq("kernel").to_numpy(bool)
    time = np.where(kernel, launches["dur_ns"].to_numpy(np.int64), 0)
    partner[~(kernel & launches["link"].eq(GRAPH).to_numpy(bool))] = -1
    refused = 0
    for replay in (replay for each in passes for replay in each.replays):
        mine = time[replay.rows]
        if mine[paired[replay.rows]].sum() < LEAST_SHARE * mine.sum():
            partner[replay.rows] = _REFUSED
            refused += 1
    return partner, several, refused


def _by_node(launches: pd.DataFrame, partner: Int64, key: Int64, label: Int64) -> Int64:
    """Return the partners so that a node has the same in all replays of its graph, and none where they disagree."""
    node = pd.DataFrame({column: launches[column] for column in ("device", "graph_id", "graph_node")}).assign(key=key)
    kernel = launches["category"].eq("kernel") & launches["link"].eq(GRAPH)
    rows = np.flatnonzero(kernel & (node["graph_id"] > 0) & (node["graph_node"] >= 0) & (partner != _REFUSED))
    found = node.iloc[rows].assign(partner=partner[rows], label=np.where(partner[rows] >= 0, label[partner[rows]], -1))
    known = found[found["partner"] >= 0].groupby(list(node), sort=False).agg(n=("label", "nunique"), first=("partner", "first"))
    agreed = known["first"].where(known["n"] == 1, -1).rename("agreed").reset_index()
    merged = found.merge(agreed, on=list(node), how="left")["agreed"].fillna(-1).to_numpy(np.int64)
    out = partner.copy()
    out[rows] = np.where((partner[rows] >= 0) & (merged >= 0), partner[rows], merged)
    return out


def _adopt(graphed: Described, reference: Described, found: tuple[Int64, Bool], passes: list[Pass], order: Int64) -> Described:
    """Return ``graphed`` with what the reference has for the rows that were ``found`` there.

    These are the place of each row in the reference, -1 for those that stay as they are, and of which the work is unknown.
    """
    place, unsized = found
    own, theirs = graphed.operators, reference.operators
    copies = _Copies(own, theirs, reference.launches, order)
    launches = graphed.launches.copy()
    index = launches["op_index"].to_numpy(np.int64).copy()
    for each in passes:
        rows = each.rows[place[each.rows] >= 0]
        index[rows] = copies.add(place[rows], unsized[rows])
    rows = np.flatnonzero(place >= 0)
    launches["op_index"] = index
    told = reference.launches.iloc[place[rows]]
    beyond = [name for name in launches.columns if name in told and name not in (*LAUNCHES.names, *_OF_THE_HOST)]
    for name in ("op", "module", *beyond):
        column = launches[name].to_numpy().copy()
        column[rows] = told[name].to_numpy()
        launches[name] = column
    link = launches["link"].to_numpy(object).copy()
    link[rows] = ALIGNED
    return Described(launches.assign(link=link), copies.operators())


class _Copies:
    """Operators of a trace with copies of those of the reference behind them."""

    def __init__(self, own: Operators, reference: Operators, launches: pd.DataFrame, order: Int64) -> None:
        self._own, self._reference = own, reference
        self._kernels = order[launches["category"].iloc[order].eq("kernel").to_numpy(bool)]
        self._op = launches["op_index"].to_numpy(np.int64)
        self._thread = pd.factorize(reference.ops.thread)[0].astype(np.int64)
        self._rows: list[Int64] = []
        self._incomplete: list[Bool] = []
        self._count = len(own.names)
        self._known: dict[bytes, tuple[Int64, Bool]] = {}

    def add(self, place: Int64, unsized: Bool) -> Int64:
        """Return the row of the operator of each kernel at ``place`` of the reference, -1 without; one copy for all of them.

        Operators of kernels that are ``unsized`` lose what they do.
        """
        text = place.tobytes() + unsized.tobytes()
        if text not in self._known:
            lost = np.union1d(np.setdiff1d(self._kernels, place), place[unsized])
            rows = self._around(self._op[place])
            self._known[text] = rows, np.isin(rows, self._around(self._op[lost]))
        rows, incomplete = self._known[text]
        first, self._count = self._count, self._count + len(rows)
        self._rows.append(rows)
        self._incomplete.append(incomplete)
        return np.where(self._op[place] >= 0, first + np.searchsorted(rows, self._op[place]), -1)

    def _around(self, index: Int64) -> Int64:
        """Return operators with all those around them, in order."""
        inside = np.zeros(len(self._reference.names), bool)
        level = np.unique(index[index >= 0])
        while len(level):
            level = level[~inside[level]]
            inside[level] = True
            level = np.unique(self._reference.ops.parent[level])
            level = level[level >= 0]
        return np.flatnonzero(inside)

    def operators(self) -> Operators:
        """Return the operators of the trace, then all copies, each pass on threads of its own."""
        own, theirs = self._own, self._reference
        if not self._rows:
            return own
        rows = np.concatenate(self._rows)
        number = np.repeat(np.arange(len(self._rows)), [len(each) for each in self._rows])
        width = int(self._thread.max(initial=0)) + 1
        thread = int(own.ops.thread.max(initial=0)) + 1 + number * width + self._thread[rows]
        spans = Spans(
            np.concatenate([own.ops.start, theirs.ops.start[rows]]),
            np.concatenate([own.ops.end, theirs.ops.end[rows]]),
            np.concatenate([own.ops.thread, thread]),
        )
        pairs = zip(rows.tolist(), np.concatenate(self._incomplete).tolist(), strict=True)
        calls = [None if incomplete else theirs.calls[i] for i, incomplete in pairs]
        return Operators([*own.names, *(theirs.names[i] for i in rows.tolist())], spans, [*own.calls, *calls])
