"""Event files of TensorBoard: scalars, texts and the settings of a run, written with TensorBoard's own classes.

Not with its ``EventFileWriter``, which puts the name of the host into the name of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVENTS_PREFIX, EVENTS_SUFFIX = "events.out.tfevents.", ".analyzer"


@dataclass(frozen=True, slots=True)
class Scalar:
    """One tag: ``points`` are (step, Unix time in seconds, value); ``description`` is Markdown."""

    tag: str
    description: str
    points: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True, slots=True)
class Text:
    """One text in Markdown."""

    tag: str
    description: str
    markdown: str


def write_events(
    directory: Path, moment_s: float, scalars: Iterable[Scalar], texts: Iterable[Text], settings: dict[str, str | float]
) -> Path:
    """Write the event file of one run into ``directory`` and return its path.

    ``moment_s`` is the Unix time that single figures and texts carry; ``settings`` are the run's row in TensorBoard's HParams.
    """
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.plugins.text.summary_v2 import text_pb

    path = _path(directory, moment_s)
    with _writing(path, moment_s) as write:
        if settings:
            write(0, moment_s, summary=hparams_pb(settings, trial_id=directory.name, start_time_secs=moment_s))
        for text in texts:
            write(0, moment_s, summary=text_pb(text.tag, text.markdown, description=text.description))
        for scalar in scalars:
            for number, (step, at_s, value) in enumerate(scalar.points):
                # TensorBoard takes the description from the first point
                told = scalar.description if number == 0 else None
                write(step, at_s, summary=scalar_pb(scalar.tag, value, description=told))
    return path


def write_columns(directory: Path, settings: list[dict[str, str | float]], tags: Iterable[str]) -> Path:
    """Write which columns TensorBoard's HParams has, in this order: the settings that any run has, then the scalars ``tags``.

    Without it every scalar becomes a column.
    """
    from tensorboard.plugins.hparams.summary_v2 import Discrete, HParam, Metric, hparams_config_pb

    values = {
        key: {run[key] for run in settings if key in run} for key in dict.fromkeys(key for run in settings for key in run)
    }
    columns = [HParam(key, Discrete(sorted(found))) for key, found in values.items()]
    path = _path(directory, 0)
    with _writing(path, 0) as write:
        write(0, 0, summary=hparams_config_pb(columns, [Metric(tag) for tag in tags], time_created_secs=0))
    return path


def _path(directory: Path, moment_s: float) -> Path:
    return directory / f"{EVENTS_PREFIX}{int(moment_s):010d}{EVENTS_SUFFIX}"


@contextmanager
def _writing(path: Path, moment_s: float) -> Iterator[Callable[..., None]]:
    """Yield what writes one event into a new file: its step, its Unix time in seconds, its content by name."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    with path.open("wb") as file:
        writer = RecordWriter(file)

        def write(step: int, at_s: float, **what: Any) -> None:
            writer.write(Event(wall_time=at_s, step=step, **what).SerializeToString())

        write(0, moment_s, file_version="brain.Event:2")
        yield write
