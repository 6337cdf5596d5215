from __future__ import annotations

import re
from dataclasses import dataclass

from et_core.errors import RefError

DEFAULT_SOURCE = "zoo"
_SOURCE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_ZOO_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_PATH = re.compile(r"[./~\\]|[A-Za-z]:|.*\\")


@dataclass(frozen=True)
class ModelRef:
    """A model by name: ``target@source[:revision]``; the target is opaque to everything but its source."""

    target: str
    source: str
    revision: str | None = None

    def __post_init__(self) -> None:
        """Refuse what would not be read back from its own written form."""
        if not self.target:
            raise RefError(f"{str(self)!r} names no model before the '@'. Write 'name{self}'.")
        if self.target != self.target.strip() or not self.target.isprintable():
            raise RefError(f"{str(self)!r} holds white space or an unprintable character around its model's name.")
        if not _SOURCE.fullmatch(self.source):
            raise RefError(
                f"{str(self)!r} names no source after the '@'. Write 'name@zoo', 'org/repo@hf' or './dir@local'."
            )
        if self.revision == "":
            raise RefError(f"{str(self)!r} has an empty revision. Leave out the ':' or name one after it.")
        if self.revision is not None and re.search(r"[\s@]", self.revision):
            raise RefError(f"{str(self)!r} holds white space or an '@' in its revision.")

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
        if target and not colon and re.fullmatch(r"\S+", source) and not _SOURCE.fullmatch(source):
            hub = "hf" if "/" in target else DEFAULT_SOURCE
            raise RefError(
                f"{written!r} names the unknown source {source!r}.\n"
                f"If {source!r} is a revision, the source comes first: '{target}@{hub}:{source}'."
            )
        return cls(target, source, revision if colon else None)

    def __str__(self) -> str:
        return f"{self.target}@{self.source}" + (f":{self.revision}" if self.revision is not None else "")


def _bare(written: str) -> ModelRef:
    if "://" in written:
        raise RefError(f"{written!r} is a web address. Write a Hub repository as 'org/repo@hf'.")
    if _PATH.match(written):
        raise RefError(f"{written!r} looks like a path. Write '{written}@local'.")
    if _REPO.fullmatch(written):
        raise RefError(
            f"{written!r} could be a Hub repository or a folder. Write '{written}@hf' or './{written}@local'."
        )
    if "/" in written:
        raise RefError(f"{written!r} looks like a path. Write './{written}@local'.")
    name, colon, revision = written.partition(":")
    if _ZOO_NAME.fullmatch(name) and colon and revision:
        raise RefError(f"{written!r} has a revision but no source. Write '{name}@{DEFAULT_SOURCE}:{revision}'.")
    if not _ZOO_NAME.fullmatch(written):
        raise RefError(
            f"{written!r} is not a model reference. Write one such as 'bert-base-en@zoo' or 'org/repo@hf:main'."
        )
    return ModelRef(written, DEFAULT_SOURCE)
