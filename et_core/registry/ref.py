from __future__ import annotations

import re
from dataclasses import dataclass

from et_core.errors import RefError

DEFAULT_SOURCE = "zoo"
_SOURCE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_ZOO_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ModelRef:
    """A model by name: ``target@source[:revision]``; the target is opaque to everything but its source."""

    target: str
    source: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: object) -> ModelRef:
        """Read the written form; ``parse(str(ref)) == ref``.

        A bare name means ``name@zoo``. What could mean two things is refused with both spellings.
        """
        if isinstance(text, ModelRef):
            return text
        if not isinstance(text, str):
            raise RefError(
                f"a model reference is text such as 'bert-base-en@zoo', not {text!r} of type {type(text).__name__}."
            )
        written = text.strip()
        if not written:
            raise RefError("the model reference is empty. Write one such as 'bert-base-en@zoo'.")
        target, at, tail = written.rpartition("@")
        if not at:
            return _bare(written)
        source, colon, revision = tail.partition(":")
        if not target:
            raise RefError(f"{written!r} names no model before the '@'. Write 'name@{source or DEFAULT_SOURCE}'.")
        if not _SOURCE.fullmatch(source):
            raise RefError(f"{written!r} names no source after the '@'. Write 'name@zoo', 'org/repo@hf' or './dir@local'.")
        if colon and not revision:
            raise RefError(f"{written!r} has an empty revision. Leave out the ':' or name one after it.")
        if any(character.isspace() for character in revision):
            raise RefError(f"{written!r} holds white space in its revision.")
        return cls(target, source, revision or None)

    def __str__(self) -> str:
        return f"{self.target}@{self.source}" + (f":{self.revision}" if self.revision else "")


def _bare(written: str) -> ModelRef:
    if written.startswith((".", "/", "~")) or "\\" in written:
        raise RefError(f"{written!r} looks like a path. Write '{written}@local'.")
    if "/" in written:
        raise RefError(
            f"{written!r} could be a Hub repository or a folder. Write '{written}@hf' or './{written}@local'."
        )
    if not _ZOO_NAME.fullmatch(written):
        raise RefError(f"{written!r} is not a model reference. Write one such as 'bert-base-en@zoo' or 'org/repo@hf:main'.")
    return ModelRef(written, DEFAULT_SOURCE)
