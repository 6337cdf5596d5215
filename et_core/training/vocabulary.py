"""Where a run's tokenizer comes from: its model, another model, or the training rows that it is fitted on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from et_core.config import RunConfig, check_arguments
from et_core.data import Rows
from et_core.errors import ConfigError
from et_core.interfaces import App, Artifact, Backbone, Tokenizer
from et_core.registry import registry
from et_core.runfolder import saved_tokenizer, verify_tokenizer
from et_core.sources import resolve

log = logging.getLogger("et")


class TokenizerChoice:
    """A run's tokenizer, settled as far as it can be before data is read."""

    def __init__(self, config: RunConfig, backbone: type[Backbone], artifact: Artifact) -> None:
        """ConfigError where ``model.tokenizer`` names what cannot be had, or sets what has no effect.

        Writes the references and names that were found into *config*.
        """
        settings = config.model.tokenizer
        self._family = artifact.family.rpartition("/")[2]
        self._source = artifact if settings.ref is None else resolve(settings.ref)
        if settings.ref is not None:
            settings.ref = str(self._source.ref)
        folder = self._source.tokenizer
        tokenizers = registry("tokenizers")
        saved = None if folder is None else saved_tokenizer(folder)
        self.name = tokenizers.find(settings.name or saved or backbone.tokenizer).qualified
        if settings.name is not None:
            settings.name = self.name
        self._class: type[Tokenizer] = tokenizers.get(self.name)
        self._options = self._check_options(config)
        if folder is None and not self._class.trainable:
            raise ConfigError(
                f"{self._source.ref} brings no tokenizer. Set model.tokenizer to a reference that has one."
            )

    def make(self, app: App, rows: Rows) -> Tokenizer:
        """The tokenizer, loaded, or fitted on the texts of *rows* that *app* reads."""
        folder = self._source.tokenizer
        if folder is not None:
            tokenizer = self._class.load(folder)
            verify_tokenizer(folder, tokenizer)
            return tokenizer
        log.info("tokenizer: learning at most %d pieces on the training rows", self._options["vocab_size"])
        texts = _Texts(rows, app)
        if not any(text.strip() for text in texts):
            raise ConfigError(
                f"{rows.description} has no text to learn a vocabulary from. "
                "Set model.tokenizer to a reference whose tokenizer is used."
            )
        return self._class.fit(texts, **self._options)

    def _check_options(self, config: RunConfig) -> dict[str, Any]:
        """What ``fit`` is given: the options of ``model.tokenizer``, and the model's own ``vocab_size``."""
        written = config.model.tokenizer.options
        if self._source.tokenizer is not None:
            for key in written:
                raise ConfigError(
                    f"model.tokenizer.{key} says how a vocabulary is learned, but {self._source.ref} brings its "
                    f"tokenizer. Leave it out, or start from fresh weights, such as {self._family}@init."
                )
            return {}
        entry = registry("tokenizers").find(self.name)
        owner = f"{entry.name} ({entry.provider})"
        checked = check_arguments(self._class.fit, written, where="model.tokenizer", owner=owner, given=("texts",))
        size = config.model.options.get("vocab_size") or self._class.default_vocab_size
        return {"vocab_size": size, **checked}


class _Texts:
    """All texts of *rows* that *app* reads; re-iterable, as ``Tokenizer.fit`` may read more than once."""

    def __init__(self, rows: Rows, app: App) -> None:
        self._rows = rows
        self._app = app

    def __iter__(self) -> Iterator[str]:
        return (text for row in self._rows for text in self._app.texts(row))
