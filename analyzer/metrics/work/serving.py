"""Custom operators of vLLM that are elementwise or norms. They write into tensors that are given to them."""

from __future__ import annotations

from analyzer.metrics.work.registry import Work, register, tally
from analyzer.schema.operators import OpCall
from analyzer.trace.shapes import like


@register("_C::rms_norm")
def _rms_norm(call: OpCall) -> Work | None:
    """(out, input, weight, eps): four FLOP per element, as any RMS norm."""
    out, x, weight = (call.tensor(i) for i in range(3))
    return None if out is None or x is None else tally(4.0 * x.numel, [x, weight], [out])


@register("_C::fused_add_rms_norm")
def _add_rms_norm(call: OpCall) -> Work | None:
    """(input, residual, weight, eps): an addition and an RMS norm; reads and writes both tensors."""
    x, residual, weight = (call.tensor(i) for i in range(3))
    return None if x is None or residual is None else tally(5.0 * x.numel, [x, residual, weight], [x, residual])


@register("_C::rotary_embedding")
def _rotary(call: OpCall) -> Work | None:
    """(positions, query, key, head_size, cache, neox): two products and one sum per element of queries and keys, in place.

    One row of the cache [positions, rotated size] is read per token. Approximation: heads are taken to be rotated whole.
    """
    positions, query, key, cache = (call.tensor(i) for i in (0, 1, 2, 4))
    if positions is None or query is None or cache is None or not cache.shape:
        return None
    rows = like(cache, (min(positions.numel, cache.shape[0]), cache.shape[-1]))
    rotated = [t for t in (query, key) if t is not None]
    return tally(3.0 * sum(t.numel for t in rotated), [positions, rows, *rotated], rotated)


@register("_C::static_scaled_fp8_quant")
def _quantise(call: OpCall) -> Work | None:
    """(out, input, scale): one product per element."""
    out, x, scale = (call.tensor(i) for i in range(3))
    return None if out is None or x is None else tally(x.numel, [x, scale], [out])


@register("_C::silu_and_mul", "_C::gelu_and_mul", "_C::gelu_tanh_and_mul", "_C::mul_and_silu")
def _gated(call: OpCall) -> Work | None:
    """(out, input): the activation of one half (1 FLOP) times the other."""
    out, x = call.tensor(0), call.tensor(1)
    return None if out is None or x is None else tally(2.0 * out.numel, [x], [out])
