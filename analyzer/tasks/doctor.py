"""``task=doctor``: what can be measured on this machine, or what recorded traces support and how to record them better."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from analyzer.errors import EXIT_FAILED, AnalyzerError, ConfigError
from analyzer.progress import Reporter
from analyzer.schema.examination import CAPABILITIES, Capability, Examination, Recording, Status
from analyzer.schema.settings import Settings
from analyzer.tasks.inputs import expand_runs, own_sheet
from analyzer.tasks.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analyzer.capture.doctor import Check

FORMAT_VERSION = 1
WIDTH = 100
_ORDER: tuple[Status, ...] = ("no", "unknown", "partly", "yes", "unused")
_POOR = _ORDER[:3]
_CELLS = {"yes": "yes", "partly": "part", "no": "no", "unknown": "?", "unused": "-"}
_NAME_WIDTH = max(map(len, CAPABILITIES.values())) + 2
_CELL_WIDTH = 5
_COLUMNS = (WIDTH - _NAME_WIDTH - 2) // _CELL_WIDTH
_TEXT = 600


def doctor(settings: Settings, reporter: Reporter) -> Outcome:
    """Say what can be measured on this machine; with ``runs=``, what those traces support.

    Raises:
        ConfigError: a part of a trace was asked for, ``gpu_spec=`` or a file of counters was given without ``runs=``, such a
            file for several traces, or ``runs=`` matches nothing.
        AnalyzerError: ``gpu_spec=`` cannot be read.
    """
    if not settings.runs:
        if settings.gpu_spec is not None:
            raise ConfigError("gpu_spec= tells of the GPU of traces, and none is given", "add runs= or leave gpu_spec= away")
        if settings.counter_file is not None:
            raise ConfigError("counters= belongs to a trace, and none is given", "add runs= or leave counters= away")
        return _machine(settings, reporter)
    selection = settings.selection
    if selection.is_part or selection.rank is not None:
        raise ConfigError("task=doctor looks at whole traces", "leave steps=, annotation= and rank= away")
    sources = expand_runs(settings.runs)
    if settings.counter_file is not None and len(sources) > 1:
        raise ConfigError(
            f"counters= belongs to one trace, and runs= names {len(sources)}", "give one, or lay NAME.counters.csv beside each"
        )
    if settings.dry_run:
        return Outcome([f"would examine: {', '.join(map(str, sources))}"], {"runs": [str(s) for s in sources]})
    return _traces(sources, settings, reporter)


def _machine(settings: Settings, reporter: Reporter) -> Outcome:
    from analyzer.capture.doctor import examine

    with reporter.stage("look at this machine"):
        checks = examine(settings.capture)
    lines = [line for c in checks for line in _check(c)]
    document = {
        "checks": [{"name": c.name, "available": c.available, "detail": c.detail, "hint": c.hint or None} for c in checks]
    }
    return Outcome(lines, document, tuple(f"{c.name}: {c.detail}" for c in checks if not c.available))


def _check(c: Check) -> list[str]:
    """Return one line that says what is there, and below it the steps that enable what is not.

    No line is broken: a command must stay whole to be copied.
    """
    steps = c.hint.split("; ") if c.hint else []
    starts = ["  enable: ", *["          "] * (len(steps) - 1)]
    return [
        f"{'yes' if c.available else 'no ':3}  {_plain(c.name)}: {_plain(c.detail)}",
        *(start + _plain(step) for start, step in zip(starts, steps, strict=False)),
    ]


def _traces(sources: Sequence[Path], settings: Settings, reporter: Reporter) -> Outcome:
    """Examine each trace in turn; one that cannot be read is told, and the others still are."""
    from analyzer.examination import examine

    sheet, max_expansion = own_sheet(settings), settings.selection.max_expansion
    found: list[Examination] = []
    unreadable: list[tuple[str, str]] = []
    stage = reporter.stage("examine", len(sources))
    with stage as bar:
        for source in sources:
            try:
                found.append(examine(source, max_expansion=max_expansion, sheet=sheet, counters=settings.counter_file))
            except AnalyzerError as error:
                unreadable.append((_plain(error.message), _plain(error.hint or "")))
            bar.advance()
    lines = [line for error, hint in unreadable for line in (f"Cannot be read: {error}", *([f"  hint: {hint}"] * bool(hint)))]
    lines += [""] if unreadable and found else []
    lines += _one(found[0]) if len(found) == 1 else _several(found)
    return Outcome(
        lines,
        {
            "format_version": FORMAT_VERSION,
            "traces": [_document(e) for e in found],
            "unreadable": [{"error": error, "hint": hint} for error, hint in unreadable],
        },
        tuple(f"{_plain(e.name)}: {c.name}: {_plain(c.detail)}" for e in found for c in e.unsupported()),
        EXIT_FAILED if unreadable else 0,
    )


def _plain(text: str) -> str:
    """Return a text that a trace may control without escape sequences, bidi marks and homes."""
    from analyzer.report.text import clean

    return clean(text, _TEXT)


def _one(e: Examination) -> list[str]:
    """Return what is said of a single trace: what is odd, all that it supports, and how to record it better."""
    lines = [*_head(e), *_odd(e), "", f"Supports: {_counts(e)}"]
    lines += [line for c in sorted(e.capabilities, key=lambda c: _ORDER.index(c.status)) for line in _line(c)]
    return [*lines, *_better(e.recording), *_snippet(e.recording.snippet), *_counting(e.recording.counting)]


def _counts(e: Examination) -> str:
    """Return how many capabilities are of each status, in the order of the list that they stand above."""
    numbers = {status: sum(c.status == status for c in e.capabilities) for status in _ORDER}
    said = ", ".join(f"{n} {status}" for status, n in numbers.items() if n and status != "unused")
    return said + (f"; {numbers['unused']} unused, which do not count" if numbers["unused"] else "")


def _several(found: list[Examination]) -> list[str]:
    """Return a matrix of all traces, then of each what is odd and what it lacks, then what records all of them better."""
    lines = [line for number, e in enumerate(found, 1) for line in _wrapped(f"{number:3}  ", f"{e.name}: {e.subject}")]
    for first in range(0, len(found), _COLUMNS):
        lines += ["", *_matrix(found[first : first + _COLUMNS], first + 1)]
    told: set[str] = set()
    for number, e in enumerate(found, 1):
        lines += ["", *_wrapped(f"{number:3}  ", e.name), *_odd(e), "Lacks"]
        poor = sorted((c for c in e.capabilities if c.status in _POOR), key=lambda c: _ORDER.index(c.status))
        lines += [line for c in poor for line in _line(c if c.consequence not in told else replace(c, consequence=""))]
        lines += [] if poor else ["  nothing"]
        told |= {c.consequence for c in poor}
    return [*lines, *_all_better(found)]


def _all_better(found: list[Examination]) -> list[str]:
    """Return what records several traces better, each setting, remark, command and snippet once."""
    settings: dict[tuple[str, str], list[int]] = defaultdict(list)
    remarks, commands, snippets, countings = (defaultdict[str, list[int]](list) for _ in range(4))
    for number, e in enumerate(found, 1):
        for each in e.recording.missing:
            settings[each].append(number)
        for text in e.recording.remarks:
            remarks[text].append(number)
        commands[e.recording.command].append(number)
        snippets[e.recording.snippet].append(number)
        countings[_any_name(e.recording.counting)].append(number)
    lines = ["", "Record them better"] if settings or remarks else []
    for (name, how), numbers in settings.items():
        lines += _wrapped(f"  {name:{_NAME_WIDTH}}", f"{how} (for {_numbers(numbers)})")
    lines += [line for text, numbers in remarks.items() for line in _wrapped("  ", f"{text} (for {_numbers(numbers)})", hang=4)]
    for text, numbers in commands.items():
        lines += _command(text, f"{_numbers(numbers)}, all of it")
    for text, numbers in snippets.items():
        lines += _snippet(text, f" for {_numbers(numbers)}")
    for text, numbers in countings.items():
        lines += _counting(text, f" for {_numbers(numbers)}")
    return lines


def _numbers(numbers: list[int]) -> str:
    """Return numbers in order as text, three and more in a row as ``1 to 4``."""
    rows: list[list[int]] = []
    for number in numbers:
        if rows and rows[-1][-1] == number - 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    parts = [[f"{row[0]} to {row[-1]}"] if len(row) > 2 else list(map(str, row)) for row in rows]
    return ", ".join(text for part in parts for text in part)


def _head(e: Examination) -> list[str]:
    arise = [c for c in e.capabilities if c.status != "unused"]
    whole, some = (sum(c.status == status for c in arise) for status in ("yes", "partly"))
    lacks = [c.name for c in e.capabilities if c.status == "no"]
    text = f"Supports {whole} of {len(arise)} things that a report can use" + (f", {some} more in part" if some else "")
    unknown = [c.name for c in e.capabilities if c.status == "unknown"]
    text += f". Lacks: {', '.join(lacks)}." if lacks else "."
    text += f" Not known, the file is cut off: {', '.join(unknown)}." if unknown else ""
    return [*_wrapped("", e.name), *_wrapped("  ", e.subject), *_wrapped("  ", text)]


def _matrix(found: Sequence[Examination], first: int) -> list[str]:
    lines = [
        f"  {'':{_NAME_WIDTH}}" + "".join(f"{number:<{_CELL_WIDTH}}" for number in range(first, first + len(found))).rstrip()
    ]
    for key, name in CAPABILITIES.items():
        cells = "".join(f"{_CELLS[e.status(key)]:<{_CELL_WIDTH}}" for e in found)
        lines.append(f"  {name:{_NAME_WIDTH}}{cells}".rstrip())
    odd = "".join(f"{len(e.oddities):<{_CELL_WIDTH}}" for e in found)
    return [*lines, f"  {'oddities':{_NAME_WIDTH}}{odd}".rstrip()]


def _odd(e: Examination) -> list[str]:
    lines = [line for o in e.oddities for line in (*_wrapped("  ", o.finding, hang=4), *_wrapped("      ", o.meaning))]
    return ["Odd", *(lines or ["  nothing"])]


def _line(c: Capability) -> list[str]:
    start = f"  {c.status:8}{c.name:{_NAME_WIDTH}}"
    lines = _wrapped(start, c.detail)
    return [*lines, *_wrapped(" " * len(start), f"so: {c.consequence}")] if c.consequence else lines


def _better(recording: Recording) -> list[str]:
    if not recording.missing and not recording.command and not recording.remarks:
        return ["", "Record it better", "  nothing is missing that could be recorded"]
    lines = ["", "Record it better"]
    lines += [line for name, how in recording.missing for line in _wrapped(f"  {name:{_NAME_WIDTH}}", how)]
    lines += [line for text in recording.remarks for line in _wrapped("  ", text, hang=4)]
    return [*lines, *_command(recording.command, "all of it")]


def _command(command: str, what: str) -> list[str]:
    if not command:
        return []
    placeholders = "; capitals are yours to fill in, for image models" if "PACKAGE" in command else ""
    return [*_wrapped("  ", f"{what} with this program{placeholders}:"), f"    {_plain(command)}"]


def _snippet(snippet: str, purpose: str = "") -> list[str]:
    if not snippet:
        return []
    return [
        "",
        *_wrapped("", f"With torch.profiler{purpose} (model and batch are yours):"),
        *(f"    {line}".rstrip() for line in snippet.split("\n")),
    ]


def _counting(commands: str, purpose: str = "") -> list[str]:
    """Return how to count the kernels of the program that was recorded, where that is not this one."""
    if not commands:
        return []
    return [
        "",
        *_wrapped("", f"With Nsight Compute{purpose} (PROGRAM.py is yours; lay the last file beside the trace):"),
        *(f"    {line}" for line in commands.split("\n")),
    ]


def _any_name(commands: str) -> str:
    """Return commands for one trace as commands for any: only the name of the file that they write is its own."""
    start, into, _ = commands.rpartition(" > ")
    return f"{start}{into}NAME.counters.csv" if into else commands


def _wrapped(start: str, text: str, hang: int | None = None) -> list[str]:
    """Return ``text`` behind ``start`` in lines of at most WIDTH columns; further lines begin below the first."""
    indent = " " * (len(start) if hang is None else hang)
    return wrap(_plain(text), WIDTH, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False) or [start.rstrip()]


def _document(e: Examination) -> dict[str, Any]:
    return {
        "name": _plain(e.name),
        "subject": _plain(e.subject),
        "capabilities": [
            {
                "key": c.key,
                "name": c.name,
                "status": c.status,
                "detail": _plain(c.detail),
                "consequence": _plain(c.consequence),
                "count": c.count,
                "total": c.total,
            }
            for c in e.capabilities
        ],
        "oddities": [
            {
                "code": o.code,
                "finding": _plain(o.finding),
                "meaning": _plain(o.meaning),
                "count": o.count,
                "share_pct": None if o.share_pct is None or math.isnan(o.share_pct) else o.share_pct,
            }
            for o in e.oddities
        ],
        "recording": {
            "missing": [{"name": name, "how": how} for name, how in e.recording.missing],
            "snippet": e.recording.snippet,
            "command": _plain(e.recording.command),
            "counting": e.recording.counting,
            "remarks": [_plain(text) for text in e.recording.remarks],
        },
    }
