"""What ``analyzer --help`` prints: examples, the choices of each group, and the commented settings themselves.

Hydra's own help takes half a second to list the groups and drops the comments of the configuration, which are the manual.
"""

from __future__ import annotations

from pathlib import Path

_EXAMPLES = """\
analyzer: profiles Vision Transformer and CNN inference and explains the speed gap between them.

  analyzer                                          profile ViT-B/16 and ConvNeXt-B here, write the report
  analyzer vit=vit_tiny_patch16_224 cnn=resnet18    another pair
  analyzer model=vit_small_patch16_224              one model alone, of either family
  analyzer vit.name=beit_base_patch16_224           any timm model, by its name
  analyzer vit.factory=package.module:function      a torch.nn.Module of one's own, or (module, example_input)
  analyzer vit.weights=state.pt                     a state dict, tensors only; weights hardly change the speed
  analyzer batch_size=32 image_size=384 dtype=bfloat16 device=cuda:0
  analyzer layout=channels_last compile=default attention=math      settings that decide many a comparison
  analyzer model=vit_tiny_patch16_224 compile=[off,default]     a list: one run per value, in one report
  analyzer -m image_size=224,384 batch_size=1,8     a sweep: every point once, one crossover report; resumes when repeated
  analyzer -m experiment=smoke                      a small sweep; dry_run=true lists its points
  analyzer -m experiment=vit_cnn_speed              the published grid of five models
  analyzer task=report runs=traces/X                a report from run directories or bare Kineto traces: no GPU, no torch
  analyzer task=report runs=t.json.gz steps=3-5     of some profiler steps; annotation=NAME, rank=N select likewise
  analyzer counters=ncu                             hardware counters of every kernel, or why not and what helps
  analyzer task=report runs=t.json.gz counters=c.csv    with counters that ncu --csv --page raw wrote
  analyzer task=validate runs=traces/X              what the models predict against what was counted, by class of kernel
  analyzer task=compare runs=[A,B,C] baseline=B     any number of runs or traces, of any GPUs and models
  analyzer task=project runs=X onto=[a100_sxm4_80gb,b200]
                                                    what its kernels would take on other GPUs; what is validated
  analyzer task=crossover runs=traces/sweeps/X      the report of a sweep again; price=2.5 adds images per unit of currency
  analyzer task=gate runs=NEW baseline=OLD          exit code 4 if something takes clearly longer; Markdown and JUnit
  analyzer task=access image_size=512 gpu=[h100_sxm5_80gb,a100_sxm4_80gb]
                                                    what both models do to the caches, from shapes alone: runs nothing
  analyzer task=calibrate                           measure this device's copy bandwidth and matmul rate
  analyzer task=doctor                              what can be measured here
  analyzer task=doctor runs=t.json.gz               what a trace supports, what is odd, how to record a better one
  analyzer task=tensorboard runs=traces/X           a log directory for TensorBoard: trace, figures, table of runs
  analyzer task=perfetto runs=traces/X              the trace again, each kernel with kind, bound and module, for Perfetto
  analyzer dry_run=true                             show the plan, run nothing
  analyzer --cfg job --resolve                      show the settings in force, run nothing
"""
_TAIL = """\
Exit codes: 0 done, 1 failed, 3 something could not be measured (strict=true), 4 the gate failed.
Completion: eval "$(analyzer -sc install=bash)"      Hydra's own options: analyzer --hydra-help
"""


def usage(config_dir: Path) -> str:
    """Return the help text for the configuration in ``config_dir``."""
    groups = []
    for folder in sorted(p for p in config_dir.iterdir() if p.is_dir()):
        choices = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        groups.append(f"  {folder.name}: {choices}")
    text = (config_dir / "config.yaml").read_text(encoding="utf-8")
    settings = text.partition("# ---")[2].partition("\nhydra:")[0]
    lines = [f"  {line}" if line else "" for line in f"# ---{settings}".rstrip().splitlines()]
    return "\n".join([_EXAMPLES, "Groups, set like vit=vit_tiny_patch16_224:", *groups, "", "Settings:", *lines, "", _TAIL])
