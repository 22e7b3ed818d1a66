"""The arguments of attention in one operator, forward."""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.schema.operators import OpCall, TensorArg
from analyzer.trace.shapes import like

TOKENS_FIRST = frozenset((
    "_flash_attention_forward", "_efficient_attention_forward", "_flash_attention_backward", "_efficient_attention_backward",
))  # fmt: skip
"""Operators whose tensors are [B, N, H, D]; those of all others, ``_cudnn_attention_forward`` too, are [B, H, N, D]."""

# where the mask or bias stands (-1: nowhere), and what tells a causal mask: a flag, of efficient attention a number above 0
_POSITIONS = {
    "scaled_dot_product_attention": (3, 5),
    "_scaled_dot_product_flash_attention": (-1, 4),
    "_scaled_dot_product_flash_attention_for_cpu": (5, 4),
    "_scaled_dot_product_efficient_attention": (3, 6),
    "_scaled_dot_product_cudnn_attention": (3, 6),
    "_scaled_dot_product_fused_attention_overrideable": (3, 5),
    "_flash_attention_forward": (14, 8),
    "_efficient_attention_forward": (3, 9),
    "_cudnn_attention_forward": (3, 10),
}
ATTENTIONS = tuple(_POSITIONS)
"""The operators that ``attention`` reads."""


@dataclass(frozen=True, slots=True)
class AttentionArguments:
    """Queries, keys and values: [B, H, N, D], [B, N, H, D] with ``tokens_first``, or [B, N, D] without heads.

    ``out`` is the recorded output, or a dense one like the queries with the values' width.
    """

    q: TensorArg
    k: TensorArg
    v: TensorArg
    mask: TensorArg | None
    causal: bool
    tokens_first: bool
    out: TensorArg

    @property
    def heads(self) -> int:
        """Heads of the queries."""
        return self._heads(self.q)

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values; fewer than those of the queries where several queries share them."""
        return self._heads(self.k)

    @property
    def queries(self) -> int:
        """Tokens that ask."""
        return self._tokens(self.q)

    @property
    def keys(self) -> int:
        """Tokens that are asked."""
        return self._tokens(self.k)

    def _heads(self, tensor: TensorArg) -> int:
        return 1 if len(tensor.shape) == 3 else tensor.shape[2 if self.tokens_first else 1]

    def _tokens(self, tensor: TensorArg) -> int:
        return tensor.shape[1 if self.tokens_first else -2]


def attention(call: OpCall) -> AttentionArguments | None:
    """Return the arguments of attention; None for other operators and for packed sequences, whose lengths no shape tells."""
    name = call.name.removeprefix("aten::")
    if name not in _POSITIONS:
        return None
    q, k, v = call.tensor(0), call.tensor(1), call.tensor(2)
    if q is None or k is None or v is None or not 3 <= len(q.shape) == len(k.shape) == len(v.shape) <= 4:
        return None
    tokens_first = name in TOKENS_FIRST
    if (tokens_first or "cudnn" in name) and len(q.shape) == 3:
        return None
    mask_at, causal_at = _POSITIONS[name]
    mask = call.tensor(mask_at) if mask_at >= 0 else None
    flag = call.value(causal_at)
    results = call.results()
    out = results[0] if results else like(q, (*q.shape[:-1], v.shape[-1]))
    return AttentionArguments(q, k, v, mask, isinstance(flag, int) and flag > 0, tokens_first, out)
