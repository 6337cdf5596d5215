from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from et_core.interfaces import Backbone

_WORTH_IT = 0.8


class CompactEmbedding(nn.Module):
    """A token table of which only the rows that the training data reads are parameters.

    The others get no gradient from any batch. Leaving them out of the gradient and the optimiser saves time in every
    step; they stay as they were loaded, where AdamW would shrink them by its weight decay.
    """

    def __init__(self, table: nn.Embedding, used: Tensor) -> None:
        """*used* [n] are the token ids, ascending, that occur in training."""
        super().__init__()
        weight = table.weight.detach()
        self.rows = nn.Parameter(weight[used].clone())
        self._padding = table.padding_idx
        places = torch.full((len(weight),), -1, dtype=torch.int64)
        places[used] = torch.arange(len(used))
        self._places: Tensor
        self._loaded: Tensor
        self._used: Tensor
        self.register_buffer("_places", places, persistent=False)
        self.register_buffer("_loaded", weight.clone(), persistent=False)
        self.register_buffer("_used", used, persistent=False)
        self._padding_place = None if table.padding_idx is None else int(places[table.padding_idx])

    def forward(self, ids: Tensor) -> Tensor:
        places = self._places[ids]
        if self.training:
            return functional.embedding(places, self.rows, padding_idx=self._padding_place)
        known = functional.embedding(places.clamp(min=0), self.rows)
        return torch.where((places < 0).unsqueeze(-1), self._loaded[ids], known)

    def expand(self) -> nn.Embedding:
        """The whole table, with the rows as they are now."""
        weight = self._loaded.clone()
        weight[self._used] = self.rows.detach()
        table = nn.Embedding(len(weight), weight.shape[1], padding_idx=self._padding, device="meta")
        table.weight = nn.Parameter(weight)
        return table


def compact_tokens(root: nn.Module, backbone: Backbone, used: Tensor) -> None:
    """Make the token table of *backbone* compact, if it trains, is tied to nothing in *root*, and *used* is small."""
    table = backbone.token_table()
    if table is None or not table.weight.requires_grad or len(used) > _WORTH_IT * len(table.weight):
        return
    owners = [name for name, tensor in root.named_parameters(remove_duplicate=False) if tensor is table.weight]
    if len(owners) == 1:
        replace_module(root, table, CompactEmbedding(table, used))


def expand_tokens(module: nn.Module) -> None:
    """Undo ``compact_tokens`` in everything inside *module*."""
    for child in list(module.modules()):
        if isinstance(child, CompactEmbedding):
            replace_module(module, child, child.expand())


def replace_module(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put *new* in the place of *old* wherever it stands inside *root*."""
    for parent in list(root.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
