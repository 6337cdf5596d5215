from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from et_core.config import check_arguments
from et_core.interfaces import Encoded, Tokenizer
from et_core.registry import registry
from et_core.sources import resolve
from et_core.testing.suite import CheckFailed, Conformance
from et_core.testing.tokenizer.texts import TEXTS, Token, tokens_of

_ENDLESS = 10_000


class TokenizerSuite(Conformance):
    """How the tokenizer of a suite comes to be: loaded from ``ref``, or fitted on ``texts`` with ``config``."""

    kind: ClassVar[str] = "tokenizers"

    ref: str = ""
    """A model reference whose tokenizer files are loaded; without one, the tokenizer is fitted."""

    texts: Sequence[str] = TEXTS
    """Sentences of the languages that it is for: ten or more, of which no two are alike."""

    vocab_size: int = 600
    """What is learned at most, where it is fitted."""

    decodes: bool = True
    """Whether ``decode`` gives text."""

    @classmethod
    def tokenizer_class(cls) -> type[Tokenizer]:
        found: type[Tokenizer] = registry("tokenizers").get(cls.name)
        return found

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of all checks."""
        return self.shared("tokenizer", self._make)

    def fitted(self) -> Tokenizer:
        """The tokenizer as it is fitted on ``texts``."""
        return self.shared("fitted", lambda: self.fit(self.corpus()))

    def corpus(self) -> list[str]:
        """What it is fitted on: each text three times, as many tokenizers leave out what is rare."""
        return list(self.texts) * 3

    def fit(self, texts: Iterable[str], **arguments: Any) -> Tokenizer:
        """Fit on *texts*, as a run does, with other *arguments* than those of the suite."""
        return self.tokenizer_class().fit(texts, **{**self.fit_arguments(), **arguments})

    def _make(self) -> Tokenizer:
        if self.ref:
            folder = resolve(self.ref).tokenizer
            if folder is None:
                raise CheckFailed(f"ref = {self.ref!r} brings no tokenizer.")
            return self.tokenizer_class().load(folder)
        if not self.tokenizer_class().trainable:
            raise CheckFailed(f"{self.name} cannot be fitted: set ref to a model reference that brings its files.")
        return self.fitted()

    def fit_arguments(self) -> dict[str, Any]:
        """What ``fit`` is given besides texts: the options of ``config``, checked as a run does."""
        fit = self.tokenizer_class().fit
        checked = check_arguments(fit, self.config, where="model.tokenizer", owner=self.name, given=("texts",))
        return {"vocab_size": self.vocab_size, **checked}

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, **arguments: Any) -> Encoded:
        return self.tokenizer().encode(texts, pairs, **{"max_length": _ENDLESS, "offsets": True, **arguments})

    def tokens(self, text: str, pair: str | None = None, **arguments: Any) -> list[Token]:
        """What stands for something in *text* and *pair*, in one window."""
        return tokens_of(self.encode([text], None if pair is None else [pair], **arguments), 0)
