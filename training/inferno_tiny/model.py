"""The network: a small Llama, written so that its weights export to GGUF without permutation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network. Widths must be multiples of 32, the block size of Q8_0."""

    vocab: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 4
    ffn: int = 704
    context: int = 2048
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


def rope_tables(length: int, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding.

    Args:
        length: number of positions.
        head_width: width of one head, even.
        base: base of the geometric series of frequencies.

    Returns:
        Two float32 tensors of shape (length, head_width / 2).
    """
    frequencies = base ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring pairs of channels by their position's angle.

    Pairs are (0, 1), (2, 3), …, which is the layout llama.cpp uses for its `llama` architecture.

    Args:
        x: queries or keys, (batch, heads, positions, head_width).
        cos: (positions, head_width / 2).
        sin: (positions, head_width / 2).

    Returns:
        A tensor of the shape of `x`.
    """
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


class Block(nn.Module):
    """One layer: attention and SwiGLU, each behind an RMS norm and beside a residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attn_norm = nn.RMSNorm(width, eps=config.norm_epsilon)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, eps=config.norm_epsilon)
        self.gate_up = nn.Linear(width, 2 * config.ffn, bias=False)
        self.ffn_down = nn.Linear(config.ffn, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Transform the residual stream `x`, (batch, positions, width); `mask`: who sees whom."""
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.attn_norm(x)).chunk(3, dim=-1)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.attn_output(seen.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.ffn_down(functional.silu(gate) * up)


class TinyLlama(nn.Module):
    """A decoder with tied embeddings."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self._initialise()

    def _initialise(self) -> None:
        """Small normal weights; projections into the residual stream shrink with depth."""
        deep = 0.02 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                into_residual = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(parameter, std=deep if into_residual else 0.02)

    def forward(self, tokens: Tensor, documents: Tensor, answer_positions: Tensor) -> Tensor:
        """Logits at the positions that the loss looks at.

        Args:
            tokens: token ids, (batch, positions).
            documents: number of the sample each position belongs to, (batch, positions);
                attention stays inside a sample, so packed samples do not see each other.
            answer_positions: flat indices into batch × positions, (n,).

        Returns:
            Logits, (n, vocab).
        """
        length = tokens.shape[1]
        cos, sin = rope_tables(length, self.config.head_width, self.config.rope_base)
        cos, sin = cos.to(tokens.device), sin.to(tokens.device)
        same = documents[:, :, None] == documents[:, None, :]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        mask = (same & causal)[:, None]
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        chosen = self.output_norm(x.flatten(0, 1)[answer_positions])
        return functional.linear(chosen, self.embedding.weight)

    def parameter_count(self) -> int:
        """Number of trained numbers; the tied embedding counts once."""
        return sum(parameter.numel() for parameter in self.parameters())
