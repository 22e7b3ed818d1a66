"""The example of docs/api.md runs as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.report.synthetic import Fake, write_run


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    found = re.search(r"<!-- example -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found
    (tmp_path / "traces").mkdir()
    for name, fake in (("vit", Fake()), ("cnn", Fake(family="cnn", latency_ms=3.7, idle_us=40.0))):
        shutil.move(write_run(tmp_path, fake), tmp_path / "traces" / name)
    monkeypatch.chdir(tmp_path)
    exec(compile(found.group(1), "docs/api.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "x as long as" in printed
    assert "residual" in printed
    assert "kernel" in printed
