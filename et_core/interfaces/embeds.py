from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from et_core.interfaces.app import Role
from et_core.interfaces.example import Example, Row
from et_core.interfaces.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from et_core.interfaces.inputs import Batch
    from et_core.interfaces.model import Model


@runtime_checkable
class Embeds(Protocol):
    """What an app offers besides when it can give a text a vector of its own, as search needs it."""

    def embedded_roles(self) -> Mapping[str, Role]:
        """The columns that are read of a row to embed, the text first.

        ConfigError, which says what to do, where the app as it is set gives no vectors.
        """

    def encode_single(
        self, rows: Sequence[Row], tokenizer: Tokenizer, *, max_length: int, truncation: str = "right"
    ) -> list[Example]:
        """One example a row, of the text alone; a row that cannot be used raises ``Row.error``."""

    def vectors(self, model: Model, batch: Batch) -> Tensor:
        """The vectors [B, H] of a batch of such examples. Called without gradients."""
