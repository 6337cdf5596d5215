from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn
from torch.nn import functional

from et_core.errors import ComponentError
from et_core.interfaces import Features, Inputs
from et_hcnn.backbone import Rate, Size, WordBackbone
from et_hcnn.layers import WideConvolution


class TextCnn(WordBackbone):
    """Convolutions of several widths over one text (Kim 2014).

    *pooled* is the strongest answer of each filter, *tokens* the answers of the windows around each word.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"text"})
    provides: ClassVar[frozenset[str]] = frozenset({"pooled", "tokens"})
    model_type: ClassVar[str] = "textcnn"
    defaults: ClassVar[Mapping[str, Any]] = {
        **WordBackbone.defaults,
        "filters": 100,
        "filter_widths": [3, 4, 5],
        "dropout": 0.5,
    }

    @dataclass
    class Options(WordBackbone.Options):
        """*filters* of each of *filter_widths*; *dropout* is the rate on what they find."""

        filters: Size | None = None
        filter_widths: list[Size] | None = None
        dropout: Rate | None = None

    def __init__(self, sizes: Any, *, vocab_size: int, pad_id: int) -> None:
        super().__init__(sizes, vocab_size=vocab_size, pad_id=pad_id)
        self.sentence = WideConvolution(sizes.embedding_size, filters=sizes.filters, widths=sizes.filter_widths)
        self.dropout = nn.Dropout(sizes.dropout)
        self.hidden_size = self.sentence.size
        self._needs = self.provides

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        if len(inputs.texts) != 1:
            raise ComponentError(f"textcnn reads one text at a time, and was given {len(inputs.texts)}.")
        (text,) = inputs.texts
        (words,) = self.look_up(text)
        windows = self.sentence.windows(words)
        tokens = pooled = None
        if "tokens" in self._needs:
            answers = functional.relu(self.sentence.around(windows))
            tokens = self.dropout(answers.masked_fill(~text.mask.unsqueeze(-1), 0))
        if "pooled" in self._needs:
            pooled = self.dropout(functional.relu(self.sentence.strongest(windows, text.mask)))
        return Features(tokens, text.mask, pooled)

    def restrict(self, needs: frozenset[str]) -> None:
        self._needs = self.provides & needs
