"""The network: hash embeddings, dilated convolutions with one look at the whole, tags a word and scores a text.

Iterated dilated convolutions for tagging: Strubell et al. 2017. Masked positions never reach their neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classifiers.ner.features import HASHES, ROWS, SHAPES
from classifiers.ner.tags import COUNT, SUBJECTS

EMBEDDING = 64
HIDDEN = 176
DILATIONS = (1, 2, 4, 8, 1, 2)
WHOLE_AFTER = 4
"""The block before which the whole text is mixed in."""


class Block(nn.Module):
    """A residual dilated convolution of width 3."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.convolve = nn.Conv1d(HIDDEN, HIDDEN, 3, padding=dilation, dilation=dilation)
        self.out = nn.Linear(HIDDEN, HIDDEN)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.norm(x)
        if mask is not None:
            y = y * mask
        y = torch.relu(self.convolve(y.transpose(1, 2)).transpose(1, 2))
        return x + self.out(self.drop(y))


class Tagger(nn.Module):
    """(hashes [batch, words, HASHES], shapes [batch, words]) to (tags [batch, words, COUNT], scores [batch, SUBJECTS]), both logits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, EMBEDDING)
        nn.init.normal_(self.table.weight, std=0.15)
        self.shapes = nn.Embedding(SHAPES, EMBEDDING)
        self.enter = nn.Linear(EMBEDDING, HIDDEN)
        self.blocks = nn.ModuleList(Block(dilation) for dilation in DILATIONS)
        self.whole = nn.Linear(2 * HIDDEN, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN)
        self.tag = nn.Linear(HIDDEN, COUNT)
        self.subject = nn.Sequential(nn.Linear(2 * HIDDEN, 64), nn.ReLU(), nn.Linear(64, len(SUBJECTS)))
        self.drop = nn.Dropout(0.1)
        self.scale = HASHES**-0.5

    def forward(self, hashes: Tensor, shapes: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.table(hashes).sum(-2) * self.scale + self.shapes(shapes)
        x = self.enter(self.drop(x))
        for i, block in enumerate(self.blocks):
            if i == WHOLE_AFTER:
                x = x + self.whole(pooled(x, mask))[:, None]
            x = block(x, mask)
        x = self.norm(x)
        return self.tag(self.drop(x)), self.subject(self.drop(pooled(x, mask)))


def pooled(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean and maximum over the words: [batch, 2 * HIDDEN]."""
    if mask is None:
        return torch.cat((x.mean(1), x.amax(1)), -1)
    return torch.cat(((x * mask).sum(1) / mask.sum(1).clamp(min=1), (x - (1 - mask) * 1e4).amax(1)), -1)
