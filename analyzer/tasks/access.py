"""``task=access``: the access model from shapes alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError
from analyzer.progress import Reporter
from analyzer.schema.settings import ModelChoice, Settings
from analyzer.tasks.inputs import own_sheet, plan_lines, report_directory
from analyzer.tasks.outcome import Outcome

if TYPE_CHECKING:
    from analyzer.layers import Layers
    from analyzer.report.access_files import AccessReport
    from analyzer.trace.rundir import NewDirectory


def access(settings: Settings, reporter: Reporter) -> Outcome:
    """Say from shapes alone what models do to the caches of GPUs: no GPU, no trace, nothing is run."""
    if not settings.models:
        raise ConfigError(
            "vit=none and cnn=none leave nothing to look at", "choose a model, for example vit=vit_tiny_patch16_224"
        )
    from analyzer import layers

    gpus = layers.targets(settings.gpus, own_sheet(settings))
    batch, pixels, dtype = _access_input(settings)
    if settings.dry_run:
        labels, names = [m.label for m in settings.models], [gpu.sheet.name for gpu in gpus]
        plan: dict[str, object] = {"models": labels, "gpus": names, "batch_size": batch, "image_size": pixels, "dtype": dtype}
        return Outcome(["would work out, from shapes alone:", *plan_lines([plan])], {"plan": plan})
    name = f"access-{'-'.join(choice.name for choice in settings.models)}-{pixels}"
    with report_directory(settings, name, _is_access_report) as directory:
        results = []
        for choice in settings.models:
            with reporter.stage(f"record the layers of {choice.label}") as stage:
                layers_of = _layers(settings, choice)
                stage.note = f"{len(layers_of.records)} operators"
            with reporter.stage(f"work out the access of {choice.label}") as stage:
                results.append(layers.analyze_layers(layers_of, gpus))
                stage.note = f"{sum(not p.hypothetical for p in results[-1].patterns)} distinct layers"
        with reporter.stage("write report"):
            from analyzer.report.access_files import AccessReport
            from analyzer.report.access_report import write_access_report

            caches, command = tuple(gpu.cache for gpu in gpus), settings.capture.command
            found = AccessReport(tuple(results), caches, dtype, command, layers.peaks(gpus, dtype))
            write_access_report(found, directory.path)
    return _access_outcome(found, directory)


def _layers(settings: Settings, choice: ModelChoice) -> Layers:
    """Return the operators of ``choice`` and the sizes that they have: those that are set, or those of its example input."""
    from analyzer.capture import meta
    from analyzer.layers import Layers

    batch, pixels, dtype = _access_input(settings)
    found = meta.recorded(choice, batch, pixels, dtype)
    meta.check_sizes(found, choice, settings.capture)
    if found.image_size is None:
        what = f"the example input of {choice.label} holds no square images [N, C, H, W]; the access model needs them"
        raise ConfigError(what, "profile it instead: the report has the access model of what ran")
    return Layers(choice.label, found.batch_size, found.image_size, dtype, found.ops)


def _access_input(settings: Settings) -> tuple[int, int, str]:
    """Return batch size, image size and dtype, with the presets of task=access."""
    from analyzer.capture.presets import dtype_name

    given = settings.capture
    return given.batch_size or 32, given.image_size or 224, dtype_name(given.dtype or "float16")


def _access_outcome(found: AccessReport, directory: NewDirectory) -> Outcome:
    from analyzer.format import size
    from analyzer.insight.locality import claim
    from analyzer.insight.moved import lines
    from analyzer.report.access_files import patterns

    page = (directory.final or directory.path) / "index.html"
    missing = tuple(f"access model of {what} in {r.model}: {why}" for r in found.results for what, why, _ in r.left_out)
    text = ["", claim(found.results).sentence, *lines(found.results, found.gpus)]
    text += [
        "Assumed: tiles and orders of blocks, because nothing was run and no kernel has a name. All bytes are modelled; the "
        "low end leaves in the cache what it may still hold of each output, the high end takes the worst plausible order."
    ]
    text += [f"Not covered: {line}" for line in missing]
    text += [f"Report: {page} ({size(page.stat().st_size)})"]
    text += [
        "Next: analyzer task=access json=true for programs, or gpu=[b200,rtx_4090] image_size=1024 for other GPUs and sizes"
    ]
    return Outcome(text, {"patterns": patterns(found)}, missing)


def _is_access_report(directory: Path) -> bool:
    from analyzer.report.access_files import is_access_report

    return is_access_report([entry.name for entry in directory.iterdir()])
