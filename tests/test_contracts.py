"""What keeps the code as it is meant to be: sizes, documented columns, commands that parse, a wheel that is whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from analyzer.cli.failures import config_dir
from analyzer.cli.reading import read_settings
from analyzer.metrics.kernels import COLUMNS
from analyzer.schema import tables
from analyzer.schema.run import RunFacts
from analyzer.schema.tables import Table
from tests.conftest import ROOT

MODULES = sorted((ROOT / "analyzer").rglob("*.py"))
DECLARED = [value for value in vars(tables).values() if isinstance(value, Table)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or node.lineno) - node.lineno + 1 <= 60, node.name


def test_every_declared_column_says_what_it_means() -> None:
    assert len({table.name for table in DECLARED}) == len(DECLARED) >= 8
    for table in DECLARED:
        assert len(set(table.names)) == len(table.columns)
        for column in table.columns:
            assert column.meaning
            assert column.dtype in ("int", "float", "bool", "text")
            suffix = re.search(r"_(us|ms|ns|bytes|pct|mhz|w|j|c|kbps)$", column.name)
            assert not suffix or column.unit, column.name


def test_the_api_page_names_every_column_of_a_trace() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    for table in (tables.DEVICE_EVENTS, tables.OPERATORS, tables.CALLS, tables.SPANS, tables.MEMORY_EVENTS, tables.LAUNCHES):
        for column in table.columns:
            assert f"| `{column.name}` | {column.dtype} | {column.unit} | {column.meaning} |" in page, (table.name, column.name)


def test_a_table_refuses_what_it_does_not_declare() -> None:
    timings = tables.TIMINGS
    with pytest.raises(TypeError, match="columns missing"):
        timings.check(timings.empty().drop(columns="latency_ms"))
    wrong = timings.empty().astype({"latency_ms": "object"})
    wrong.loc[0] = ["untraced", 0, 0, 0, "slow"]
    with pytest.raises(TypeError, match="latency_ms"):
        timings.check(wrong)


def test_files_page_names_every_field_of_run_json() -> None:
    page = (ROOT / "docs" / "files.md").read_text()
    missing = [name for name in RunFacts.__struct_fields__ if f"`{name}`" not in page]
    assert missing == []


def test_kernels_csv_has_the_columns_of_the_contract() -> None:
    contract = ROOT.parent / "shared" / "design.md"
    if not contract.is_file():
        pytest.skip("the design contract lies in ../shared, which is not here")
    text = contract.read_text()
    listed = text[text.index("`run, kernel, kind") :].split("`")[1]
    assert list(COLUMNS) == re.split(r",\s+", listed.strip())


def _readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    return sorted(set(re.findall(r"`(analyzer(?: [^`]*)?)`", text)))


@pytest.mark.parametrize("command", _readme_commands())
def test_commands_of_the_readme_parse(command: str) -> None:
    words = command.split()[1:]
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    if "-m" in words:
        overrides = [re.sub(r"=([^,\[]+),.*", r"=\1", word) for word in overrides]
    if "--help" in words or "-sc" in words:
        return
    with initialize_config_dir(version_base="1.3", config_dir=config_dir()):
        config = compose("config", overrides=overrides)
    names = {k: next((o.split("=")[1] for o in overrides if o.startswith(f"{k}=")), "") for k in ("vit", "cnn")}
    assert read_settings(config, names).task


def test_the_wheel_carries_everything_and_works_elsewhere(tmp_path: Path) -> None:
    """Built from a copy without the checkout around it, so nothing is found by accident."""
    copy = tmp_path / "source"
    copy.mkdir()
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listing.stdout.splitlines():
        if name.startswith(("analyzer/", "conf/", "pyproject", "README")) and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=copy, check=True, capture_output=True)
    wheel = next((copy / "dist").glob("*.whl"))
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(installed)
    for name in (
        "analyzer/conf/config.yaml", "analyzer/conf/vit/vit_base_patch16_224.yaml", "analyzer/py.typed",
        "analyzer/hardware/gpus/b200.yaml", "analyzer/hardware/compute_capability.yaml", "analyzer/report/assets/page.html.j2",
        "analyzer/report/assets/style.css", "analyzer/report/assets/page.js",
    ):  # fmt: skip
        assert name in names
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); sys.argv=['analyzer','--cfg','job'];"
        "from analyzer.cli import main; from analyzer.cli.failures import config_dir; assert 'site' in config_dir(); main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "vit_base_patch16_224" in done.stdout
