"""A tokenizer that only ever comes with a checkpoint."""

from __future__ import annotations

from typing import ClassVar

from et_core.data import PretrainedTokenizer
from et_core.hooks import Register, hookimpl

ET_API = 1


@hookimpl
def et_register_tokenizers(register: Register) -> None:
    register("fixed-words", "fixed_words:FixedWords", summary="Words of a checkpoint")


class FixedWords(PretrainedTokenizer):
    trainable: ClassVar[bool] = False
