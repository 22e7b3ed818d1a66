"""The files of a gate: gate.md for a pull request, junit.xml for a CI server, summary.json for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from analyzer.format import counted, fixed, interval, milliseconds, times
from analyzer.insight.gate.verdict import changed, operator_name
from analyzer.report.plain import plain
from analyzer.report.text import NAME_LIMIT, clean
from analyzer.schema.gate import Gate, GateModel, GateOperator, GateRow

GATE_FORMAT_VERSION = 1
MARKDOWN, JUNIT, SUMMARY = "gate.md", "junit.xml", "summary.json"
FILES = (MARKDOWN, JUNIT, SUMMARY)
"""Names of the files of a gate."""

_MARKS = {
    "regression": "**regression**", "improved": "improved", "no change": "no change", "cannot tell": "cannot tell",
    "added": "added", "removed": "removed",
}  # fmt: skip
_MAX_LISTED = 20
_MARKED = re.compile(r"[\\`*{}\[\]<>#!|~@&$]|:(?=\S)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Characters that mean something in Markdown, in HTML or to GitHub (mentions, links, references, formulas)."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 does not allow, not even escaped."""


def write_gate_files(gate: Gate, directory: Path) -> dict[str, Any]:
    """Write FILES into ``directory`` and return what summary.json holds.

    Raises:
        OSError: the directory cannot be written to.
    """
    found = summary(gate)
    (directory / SUMMARY).write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    (directory / MARKDOWN).write_text(markdown(gate), "utf-8")
    (directory / JUNIT).write_bytes(junit(gate))
    return found


def is_gate(names: Iterable[str]) -> bool:
    """Tell whether files of these ``names`` are a gate and nothing else."""
    return set(names) == set(FILES)


def escaped(text: str, limit: int = NAME_LIMIT) -> str:
    """Return ``text`` on one line such that Markdown shows it as it is and GitHub neither links nor notifies anybody.

    Every character that could mean something becomes an HTML entity.
    """
    kept = clean(text, limit)
    kept = _MARKED.sub(lambda found: f"&#{ord(found[0])};", kept)
    return re.sub(r"(?i)\bwww\.", lambda found: f"{found[0][:-1]}&#46;", kept)


def markdown(gate: Gate) -> str:
    """Return the gate as GitHub Markdown: the verdict, then a table per model."""
    lines = [f"### {escaped(gate.headline, 300)}", ""]
    lines += [escaped(gate.reason, 600), ""] if gate.reason else []
    for model in gate.models:
        lines += _model_lines(model)
    if gate.missing or gate.extra:
        lines += [f"- no new run of {escaped(name)}" for name in gate.missing[:_MAX_LISTED]]
        lines += [f"- no baseline for {escaped(name)}" for name in gate.extra[:_MAX_LISTED]]
        lines.append("")
    tests = counted(gate.tests, "ratio", "ratios")
    lines.append(
        f"<sub>A regression is a 95 % interval above 1 (all {tests} together) and a ratio of at least "
        f"{fixed(1 + gate.min_effect_pct / 100, 2)}; smaller changes do not count. "
        "Cannot tell: the noise is wider than that.</sub>"
    )
    return "\n".join(lines) + "\n"


def _model_lines(model: GateModel) -> list[str]:
    head = f"**{escaped(model.label)}**" + (f" ({escaped(model.conditions, 200)})" if model.conditions else "")
    old, new = (_counts(runs, processes) for runs, processes in zip(model.runs, model.processes, strict=True))
    lines = [f"{head}: {escaped(model.basis, 200)}; baseline {old}, new {new}", ""]
    lines += ["| | before | now | now / before | 95 % interval | verdict |", "|---|--:|--:|--:|:-:|---|"]
    lines += [_table_row(row) for row in model.rows]
    lines.append("")
    for row in model.rows:
        if row.state in ("regression", "improved") and row.by == "kind":
            lines += [f"- {escaped(row.name)}: {_operator_line(operator)}" for operator in row.responsible]
    lines += [f"- differs: {escaped(text, 300)}" for text in model.differences]
    lines += [f"- note: {escaped(text, 300)}" for text in model.warnings]
    if model.unjudged:
        lines.append(f"- not judged, under 1 % of the kernel time each: {escaped(', '.join(model.unjudged), 300)}")
    return [*lines, ""] if lines[-1] else lines


def _counts(runs: int, processes: int) -> str:
    return f"{counted(runs, 'run', 'runs')} ({counted(processes, 'process', 'processes')})"


def _table_row(row: GateRow) -> str:
    before, now = (milliseconds(us) if us else "none" for us in (row.old_us, row.new_us))
    cells = [escaped(row.name), before, now, times(row.ratio), interval(row.ratio) or "n/a", _MARKS[row.state]]
    return f"| {' | '.join(cells)} |"


