"""What TensorBoard and its profiler plugin make of a log directory: the plugin's parser alone, or the real server over HTTP."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S, LOAD_S, ANSWER_S = 120, 240, 60
"""Deadlines, generous for a machine that does much else; a test that meets none of them has hung."""
PLUGIN = "data/plugin/pytorch_profiler"


@contextlib.contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep the plugin's prints from the test's output, and collect what it logs."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, keep = logging.getLogger("pytorch_profiler"), Keep()
    logger.addHandler(keep)
    propagates, logger.propagate = logger.propagate, False
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield said
    finally:
        logger.removeHandler(keep)
        logger.propagate = propagates


@dataclass
class Parsed:
    """What the plugin's own parser reads: times in microseconds; ``said`` is what it logged."""

    data: Any
    profile: Any
    said: list[str]

    @property
    def kernels(self) -> tuple[int, float]:
        stat = self.data.kernel_stat
        return (0, 0.0) if stat is None else (int(stat["count"].sum()), float(stat["sum"].sum()))

    @property
    def device_us(self) -> dict[str, float]:
        """Return the device time that each operator itself launched."""
        return {op.name: op.self_device_duration for op in self.data.op_list_groupby_name if op.self_device_duration}

    @property
    def kernel_operators(self) -> dict[str, str]:
        return {row.name: row.op_name for row in self.data.kernel_list_groupby_name_op}

    def cost_us(self, role: str) -> float:
        from torch_tb_profiler.profiler.event_parser import ProfileRole

        return float(self.data.avg_costs.costs[ProfileRole[role]])


def parse(path: Path) -> Parsed:
    from torch_tb_profiler.profiler.data import RunProfileData
    from torch_tb_profiler.profiler.run_generator import RunGenerator

    with quiet() as said:
        data = RunProfileData.parse("w", None, str(path), str(path.parent))
        return Parsed(data, RunGenerator("w", None, data).generate_run_profile(), said)


class Server:
    """A TensorBoard of its own process."""

    def __init__(self, url: str, output: list[str]) -> None:
        self.url, self.output = url, output

    def get(self, path: str, **query: str) -> tuple[int, Any]:
        """Return the status and the decoded answer; the text of an error as it is."""
        asked = urllib.parse.urlencode(query)
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{asked}", timeout=ANSWER_S) as answer:
                data = answer.read()
                if answer.headers.get("Content-Encoding") == "gzip":
                    data = gzip.decompress(data)
                return answer.status, json.loads(data)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return json.loads(answer.read())

    def ask(self, path: str, **query: str) -> Any:
        status, answer = self.get(path, **query)
        assert status == 200, (path, query, answer, "".join(self.output)[-3000:])
        return answer

    def plugin(self, view: str, run: str, **query: str) -> Any:
        """Return the answer of the profiler plugin for the only worker of ``run``, or the one called in ``query``."""
        known = {"run": run, "span": "default"} | query
        if "worker" not in known:
            (known["worker"],) = self.ask(f"{PLUGIN}/workers", run=run, view="Overview")
        return self.ask(f"{PLUGIN}/{view}", **known)

    def wait_until_loaded(self, profiles: int, runs: int) -> list[str]:
        """Wait until the plugin has loaded that many runs and the scalars of all are there; return the plugin's runs."""
        deadline = time.monotonic() + LOAD_S
        while True:
            found = self.ask(f"{PLUGIN}/runs")
            tags = self.ask("data/plugin/scalars/tags")
            if len(found["runs"]) >= profiles and not found["loading"] and len(tags) >= runs:
                return list(found["runs"])
            assert time.monotonic() < deadline, (found, list(tags), "".join(self.output)[-3000:])
            time.sleep(0.2)


@contextlib.contextmanager
def serve(logdir: Path) -> Iterator[Server]:
    """Start TensorBoard on a free port of this machine alone; it ends with the block."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0", "--host", "localhost"]
    command += ["--reload_interval", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output: list[str] = []

    reader = threading.Thread(target=lambda: [output.append(line) for line in process.stdout or ()], daemon=True)
    reader.start()
    try:
        deadline, found = time.monotonic() + START_S, None
        while found is None:
            assert process.poll() is None, "".join(output)
            assert time.monotonic() < deadline, "".join(output)
            found = re.search(r"http://localhost:\d+/", "".join(output))
            time.sleep(0.1)
        yield Server(found[0], output)
        assert process.poll() is None, "".join(output)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(30)
