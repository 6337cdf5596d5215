from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from et_core.errors import ConfigError
from et_core.interfaces import Features, Head, Inputs
from et_hcnn.backbone import PairEncoder, WordBackbone, two_texts
from et_hcnn.hcnn import Hcnn

DOMAIN = "domain"
DOMAINS = ("source", "target")


class HcnnDrss(WordBackbone):
    """Three hcnn networks for pairs of two domains: one for the source, one for the target, one for both.

    Domain relationships for transfer by specific and shared networks (DRSS), Yu et al. 2018. *pooled* is
    [specific; shared], [B, 2 H]. The mark "domain" says which of the two a row is of: 0 the source, 1 the target.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"texts", "marks"})
    provides: ClassVar[frozenset[str]] = frozenset({"pooled", DOMAIN})
    model_type: ClassVar[str] = "hcnn-drss"
    defaults: ClassVar[Mapping[str, Any]] = Hcnn.defaults

    @dataclass
    class Options(Hcnn.Options):
        """*marks* holds "domain", with 2 values, as the app matching asks for it with ``domains: [source, target]``."""

        marks: dict[str, int] = field(default_factory=dict)

    def __init__(self, sizes: Any, *, vocab_size: int, pad_id: int) -> None:
        super().__init__(sizes, vocab_size=vocab_size, pad_id=pad_id)
        if sizes.marks != {DOMAIN: len(DOMAINS)}:
            raise ConfigError(
                f"hcnn-drss reads of each row which of two domains it is of, and nothing else; given are "
                f"{sizes.marks or 'no marks'}. Name two: app.domains=[source, target] of app=matching."
            )
        self.hidden_size = 2 * sizes.hidden_size
        self.specific = nn.ModuleList(Hcnn.make_encoder(sizes) for _ in DOMAINS)
        self.shared = Hcnn.make_encoder(sizes)

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        first, second = two_texts(inputs, self.model_type)
        if DOMAIN not in inputs.marks:
            raise ConfigError("hcnn-drss needs the domain of each row: set app.domains=[source, target].")
        domain = inputs.marks[DOMAIN][:, 0]
        pair = self.look_up(first, second)
        shared = self.shared(*pair)
        specific = torch.zeros_like(shared)
        for number, encoder in enumerate(self.specific):
            # Also where there are none: each network takes part in each step, as parallel engines expect.
            rows = (domain == number).nonzero().squeeze(1)
            specific = specific.index_copy(0, rows, encoder(*(words[rows] for words in pair)))
        extra: dict[str, object] = {DOMAIN: domain} if DOMAIN in want else {}
        return Features(pooled=torch.cat((specific, shared), -1), extra=extra)

    def blocks(self) -> list[nn.Module]:
        encoders = (self.shared, *self.specific)
        return [part.network for encoder in encoders for part in encoder.modules() if isinstance(part, PairEncoder)]

    def native_head(self, task: str, **spec: Any) -> Head | None:
        return DrssHead(hidden_size=self.hidden_size, **spec) if task == "sequence-classification" else None


class DrssHead(Head):
    """Logits of a row as those of its domain's own matrix plus those of its domain's matrix for what is shared."""

    needs: ClassVar[frozenset[str]] = frozenset({"pooled", DOMAIN})

    def __init__(self, *, hidden_size: int, num_outputs: int, dropout: float | None = None, **spec: Any) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout or 0.0)
        width = hidden_size // 2
        bound = width**-0.5
        self.specific = nn.Parameter(torch.empty(len(DOMAINS), num_outputs, width).uniform_(-bound, bound))
        self.shared = nn.Parameter(torch.empty(len(DOMAINS), num_outputs, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(len(DOMAINS), num_outputs))

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        """``{"logits": [B, C]}``, in fp32."""
        domain: Any = features.extra[DOMAIN]
        pooled: Any = features.pooled
        with torch.autocast(pooled.device.type, enabled=False):
            specific, shared = self.dropout(pooled.float()).chunk(2, -1)
            both = torch.einsum("bh,dch->bdc", specific, self.specific)
            both = both + torch.einsum("bh,dch->bdc", shared, self.shared) + self.bias
            return {"logits": both[torch.arange(len(domain), device=domain.device), domain]}

    def matrices(self) -> Tensor:
        """The four output matrices as rows [4, C * H]: source's own, source's and target's shared, target's own."""
        own, shared = self.specific.flatten(1), self.shared.flatten(1)
        return torch.stack((own[0], shared[0], shared[1], own[1]))
