"""The verbs of the command line: what each takes, and the one place where they are listed.

Heavy imports happen inside the tasks, so that ``--help`` stays fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analyzer.errors import ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import Settings
from analyzer.tasks.access import access
from analyzer.tasks.compare import compare
from analyzer.tasks.crossover import crossover
from analyzer.tasks.device import calibrate
from analyzer.tasks.doctor import doctor
from analyzer.tasks.gate import gate
from analyzer.tasks.outcome import Outcome
from analyzer.tasks.perfetto import perfetto
from analyzer.tasks.profiling import profile, report
from analyzer.tasks.project import project
from analyzer.tasks.tensorboard import tensorboard
from analyzer.tasks.validate import validate


@dataclass(frozen=True, slots=True)
class Task:
    """A verb: its function, and which of the settings that not every verb takes it takes (keys of ``_OPTIONAL``)."""

    run: Callable[[Settings, Reporter], Outcome]
    takes: frozenset[str]


TASKS: dict[str, Task] = {
    "profile": Task(profile, frozenset({"gpu_spec", "price"})),
    "report": Task(report, frozenset({"runs", "gpu_spec", "counters"})),
    "calibrate": Task(calibrate, frozenset()),
    "doctor": Task(doctor, frozenset({"runs", "gpu_spec", "counters"})),
    "perfetto": Task(perfetto, frozenset({"runs", "gpu_spec", "counters"})),
    "tensorboard": Task(tensorboard, frozenset({"runs"})),
    "access": Task(access, frozenset({"gpu", "gpu_spec"})),
    "compare": Task(compare, frozenset({"runs", "gpu_spec", "baseline"})),
    "project": Task(project, frozenset({"runs", "gpu_spec", "onto"})),
    "gate": Task(gate, frozenset({"runs", "baseline"})),
    "validate": Task(validate, frozenset({"runs", "gpu_spec", "counters"})),
    "crossover": Task(crossover, frozenset({"runs", "price"})),
}

_OPTIONAL: dict[str, Callable[[Settings], object]] = {
    "runs": lambda s: s.runs,
    "gpu_spec": lambda s: s.gpu_spec,
    "gpu": lambda s: s.gpus,
    "baseline": lambda s: s.baseline,
    "onto": lambda s: s.onto,
    "price": lambda s: s.price is not None,
    "counters": lambda s: s.counter_file is not None,
}
_INSTEAD = {"gpu": "; device= says where a model runs", "counters": "; elsewhere counters= is auto, ncu or none"}


def check(settings: Settings) -> None:
    """Check that the task that ``settings`` names takes what was given.

    Raises:
        ConfigError: it does not.
    """
    task = TASKS[settings.task]
    for name, given in _OPTIONAL.items():
        if given(settings) and name not in task.takes:
            takers = " and ".join(f"task={other}" for other, found in TASKS.items() if name in found.takes)
            hint = f"{name}= belongs to {takers}{_INSTEAD.get(name, '')}"
            raise ConfigError(f"task={settings.task} takes no {name}=", hint)


def run(settings: Settings, reporter: Reporter) -> Outcome:
    """Run the task that ``settings`` names.

    Raises:
        ConfigError: a setting was given to a task that does not take it.
    """
    check(settings)
    return TASKS[settings.task].run(settings, reporter)
