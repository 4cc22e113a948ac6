"""The Transformer that turns features of clips into a trajectory: BERT's encoder (Devlin et al. 2019), post-norm.

It learns three words (CLS, SEP, PAD) and three segments beside its layers; everything else about a sequence is in its
`zoo.networks.sequences.Layout`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from zoo.errors import ZooError
from zoo.networks.sequences import Layout

Positions = Literal["fixed", "learned"]

EPS = 1e-12  # of all layer norms
MASKED = -10_000.0  # added to the scores of padding, as the release does: finite in half precision too
FIXED, LEARNED = 64, 32  # positions in the two tables
WORDS = 3


class TrajectoryTransformer(nn.Module):
    """Clip features to a contextual trajectory (section 3.1)."""

    def __init__(
        self,
        width: int = 512,
        layers: int = 4,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        positions: Positions = "fixed",
    ) -> None:
        """
        Args:
            width: of a token.
            layers: of the encoder.
            heads: of attention.
            feedforward: width of the hidden layer behind attention.
            dropout: on embeddings, attention weights and the outputs of both halves of a layer.
            positions: ``"fixed"`` adds sinusoids, up to 64 tokens; ``"learned"`` a table whose last entry serves all
                tokens from the 32nd on.
        """
        super().__init__()
        self.words = nn.Embedding(WORDS, width, padding_idx=0)  # the release's CLS is its padding: it never learns
        self.segments = nn.Embedding(3, width)
        self.learned = nn.Embedding(LEARNED, width) if positions == "learned" else None
        self.register_buffer("fixed", sinusoids(FIXED, width) if positions == "fixed" else None, persistent=False)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feedforward, dropout) for _ in range(layers))
        self.apply(init_bert)

    @property
    def longest(self) -> int | None:
        """Tokens of a sequence at most, or None."""
        return FIXED if self.learned is None else None

    def forward(self, phi: Tensor, layout: Layout) -> Tensor:
        """Features of clips ``[N, D]`` to the trajectory at all tokens of the layout, ``[B, K, D]``.

        Raises:
            ZooError: a sequence is longer than the table of positions.
        """
        tokens = layout.place(phi) + self.segments(layout.segments)
        special = self.words((-1 - layout.clips).clamp(min=0))
        tokens = tokens + special.masked_fill(layout.is_clip[..., None], 0)
        h = self.dropout(self.norm(self._positioned(tokens)))
        mask = (layout.is_padding * MASKED).to(h.dtype)[:, None, None, :]
        for layer in self.layers:
            h = layer(h, mask)
        return h

    def _positioned(self, tokens: Tensor) -> Tensor:
        count = tokens.shape[1]
        if self.learned is not None:
            places = torch.arange(count, device=tokens.device).clamp(max=LEARNED - 1)
            return tokens + self.learned(places)
        if count > FIXED:
            raise ZooError(
                f"a trajectory of {count} tokens is longer than the table of {FIXED} positions: give it fewer clips "
                f"at a time (at most {FIXED - 2} unsplit), or a larger stride."
            )
        return self.dropout(tokens + self.fixed[:count])  # the release drops out here and after the norm


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each followed by its norm."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=EPS)
        self.up = nn.Linear(width, feedforward)
        self.down = nn.Linear(feedforward, width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.gelu = nn.GELU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """``[B, K, D]`` to the same; ``mask`` ``[B, 1, 1, K]`` is added to the scores."""
        query, key, value = (
            layer(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        dropout = self.dropout.p if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        h = self.attention_norm(h + self.dropout(self.output(mixed.transpose(1, 2).flatten(-2))))
        return self.norm(h + self.dropout(self.down(self.gelu(self.up(h)))))


def sinusoids(count: int, width: int) -> Tensor:
    """The table of "Attention is all you need", sine and cosine in turns, ``[count, width]``."""
    angles = torch.arange(count)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


def init_bert(module: nn.Module) -> None:
    """BERT's initialisation of one module: linear layers and embeddings N(0, 0.02), no bias."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
