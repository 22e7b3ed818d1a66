"""Every command that README and docs show is one that this version takes; those of the tutorial run."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from analyzer import tasks
from analyzer.cli.failures import config_dir
from analyzer.cli.reading import read_settings
from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
RUN = "<!-- run -->\n"
_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )*(?:analyzer|make|python3? -m) [^`]*|analyzer)`")
_BEGINS = re.compile(r"^\s*(?:\$ )?(?:time )?(?:[A-Z_]+=\S+ )*(?:analyzer|make|python3? -m)(?: |$)")
_ALONE = {"--help", "-h", "-sc", "--version", "--hydra-help"}


def commands_of(text: str) -> Iterator[str]:
    """Yield the commands in a page: lines of fenced blocks and inline code that begin with a program of ours."""
    for block in _FENCE.findall(text):
        joined = re.sub(r"\\\n\s*", "", block)
        for line in joined.splitlines():
            if _BEGINS.match(line):
                yield line.strip().removeprefix("$ ")
    yield from _INLINE.findall(_FENCE.sub("", text))


def words_of(command: str) -> list[str]:
    """Return the words of a command up to a comment, a pipe or an explanation behind two blanks or more."""
    shown = re.split(r"\s{2,}(?![\w.]+=)|\s[#|>&]|;|…|\s\(", command, maxsplit=1)[0]
    words = shlex.split(shown)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words


def documented() -> list[str]:
    """Return every command once, with the page that shows it first."""
    found: dict[str, str] = {}
    for page in PAGES:
        for command in commands_of(page.read_text()):
            found.setdefault(command, page.relative_to(ROOT).as_posix())
    return [f"{page}: {command}" for command, page in found.items()]


def test_commands_are_found_in_text_and_blocks() -> None:
    page = "Run `analyzer` or `FOO=1 analyzer a=1`, then:\n\n```\n$ analyzer -m b=1,2 \\\n  c=3    says so\nmake report RUN='x=1'\n```\n"
    found = list(commands_of(page))
    assert [words_of(command) for command in found] == [
        ["analyzer", "-m", "b=1,2", "c=3"], ["make", "report", "RUN=x=1"], ["analyzer"], ["analyzer", "a=1"],
    ]  # fmt: skip
    assert len(documented()) > 50


@pytest.mark.parametrize("shown", documented())
def test_a_documented_command_is_one_that_we_take(shown: str) -> None:
    words = words_of(shown.split(": ", 1)[1])
    if words[0] == "analyzer":
        _check_analyzer(words[1:])
    elif words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word} <= targets
    else:
        assert importlib.util.find_spec(words[2]) is not None, words[2]


def _check_analyzer(words: list[str]) -> None:
    if _ALONE & set(words):
        return
    overrides = [word for word in words if not word.startswith("-") and word not in ("job", "all", "...")]
    assert all("=" in word for word in overrides), overrides
    if "-m" in words or any(word.startswith("experiment=") for word in words):  # an experiment is a sweep by itself
        overrides = [_first_of_sweep(word) for word in overrides]
    with initialize_config_dir(version_base="1.3", config_dir=config_dir()):
        config = compose("config", overrides=[_quoted(word) for word in overrides])
    choices = {group: next((o.split("=")[1] for o in overrides if o.startswith(f"{group}=")), "") for group in ("vit", "cnn")}
    settings = read_settings(config, choices, overrides=overrides)
    tasks.check(settings)


def _first_of_sweep(word: str) -> str:
    """Return an override of a sweep with the first of its values; commas inside brackets part nothing."""
    return re.sub(r"=([^,\[(]+),.*", r"=\1", word)


def _quoted(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key}='{value}'" if key == "annotation" else word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text())):
        name, _, anchor = target.partition("#")
        if name.startswith("http"):
            continue
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", _FENCE.sub("", file.read_text()), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, target


def tutorial() -> list[str]:
    """Return the commands of the tutorial in their order: the blocks behind the mark."""
    text = (ROOT / "docs" / "tutorial.md").read_text()
    return [line for part in text.split(RUN)[1:] for line in _FENCE.match(part)[1].strip().splitlines()]  # type: ignore[index]


def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    """Every command in its order in one fresh directory, as a shell would; what it promises to write is there."""
    program = tmp_path / "bin" / "analyzer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m analyzer "$@"\n')
    program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    paths = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    commands = tutorial()
    assert len(commands) >= 5
    for command in commands:
        done = subprocess.run(
            ["sh", "-c", command], cwd=work, env=os.environ | paths, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        for name in re.findall(r"\bout=(\S+)", command):
            assert any((work / name).iterdir()), command
