"""What torch.compile made of a model, and how much of a run's time belongs to operators and modules."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.schema.operators import OpCall


@dataclass(frozen=True, slots=True)
class Part:
    """One operator of the model inside a compiled kernel, and the path of the module that called it (empty: not known)."""

    call: OpCall
    module: str = ""


@dataclass(frozen=True, slots=True)
class CompiledCall:
    """One kernel that compiled code calls, in the order of the calls.

    ``kernel`` is its name as a trace has it: of a generated kernel without ``graph_0_`` before it, of a library's operator with
    its namespace (``aten::addmm``). ``fused``: Inductor generated it. ``parts`` are the operators of the model that it does, in
    the order of their data; ``call`` is what it reads and writes as a whole, None where Inductor did not tell.
    """

    kernel: str
    fused: bool
    parts: tuple[Part, ...]
    call: OpCall | None = None


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """One graph that torch.compile made code for: the kernels of one call of it, in order."""

    calls: tuple[CompiledCall, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """How much of the kernel time of a run (of the operators' own time on a CPU) belongs to something, in percent.

    ``operators_pct`` and ``modules_pct``: time of launches whose operator and whose module is known. ``fused_pct``: time of
    kernels that a compiler generated; ``replayed_pct``: time of kernels that a CUDA graph replayed, and ``aligned_pct`` the
    share of that time that the run without graphs named. ``graphs`` and ``calls``: compiled graphs and the kernels that one
    call of each makes, 0 where nothing tells; ``matched_pct`` the share of those calls that the trace shows, NaN without.
    ``notes`` say what could not be attributed, and why.
    """

    operators_pct: float
    modules_pct: float
    fused_pct: float = 0.0
    replayed_pct: float = 0.0
    aligned_pct: float = 0.0
    graphs: int = 0
    calls: int = 0
    matched_pct: float = float("nan")
    notes: tuple[str, ...] = ()
