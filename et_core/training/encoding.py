from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from et_core.config import RunConfig
from et_core.data import ExampleStore, Rows, cached_store, code_fingerprint, encode_rows
from et_core.errors import ComponentError
from et_core.interfaces import App, Backbone, Example, Row, Strategy, Tokenizer, accepted_by


class Encoder:
    """Encodes rows once: the main process writes the store, the others wait for it."""

    def __init__(
        self,
        config: RunConfig,
        app: App,
        tokenizer: Tokenizer,
        *,
        backbone: Backbone,
        encoding: dict[str, Any],
        strategy: Strategy,
    ) -> None:
        """*encoding* holds ``max_length`` and ``truncation``."""
        self._app = app
        self._tokenizer = tokenizer
        self._family = backbone.family.rpartition("/")[2]
        self._accepts = backbone.accepts
        self._processor = backbone.processor()
        self._encoding = encoding
        self._strategy = strategy
        self._skip_bad = config.data.on_bad_row == "skip"
        self._key = {
            "app": [config.app.name, config.app.options, app.state(), code_fingerprint(type(app))],
            "tokenizer": [tokenizer.fingerprint(), code_fingerprint(type(tokenizer))],
            "encoding": encoding,
            "accepts": sorted(self._accepts),
            "processor": self._processor and [code_fingerprint(type(backbone)), dict(backbone.options)],
        }

    def __call__(self, rows: Rows) -> ExampleStore:
        key = {**self._key, "rows": rows.fingerprint()}

        def build() -> Iterator[list[Example]]:
            return encode_rows(rows, self._encode, skip_bad=self._skip_bad, owner=type(self._app).__name__)

        if not self._strategy.is_main:
            self._strategy.barrier()
            return cached_store(key, build)
        # Which rows are bad is only learned by encoding them, so that a kept store would hide them from the report.
        store = cached_store(key, build, reuse=not self._skip_bad)
        self._strategy.barrier()
        return store

    def _encode(self, rows: Sequence[Row]) -> list[Example]:
        examples = self._app.encode(
            rows, self._tokenizer, accepts=self._accepts, processor=self._processor, **self._encoding
        )
        if examples:
            self._check_inputs(examples[0])
        return examples

    def _check_inputs(self, example: Example) -> None:
        """ComponentError where the app gives inputs that the backbone does not take, which would fail in a step."""
        accepted = accepted_by(self._accepts, self._app.needs)
        refused = sorted(name for name in example.inputs if not _asks(name) & accepted)
        if refused:
            raise ComponentError(
                f"{type(self._app).__name__} encodes rows into {', '.join(sorted(example.inputs))}, but "
                f"the backbone {self._family!r} takes no {refused[0]}: it accepts "
                f"{', '.join(sorted(self._accepts)) or 'nothing'}. "
                "Choose another model, or have App.encode follow *accepts*: with 'text' alone a pair is joined."
            )


def _asks(name: str) -> frozenset[str]:
    """Which words of ``Backbone.accepts`` admit the input *name*; any of them is enough."""
    if name.startswith("texts.0."):
        return frozenset({"text", "texts"})
    return frozenset({name.partition(".")[0]})
