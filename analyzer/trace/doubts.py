"""What of the best alignment of replayed kernels may be wrong all the same: work of another size, and parallel branches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyzer.format import count, counted, percent
from analyzer.trace.link import GRAPH
from analyzer.trace.passes import Pass
from analyzer.trace.spans import Int64

Bool = npt.NDArray[np.bool_]

TOLD_PCT = 1.0
"""A smaller share of replayed time without operators is not worth a sentence: the copies of inputs that only a graph needs."""


def other_sizes(launches: pd.DataFrame, reference: pd.DataFrame, passes: list[Pass], keys: tuple[Int64, Int64]) -> list[bool]:
    """Tell of each pass whether its graphs ran on tensors of another size than the reference.

    They did where a graph launches a kernel with a grid or block that the reference lacks, and the reference launches it with
    one that the graph lacks; a kernel that just one side lacks says nothing of sizes. Then kernels that have the same grid for
    every size (persistent ones, of which each block takes as much work as is left) have partners too, and their work is another
    one.

    Args:
        launches: of the trace.
        reference: launches of the step that the passes are aligned with.
        passes: of the trace.
        keys: of each row of ``launches`` and of ``reference``, equal where kernels may be partners.
    """
    kernel = reference["category"].eq("kernel").to_numpy(bool)
    theirs, names = keys[1][kernel], reference["kernel"].to_numpy(object)[kernel]
    mine = launches["category"].eq("kernel").to_numpy(bool)
    unknown, own = mine & ~np.isin(keys[0], theirs), launches["kernel"].to_numpy(object)
    known: dict[bytes, bool] = {}

    def is_other(rows: Int64) -> bool:
        text = keys[0][rows].tobytes()
        if text not in known:
            odd = set(own[rows[unknown[rows]]])
            known[text] = bool(odd) and not odd.isdisjoint(names[~np.isin(theirs, keys[0][rows])])
        return known[text]

    return [any(is_other(replay.rows) for replay in each.replays) for each in passes]


def crossed(passes: list[Pass], partners: list[Int64], keys: tuple[Int64, Int64], stream: Int64, label: Int64) -> Bool:
    """Tell which rows may have changed places with an equal kernel on another branch of their graph.

    Branches run side by side, and where nodes have no numbers, starts are all that is known of the order of their kernels. That
    order differs from the order of the reference from run to run. A kernel of a graph on several streams is certain only if all
    places of its key in the reference have the same label; or if its key is on one stream alone, as often as in the reference,
    and the kernel is in its turn.

    Args:
        passes: of the trace.
        partners: of each row of each pass, its place in the reference, -1 without.
        keys: of each row of the trace, and of the reference.
        stream: of each row of the trace.
        label: of each place of the reference, equal where operator and module are; -1 where there are none.
    """
    out = np.zeros(len(keys[0]), bool)
    if not any(replay.branched for each in passes for replay in each.replays):
        return out
    places = pd.DataFrame({"key": keys[1], "label": label})
    by_key = places.groupby("key")["label"]
    labels, often, turn = by_key.nunique(), by_key.size(), places.groupby("key").cumcount().to_numpy(np.int64)
    for each, partner in zip(passes, partners, strict=True):
        branched = [replay.rows for replay in each.replays if replay.branched]
        if not branched:
            continue
        rows = pd.DataFrame({"key": keys[0][each.rows], "stream": stream[each.rows]})
        mine = rows.groupby("key")
        in_turn = (mine["stream"].transform("nunique") == 1) & (mine["key"].transform("size") == rows["key"].map(often))
        in_turn &= mine.cumcount() == np.where(partner >= 0, turn[partner], -1)
        doubtful = (partner >= 0) & ~(in_turn | (rows["key"].map(labels) == 1)).to_numpy(bool)
        out[each.rows] = doubtful & np.isin(each.rows, np.concatenate(branched))
    return out


def say_replays(replays: int, refused: int, inexact: int) -> tuple[str, ...]:
    """Return what must be said of an alignment, each a sentence without its stop."""
    out = []
    if refused:
        out.append(
            f"{count(refused)} of {counted(replays, 'replay', 'replays')} of CUDA graphs have no operators: the trace without "
            "graphs has less than half of their kernel time"
        )
    if inexact:
        out.append(
            f"{counted(inexact, 'step', 'steps')} with CUDA graphs held too many kernels to look at every alignment: operators "
            "come from kernels that occur once in a step, and from what lies between them"
        )
    return tuple(out)


def say_sizes(resized: int, by_name: int) -> tuple[str, ...]:
    """Return what must be said of ``resized`` steps, and of kernels that were compared ``by_name`` alone."""
    out = []
    if resized:
        out.append(
            f"{counted(resized, 'step', 'steps')} with CUDA graphs launched kernels with other grids or blocks than the trace "
            "without graphs, as other batch or image sizes do: the kernels there have operators and modules at most, and no "
            "FLOP, bytes or shapes"
        )
    if by_name:
        out.append(
            f"{counted(by_name, 'kernel', 'kernels')} of CUDA graphs have no grid or block on one side, so their names alone "
            "were compared with the trace without graphs: they have no FLOP, bytes or shapes, as nothing tells the size"
        )
    return tuple(out)


def say_unproven(launches: pd.DataFrame, lost: Bool, several: Bool, branched: Bool) -> tuple[str, ...]:
    """Return what of the accepted replays is ``lost`` (has no operator), where that is worth a sentence.

    ``several``: rows that fit several places of the reference. ``branched``: rows that may have changed places with others.
    """
    kernel = (launches["category"].eq("kernel") & launches["link"].eq(GRAPH)).to_numpy(bool)
    time = launches["dur_ns"].to_numpy(np.float64)
    share = 100 * float(time[lost].sum()) / max(float(time[kernel].sum()), 1.0)
    if share < TOLD_PCT:
        return ()
    many, beside = int((lost & several).sum()), int((lost & branched).sum())
    out = (
        f"{counted(int(lost.sum()), 'kernel', 'kernels')} of CUDA graphs ({percent(share)} of their time) got no operator: "
        f"{count(many)} fit several places in the trace without graphs, {count(int(lost.sum()) - many)} none"
    )
    if not beside:
        return (out,)
    return (
        out,
        f"{count(beside)} of these kernels ran in graphs on several streams, whose nodes the trace does not number: which of "
        "the equal kernels is which cannot be told",
    )
