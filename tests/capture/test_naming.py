"""Names of modules that share parts, call each other twice, raise, or are called in ways that run no hooks."""

from __future__ import annotations

import contextlib
from collections import Counter

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from analyzer.capture.scopes import followed, module_scopes


class Block(nn.Module):
    def __init__(self, mix: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.mix = mix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mix(self.norm(x))


class Mix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleDict({"up": nn.Linear(4, 8), "down": nn.Linear(8, 4)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.steps["down"](self.steps["up"](x).relu())


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        mix = Mix()
        self.left, self.right = Block(mix), Block(mix)
        self.both = nn.ModuleList([self.left, self.right])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.both:
            x = block(x)
        return self.left(x)


def called(model: nn.Module, *args: object) -> list[str]:
    """Return the names of the scopes of one forward in order, without the prefix."""
    with torch.inference_mode(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        with module_scopes(model) as scopes:
            model(*args)
        assert scopes.depth == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    found = [event for event in profiled.events() if event.key.startswith("module::")]
    return [event.key.removeprefix("module::") for event in sorted(found, key=lambda event: event.time_range.start)]


def test_what_is_shared_is_named_after_its_caller() -> None:
    names = called(Shared(), torch.ones(2, 4))
    left = ["left", "left.norm", "left.mix", "left.mix.steps.up", "left.mix.steps.down"]
    right = [name.replace("left", "right") for name in left]
    assert names == ["Shared", *left, *right, *left]


def test_without_sharing_names_are_paths() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.LayerNorm(4))
    assert called(model, torch.ones(1, 4)) == ["Sequential", "0", "0.0", "0.1", "1"]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = self.b = nn.Linear(4, 4)
        self.listed = [nn.Linear(4, 4)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.listed[0](self.b(self.a(x)))


def test_two_names_in_one_caller_are_one_and_unregistered_modules_are_their_callers() -> None:
    assert called(Twice(), torch.ones(1, 4)) == ["Twice", "a", "a"]


class Holder(nn.Module):
    """Calls a module that only the root holds."""

    def forward(self, x: torch.Tensor, tool: nn.Module) -> torch.Tensor:
        return tool(x)


class Lends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.holder, self.tool = Holder(), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.tool, x, use_reentrant=False)
        return self.holder(x, self.tool)


def test_a_module_handed_to_another_keeps_its_path() -> None:
    assert called(Lends(), torch.ones(1, 4)) == ["Lends", "tool", "holder", "tool"]


class Cycle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.outer = self
        self.depth = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.depth += 1
        return self(x) if self.depth < 3 else x


def test_a_module_that_holds_and_calls_itself_has_one_name() -> None:
    names: list[str] = []

    class Names:
        def enter(self, module: nn.Module, name: str) -> None:
            names.append(name)

        def leave(self, module: nn.Module) -> None:
            names.append("end")

    model = Cycle()
    with followed(model, Names()):
        model(torch.ones(1))
    assert names == ["Cycle"] * 3 + ["end"] * 3


class OwnCall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * 2


class Outside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = OwnCall(), OwnCall()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def test_a_call_of_its_own_is_followed_and_restored() -> None:
    before = OwnCall.__call__
    assert called(OwnCall(), torch.ones(1, 4)) == ["OwnCall", "layer"]
    assert called(Outside(), torch.ones(1, 4)) == ["Outside", "first", "first.layer", "second", "second.layer"]
    assert OwnCall.__call__ is before


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fast = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
        self.last = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.fast(x))


def test_a_module_that_takes_no_hooks_is_part_of_its_caller() -> None:
    assert called(Scripted(), torch.ones(1, 4)) == ["Scripted", "last"]


class Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ArithmeticError


class Catches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.risky = nn.Sequential(nn.ReLU(), Fails())
        self.last = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with contextlib.suppress(ArithmeticError):
            self.risky(x)
        return self.last(x)


def test_names_after_a_forward_that_raised() -> None:
    assert called(Catches(), torch.ones(1)) == ["Catches", "risky", "risky.0", "risky.1", "last"]


def test_hooks_of_the_model_count_as_the_module() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_forward_pre_hook(lambda _, args: (args[0].exp(),))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled, module_scopes(model):
        model(torch.ones(1, 4))
    spans = {event.key: event.time_range for event in profiled.events()}
    assert spans["module::0"].start <= spans["aten::exp"].start <= spans["aten::exp"].end <= spans["module::0"].end


def test_every_use_has_its_operators() -> None:
    """The two uses of what is shared are told apart: as many products below each name as the forward makes."""
    model = Shared()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled, module_scopes(model):
        model(torch.ones(2, 4))
    products = [event for event in profiled.events() if event.key == "aten::addmm"]
    scopes = [event for event in profiled.events() if event.key.startswith("module::")]

    def innermost(event: object) -> str:
        around = [s for s in scopes if s.time_range.start <= event.time_range.start <= s.time_range.end]  # type: ignore[attr-defined]
        return max(around, key=lambda s: s.time_range.start).key.removeprefix("module::")

    assert Counter(map(innermost, products)) == {
        "left.mix.steps.up": 2, "left.mix.steps.down": 2, "right.mix.steps.up": 1, "right.mix.steps.down": 1,
    }  # fmt: skip