def _operator_line(operator: GateOperator) -> str:
    line = (
        f"{escaped(operator_name(operator), 240)}: {milliseconds(operator.old_us)} before, {milliseconds(operator.new_us)} now"
    )
    old, new = operator.kernels
    if old and new and set(old) != set(new):
        line += f"; kernel was {escaped(old[0])}, is {escaped(new[0])}"
    return line


def junit(gate: Gate) -> bytes:
    """Return the gate as JUnit XML: a test suite per model, a test case for the whole and for each class.

    A regression is a failure, what cannot be told is skipped; a model without a new run is a skipped case of its own suite.
    """
    root = ElementTree.Element("testsuites", name="analyzer gate")
    for model in gate.models:
        _suite(root, f"{model.label} {model.conditions}", [_case(row) for row in model.rows])
    for name in gate.missing:
        _suite(root, name, [("whole model", "skipped", "the baseline has it, the new runs do not", "")])
    for total in ("tests", "failures", "errors", "skipped"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    root.set("time", "0")
    ElementTree.indent(root)
    return (f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n').encode()


def _case(row: GateRow) -> tuple[str, str, str, str]:
    """Return name, result, message and details of a test case."""
    if row.state == "regression":
        details = "\n".join(
            f"{operator_name(operator)}: {milliseconds(operator.old_us)} before, {milliseconds(operator.new_us)} now"
            for operator in row.responsible
        )
        return row.name, "failure", changed(row), details
    if row.state == "cannot tell":
        return row.name, "skipped", f"cannot tell: {row.note}", ""
    return row.name, "", "", changed(row) if row.ratio.value else f"{row.state}: {row.note}"


def _suite(root: ElementTree.Element, name: str, cases: list[tuple[str, str, str, str]]) -> None:
    shown = _xml(name)
    results = [result for _, result, _, _ in cases]
    counts = {"tests": len(cases), "failures": results.count("failure"), "errors": 0, "skipped": results.count("skipped")}
    suite = ElementTree.SubElement(root, "testsuite", {"name": shown, "time": "0"} | {k: str(n) for k, n in counts.items()})
    for case_name, result, message, details in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=shown, name=_xml(case_name), time="0")
        if result == "failure":
            ElementTree.SubElement(case, "failure", message=_xml(message), type="regression").text = _xml(details) or None
        elif result:
            ElementTree.SubElement(case, "skipped", message=_xml(message))
        elif details:
            ElementTree.SubElement(case, "system-out").text = _xml(details)


def _xml(text: str) -> str:
    """Return ``text`` with only what XML may hold, line by line cleaned."""
    return _NOT_XML.sub("", "\n".join(clean(line) for line in text.split("\n"))).strip()


def summary(gate: Gate) -> dict[str, Any]:
    """Return what summary.json holds: plain JSON values, None where there is no figure."""
    return plain(  # type: ignore[no-any-return]
        {
            "format_version": GATE_FORMAT_VERSION,
            "headline": clean(gate.headline),
            "reason": clean(gate.reason),
            "failed": gate.failed,
            "min_effect_pct": gate.min_effect_pct,
            "tests": gate.tests,
            "missing": [clean(name) for name in gate.missing],
            "extra": [clean(name) for name in gate.extra],
            "not_told": [clean(text) for text in gate.not_told],
            "models": [_model(model) for model in gate.models],
        }
    )


def _model(model: GateModel) -> dict[str, Any]:
    sides = zip(("baseline", "new"), model.runs, model.processes, strict=True)
    return {
        "label": clean(model.label),
        "conditions": clean(model.conditions),
        "basis": model.basis,
        "sides": {side: {"runs": runs, "processes": processes} for side, runs, processes in sides},
        "rows": [_row(row) for row in model.rows],
        "unjudged": [clean(name) for name in model.unjudged],
        "differences": [clean(text) for text in model.differences],
        "warnings": [clean(text) for text in model.warnings],
    }


def _row(row: GateRow) -> dict[str, Any]:
    return {
        "by": row.by,
        "name": clean(row.name),
        "state": row.state,
        "old_us": row.old_us,
        "new_us": row.new_us,
        "ratio": row.ratio.to_json(),
        "share_pct": row.share_pct,
        "margin_pct": row.margin_pct,
        "note": clean(row.note) or None,
        "responsible": [_operator(operator) for operator in row.responsible],
    }


def _operator(operator: GateOperator) -> dict[str, Any]:
    return {
        "op": clean(operator.op),
        "shapes": clean(operator.shapes),
        "modules": [clean(module) for module in operator.modules],
        "module_count": operator.module_count,
        "old_us": operator.old_us,
        "new_us": operator.new_us,
        "old_kernels": [clean(name) for name in operator.kernels[0]],
        "new_kernels": [clean(name) for name in operator.kernels[1]],
    }
