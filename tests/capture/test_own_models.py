"""Models of one's own: what a factory may return, what is refused and how, and one with shared parts from end to end."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from analyzer.analysis import analyze, compare
from analyzer.capture import meta, running, session
from analyzer.capture.presets import resolve
from analyzer.errors import AnalyzerError, ConfigError
from analyzer.progress import Reporter
from analyzer.report.render import write_report
from analyzer.schema.settings import CaptureSettings, ModelChoice
from tests.conftest import ROOT

ZOO = """
import sys
import torch
from torch import nn

class Conv(nn.Module):
    def __init__(self, channels=3, width=4):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3)
    def forward(self, x): return self.conv(x).mean((1, 2, 3))

class Masked(Conv):
    def forward(self, x, mask): return super().forward(x) * mask

class Gradient(Conv):
    def forward(self, x): return torch.autograd.grad(super().forward(x).sum(), self.conv.weight)

class Names(Conv):
    def forward(self, x): return {"scores": super().forward(x) + torch.zeros(1), "text": ["cat"]}

class Prints(Conv):
    def forward(self, x):
        print("a step")
        return super().forward(x)

class Yields(Conv):
    def forward(self, x): yield super().forward(x)

class Moves(Conv):
    def forward(self, x): return super().forward(x.cuda())

class Kept(Conv):
    @torch.compiler.disable
    def forward(self, x): return super().forward(x)

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.LazyLinear(3)
    def forward(self, x): return self.head(x.flatten(1))

class Freezes(Conv):
    def train(self, mode=True): super().train(mode)

class Zoo:
    @staticmethod
    def make(): return Conv()
    def bound(self): return Conv()

READY, KEPT = Conv(), []
def ready(): return READY
def kept():
    KEPT[1:] = [] if KEPT else [Conv()]
    return KEPT[0] if KEPT else KEPT.append(Conv()) or KEPT[0]
def exits(): sys.exit(3)
def nothing(): pass
def needs(depth): return Conv()
def gray(): return Conv(1)
def gray_example(): return Conv(1), torch.ones(2, 1, 16, 16, dtype=torch.float64)
def wide(): return Conv(), torch.ones(2, 3, 16, 24)
def named(): return Masked(), {"x": torch.ones(5, 3, 16, 16), "mask": torch.ones(5, dtype=torch.int64)}
def misnamed(): return Conv(), {"nope": torch.ones(1, 3, 16, 16)}
def nested(): return Masked(), (torch.ones(2, 3, 16, 16), torch.ones(2))
def sized(batch_size, image_size): return Conv(), torch.ones(batch_size, 3, image_size, image_size)
def reads():
    model = Conv()
    assert model.conv.weight.sum().item() < 1e9
    return model, torch.ones(7, 3, 16, 16)
def tokens(): return nn.TransformerEncoderLayer(8, 2, batch_first=True), torch.ones(3, 5, 8)
def a_list(): return Conv(), [torch.ones(1, 3, 8, 8)]
def empty(): return Conv(), ()
def scalar(): return Conv(), torch.tensor(1.0)
def parallel(): return nn.DataParallel(Conv())
def scripted(): return torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3)))
def compiled_part(): return nn.Sequential(torch.compile(Conv()))
def compiled_in_place():
    model = Conv()
    model.compile()
    return model
def moved(): return Conv().to("cuda:0")
"""

SHARED = """
import torch
from torch import nn

