"""Names of kernels as Nsight Compute and Kineto spell them, and the alignment of two sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.trace.counters import alignment
from analyzer.trace.counters.names import name_keys
from analyzer.trace.kineto import read_trace
from tests.trace.counter_files import as_ncu_spells

# left as profiles by Nsight have it, right as traces of Kineto have the same kernel
SPELLINGS = [
    (
        "void at::native::vectorized_elementwise_kernel<(int)4, at::native::<unnamed>::GeluCUDAKernelImpl(at::TensorIteratorBase &)"
        "::[lambda() (instance 1)]::operator ()() const::[lambda() (instance 4)]::operator ()() const::[lambda(float) (instance 1)]"
        ", at::detail::Array<char *, (int)2>>(int, T2, T3)",
        "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::GeluCUDAKernelImpl("
        "at::TensorIteratorBase&)::{lambda()#1}::operator()() const::{lambda()#4}::operator()() const::{lambda(float)#1}, "
        "at::detail::Array<char*, 2> >(int, at::native::(anonymous namespace)::GeluCUDAKernelImpl(at::TensorIteratorBase&)"
        "::{lambda()#1}::operator()() const::{lambda()#4}::operator()() const::{lambda(float)#1}, at::detail::Array<char*, 2>)",
    ),
    (
        "void at::native::elementwise_kernel<(int)128, (int)2, void at::native::gpu_kernel_impl<at::native::CUDAFunctor_add<float>>"
        "(at::TensorIteratorBase &, const T1 &)::[lambda(int) (instance 1)]>(int, T3)",
        "void at::native::elementwise_kernel<128, 2, at::native::gpu_kernel_impl<at::native::CUDAFunctor_add<float> >"
        "(at::TensorIteratorBase&, at::native::CUDAFunctor_add<float> const&)::{lambda(int)#1}>(int, at::native::gpu_kernel_impl<"
        "at::native::CUDAFunctor_add<float> >(at::TensorIteratorBase&, at::native::CUDAFunctor_add<float> const&)::{lambda(int)#1})",
    ),
    (
        "void <unnamed>::softmax_warp_forward<float, float, float, (int)7, (bool)0>(T2 *, const T1 *, int, int, int)",
        "void (anonymous namespace)::softmax_warp_forward<float, float, float, 7, false>(float*, float const*, int, int, int)",
    ),
    (
        "void cudnn::ops::nchwToNhwcKernel<float, float, (bool)1, (cudnnKernelDataType_t)2>(nchw2nhwc_params_t<T3>, const T1 *)",
        "void cudnn::ops::nchwToNhwcKernel<float, float, true, (cudnnKernelDataType_t)2>(nchw2nhwc_params_t<float>, float const*)",
    ),
    (
        "void f<std::array<char *, (unsigned long)3>, unsigned int, const float *, Calculator<(int)1, unsigned int>>(int, T2)",
        "void f<std::array<char*, 3ul>, unsigned int, float const*, Calculator<1, unsigned int> >(int, std::array<char*, 3ul>)",
    ),
    (
        "std::enable_if<!T7, void>::type internal::gemvx::kernel<int, float2, (bool)0, (int)6>(T13)",
        "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, float2, false, 6>(cublasGemvParamsEx<int, float2>)",
    ),
    (
        "void fft2d<float, (bool)0, (unsigned int)5>(float2 *, const T1 *)",
        "void fft2d<float, false, 5u>(float2*, float const*)",
    ),
    ("ampere_sgemm_128x64_nn", "ampere_sgemm_128x64_nn"),
    ("a\\b.c", "a/b.c"),
    ("void k(float *)", "k"),
]


@pytest.mark.parametrize(("nsight", "kineto"), SPELLINGS)
def test_both_demanglers_give_the_same_keys(nsight: str, kineto: str) -> None:
    assert name_keys(nsight) == name_keys(kineto)


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        ("void f<4>(int)", "void f<8>(int)", (False, True, True)),
        ("void f<float>(int)", "void f<c10::Half>(int)", (False, True, True)),
        ("void f<g()::{lambda()#1}>(int)", "void f<g()::{lambda()#2}>(int)", (False, True, True)),
        ("void a::f<4>(int)", "f", (False, False, True)),
        ("void f<long>(int)", "void f<unsigned long>(int)", (False, True, True)),
        ("f", "g", (False, False, False)),
        ("_ZN2at6native12_GLOBAL__N_17softmaxIfLi4EEEvPT_", "void at::native::(anonymous namespace)::softmax<float, 4>(float*)", (False, True, True)),
        ("_Z9vectorAddPf", "vectorAdd(float*)", (True, True, True)),
    ],
)  # fmt: skip
def test_what_is_kept_of_a_name(one: str, two: str, equal: tuple[bool, bool, bool]) -> None:
    assert tuple(x == y for x, y in zip(name_keys(one), name_keys(two), strict=True)) == equal


def test_names_of_public_traces_survive_the_spelling_of_nsight(public_traces: Path) -> None:
    names = {
        str(name) for path in sorted(public_traces.glob("*.json.gz")) for name in read_trace(path).kernels["name"].unique()
    }
    assert len(names) > 250
    differing = [name for name in sorted(names) if name_keys(as_ncu_spells(name)) != name_keys(name)]
    assert differing == []
    assert len({name_keys(name)[0] for name in names}) > 0.95 * len(names)


@given(st.text(alphabet="ab<>()[]{}:, *&1#lambda(instance )operator\\'\"\u202e", max_size=200))
@settings(deadline=None)
def test_any_text_has_keys(text: str) -> None:
    assert len(name_keys(text)) == 3
    assert name_keys(text) == name_keys(text)


@pytest.mark.parametrize("piece", ["<", "(", "{lambda(", "[lambda() (instance 1)]::", "unsigned ", "(a)1", "a::", "> "])
def test_long_hostile_names_end(piece: str) -> None:
    assert len(name_keys(piece * (9_000 // len(piece)))) == 3
    assert name_keys(piece * 50_000)[0] == piece * 50_000


def heaviest(a: list[int], b: list[int], weight: list[int]) -> int:
    """Return the weight of the heaviest common subsequence, straight from its definition."""
    best = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            best[i + 1][j + 1] = max(best[i][j + 1], best[i + 1][j], best[i][j] + (weight[x] if x == y else 0))
    return best[-1][-1]


SEQUENCE = st.lists(st.integers(0, 3), max_size=24)


@given(SEQUENCE, SEQUENCE, st.lists(st.integers(1, 50), min_size=4, max_size=4))
@settings(deadline=None)
def test_alignment_is_the_heaviest_there_is(a: list[int], b: list[int], weight: list[int]) -> None:
    x, y, w = (np.array(values, np.int64) for values in (a, b, weight))
    rows, columns = alignment.align(x, y, w)
    assert (x[rows] == y[columns]).all()
    assert (np.diff(rows) > 0).all()
    assert (np.diff(columns) > 0).all()
    assert int(w[x[rows]].sum()) == heaviest(a, b, weight)


@given(SEQUENCE, SEQUENCE)
@settings(deadline=None)
def test_halving_keeps_the_number_of_pairs(a: list[int], b: list[int]) -> None:
    x, y, one = np.array(a, np.int64), np.array(b, np.int64), np.ones(4, np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "_EXACT_CELLS", 12)
        rows, columns = alignment.align(x, y, one)
    assert (x[rows] == y[columns]).all()
    assert (np.diff(rows) > 0).all()
    assert (np.diff(columns) > 0).all()
    assert len(rows) == heaviest(a, b, [1] * 4)


def test_twenty_thousand_launches_of_a_dozen_kernels() -> None:
    random = np.random.default_rng(8)
    traced = np.tile(random.integers(0, 12, 200), 100)
    kept = random.random(len(traced)) > 0.03
    rows, columns = alignment.align(traced[kept], traced, np.ones(12, np.int64))
    assert len(rows) == kept.sum()
    assert (traced[kept][rows] == traced[columns]).all()