class Mix(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleDict({"up": nn.Linear(16, 64), "down": nn.Linear(64, 16)})
    def forward(self, x): return self.steps["down"](torch.relu(self.steps["up"](x)))

class Block(nn.Module):
    def __init__(self, mix):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(16), mix
    def forward(self, x): return x + self.mix(self.norm(x))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        mix = Mix()
        self.stem = nn.Conv2d(3, 16, 8, 8)
        self.left, self.right = Block(mix), Block(mix)
        self.order = nn.ModuleList([self.left, self.right, self.left])
        self.head = nn.Linear(16, 10)
    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        for block in self.order:
            x = block(x)
        return self.head(x.mean(1))

def make(): return Net()
"""
PRODUCTS = {"aten::addmm", "mkldnn::_linear_pointwise", "aten::mm", "mkl::_mkl_linear"}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_zoo_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(ZOO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def own(path: str, **options: object) -> ModelChoice:
    return ModelChoice("vit", path.rpartition(":")[2], "own", path, options=options)


@pytest.mark.parametrize(
    ("name", "shape", "image_size", "parameters"),
    [
        ("Conv", [1, 3, 64, 64], 64, 3 * 4 * 9 + 4),
        ("Zoo.make", [1, 3, 64, 64], 64, 112),
        ("READY", [1, 3, 64, 64], 64, 112),
        ("ready", [1, 3, 64, 64], 64, 112),
        ("Freezes", [1, 3, 64, 64], 64, 112),
        ("Names", [1, 3, 64, 64], 64, 112),
        ("sized", [1, 3, 64, 64], 64, 112),
    ],
)
def test_what_takes_one_image(
    name: str, shape: list[int], image_size: int, parameters: int, zoo: str, small: CaptureSettings
) -> None:
    choice = own(f"{zoo}:{name}")
    for _ in range(2):  # what was handed out once is not changed by it
        plan = session.plan(choice, small)
        assert (plan["input_shape"], plan["image_size"], plan["parameters"]) == (shape, image_size, parameters)
        assert plan["notes"] == []
        with running.prepared(choice, resolve(small)) as ready:
            assert not any(parameter.is_meta or parameter.requires_grad for parameter in ready.model.parameters())
            assert not ready.model.training
            ready.step()


@pytest.mark.parametrize(
    ("name", "shape", "image_size"),
    [
        ("gray_example", [2, 1, 16, 16], 16),
        ("wide", [2, 3, 16, 24], None),
        ("named", [5, 3, 16, 16], 16),
        ("nested", [2, 3, 16, 16], 16),
        ("reads", [7, 3, 16, 16], 16),
        ("tokens", [3, 5, 8], None),
    ],
)
def test_an_example_input_sets_the_sizes(name: str, shape: list[int], image_size: int | None, zoo: str) -> None:
    settings = CaptureSettings(device="cpu", dtype="bfloat16", layout="channels_last", counters="none")
    choice = own(f"{zoo}:{name}")
    plan = session.plan(choice, settings)
    assert (plan["input_shape"], plan["batch_size"], plan["image_size"]) == (shape, shape[0], image_size)
    with running.prepared(choice, resolve(settings)) as ready:
        assert (list(ready.input_shape), ready.image_size) == (shape, image_size)
        assert all(parameter.dtype == torch.bfloat16 for parameter in ready.model.parameters())
        ready.step()


def test_only_floating_tensors_are_cast_and_only_images_laid_out(zoo: str) -> None:
    from analyzer.capture.workload import build

    example = build(own(f"{zoo}:named"), 1, 64).example
    assert example is not None
    moved = example.to(dtype=torch.float16, memory_format=torch.channels_last)
    assert [tensor.dtype for tensor in moved.tensors] == [torch.float16, torch.int64]
    assert moved.kwargs["x"].is_contiguous(memory_format=torch.channels_last)
    assert moved.bytes == 5 * 3 * 16 * 16 * 2 + 5 * 8


@pytest.mark.parametrize(("key", "value"), [("batch_size", 4), ("image_size", 32)])
def test_a_size_that_contradicts_the_example_is_refused(key: str, value: int, zoo: str) -> None:
    settings = CaptureSettings(device="cpu", counters="none", **{key: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"{key}={value} is not that of the example input .*\[5, 3, 16, 16\]") as caught:
        session.plan(own(f"{zoo}:named"), settings)
    assert f"parameter {key}" in caught.value.hint
    assert session.plan(own(f"{zoo}:sized"), settings)[key] == value


REFUSED = [
    ("Masked", "missing 1 required positional argument: 'mask'", "return (model, example_input)"),
    ("gray", "failed when called with images", "return (model, example_input)"),
    ("Gradient", "does not require grad", "inference"),
    ("Moves", "CUDA|cuda", "leave the device to this program"),
    ("moved", "CUDA|cuda", "leave the device to this program"),
    ("Lazy", "lazy layers", "call the model once"),
    ("Zoo.bound", "cannot be called: missing a required argument: 'self'", "options"),
    ("needs", "cannot be called: missing a required argument: 'depth'", "+vit.options.NAME=VALUE"),
    ("Yields", "returns a generator", "the tensors themselves"),
    ("exits", r"ended the program: sys\.exit\(3\)", "return the model"),
    ("nothing", "returned nothing, not a torch.nn.Module", "let it return the module, or (module, example_input)"),
    ("misnamed", "unexpected keyword argument 'nope'", "names of forward's parameters"),
    ("a_list", "example input of type list", "(model, ([...],))"),
    ("empty", "batch dimension", "(model, tensor)"),
    ("scalar", "batch dimension", "(model, tensor)"),
    ("parallel", "runs on several devices", ".module"),
    ("scripted", "is a ScriptModule", "Python module"),
    ("compiled_part", "module 0 of what .* is compiled already", "compile=default"),
    ("compiled_in_place", "is compiled already", "compile=default"),
    ("kept", "made for an earlier check", "a new module each time"),
    ("Cnov", "no function Cnov", ":Conv?"),
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a model that moves to a GPU is no mistake where there is one")
@pytest.mark.parametrize(("name", "says", "hint"), REFUSED)
def test_what_is_refused_says_why_in_one_line(name: str, says: str, hint: str, zoo: str, small: CaptureSettings) -> None:
    choice = own(f"{zoo}:{name}")

    def plan_and_step() -> None:
        session.plan(choice, small)
        with running.prepared(choice, resolve(small)) as ready:
            ready.step()

    with pytest.raises(AnalyzerError, match=says) as caught:
        plan_and_step()
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_a_forward_that_is_kept_from_the_compiler_is_not_compiled(zoo: str) -> None:
    assert meta.parameters(own(f"{zoo}:Kept"), 64) == 3 * 4 * 9 + 4


@pytest.mark.parametrize(
    ("file", "text", "path", "says", "hint"),
    [
        ("runs_off.py", "import sys\nsys.exit('usage')", "runs_off:f", "ended the program", "__main__"),
        ("lacks.py", "import nothing_of_that_name", "lacks:f", "nothing_of_that_name", "install"),
        ("broken.py", "def f(:", "broken:f", "SyntaxError", "import broken"),
        ("code.py", "def make(): pass", "code:make", "one of Python's own modules", "rename"),
        ("x.py", "", "os:getcwd", "Python's own module os", "package.module:function"),
        ("mine.py", "def make(): pass", "mine.py:make", "not of the form", "factory=mine:make"),
        ("msgspec.py", "def make(): pass", "msgspec:make", "an installed package of that name", "rename"),
        ("x.py", "", "a.b", "not of the form", "package.module:function"),
        ("x.py", "", "a:b;c", "not of the form", "package.module:function"),
        ("x.py", "", "no.such:make", "No module named 'no'", "package.module:function"),
    ],
)
def test_a_module_that_cannot_be_loaded(
    file: str, text: str, path: str, says: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        meta.inspect(own(path), 1, 64, "float32")
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_what_a_model_prints_goes_to_stderr(zoo: str, small: CaptureSettings, capsys: pytest.CaptureFixture[str]) -> None:
    with running.prepared(own(f"{zoo}:Prints"), resolve(small)) as ready:
        ready.step()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "a step\n"


@pytest.fixture(scope="module", params=["off", "default"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directories of a model whose two blocks share a part, eager and compiled."""
    place = tmp_path_factory.mktemp("shared")
    name = f"shared_parts_{request.param}_{place.name}"  # a module is imported once
    (place / f"{name}.py").write_text(SHARED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "path", list(sys.path))
        settings = CaptureSettings(
            device="cpu", batch_size=2, image_size=64, iterations=10, traced_steps=3, repeats=2, warmup_max_s=0.2,
            warmup_min_iterations=1, threads=1, sample_period_s=0.05, calibrate="off", counters="none",
            out_root=place / "traces", compile=request.param,
        )  # fmt: skip
        return session.capture(own(f"{name}:make"), settings, Reporter(quiet=True))


def test_shared_parts_are_attributed_to_each_use(shared: Path, tmp_path: Path) -> None:
    found = analyze(shared)
    launches = found.launches
    named = launches[launches["module"] != ""]
    assert set(named["module"]) >= {"stem", "head", *(f"{s}.mix.steps.{t}" for s in ("left", "right") for t in ("up", "down"))}
    products = named[named["op"].isin(PRODUCTS)].groupby("module").size()
    for part in ("mix.steps.up", "mix.steps.down"):  # left runs twice in a forward, right once
        assert products[f"left.{part}"] == 2 * products[f"right.{part}"] > 0
    assert named["exclusive_us"].sum() >= 0.95 * launches["exclusive_us"].sum()

    write_report(compare(found), tmp_path, ())
    modules = pd.read_csv(tmp_path / "modules.csv").groupby("module")["time_us"].sum()
    for module in ("left.mix.steps.up", "right.mix.steps.up", "left.mix.steps.down", "right.mix.steps.down"):
        own_time = launches.loc[launches["module"] == module, "dur_ns"] / 1e3
        assert modules[module] == pytest.approx(own_time.sum())
    kernels = pd.read_csv(tmp_path / "kernels.csv")
    # launches of one shape are one row, whose modules are listed
    assert kernels["module"].str.contains("left.mix.steps.up, right.mix.steps.up", regex=False).any()


def test_the_record_of_an_own_model_names_the_factory_and_no_path(shared: Path) -> None:
    text = (shared / "run.json").read_text()
    facts = json.loads(text)
    (module,) = shared.parent.parent.glob("shared_parts_*.py")
    assert module.stem.startswith(f"shared_parts_{facts['settings']['compile']}_")
    assert facts["model"]["factory"] == f"{module.stem}:make"
    assert facts["model"]["input_shape"] == [2, 3, 64, 64]
    assert facts["settings"]["repeats"] == 2  # a process of its own found the module too
    assert str(shared.parent.parent) not in text
    assert str(shared.parent.parent).encode() not in gzip.decompress((shared / "trace.pt.trace.json.gz").read_bytes())


def test_a_report_loads_no_model(shared: Path, tmp_path: Path) -> None:
    """The module of the factory is gone, and torch is not imported."""
    program = (
        "import sys; from analyzer.analysis import analyze; "
        f"print(analyze({str(shared)!r}).label, 'torch' in sys.modules, any('shared_parts' in name for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["own", "False", "False"]
