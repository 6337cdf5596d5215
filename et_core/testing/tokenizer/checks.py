from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from et_core.errors import ArtifactError
from et_core.interfaces import Tokenizer
from et_core.testing.suite import CheckFailed, check
from et_core.testing.tokenizer.elsewhere import ask, describe
from et_core.testing.tokenizer.encoding import EncodingChecks, writes_no_text
from et_core.testing.tokenizer.texts import differing, fold

_ROUNDS = 200


def _is_not_fitted(suite: TokenizerConformance) -> str | None:
    return None if suite.tokenizer_class().trainable else "trainable = False: it cannot be fitted on texts"


class TokenizerConformance(EncodingChecks):
    """What a tokenizer promises. It is loaded from ``ref``, or fitted on ``texts`` with ``config`` as its options."""

    minimum: ClassVar[int] = 19

    @check()
    def threads_do_not_disturb_each_other(self) -> None:
        """A server encodes in several threads, with one tokenizer and other lengths for other requests.

        Keep what a call needs in its own variables, or take a lock around what it shares.
        """
        lengths = (8, 48)
        expected = {length: self.encode(self.texts, max_length=length) for length in lengths}
        problems: list[str] = []

        def work(length: int) -> None:
            for _ in range(_ROUNDS):
                try:
                    problem = differing(expected[length], self.encode(self.texts, max_length=length))
                except Exception as error:  # noqa: BLE001 - in a thread nobody else would see it
                    problem = f"{type(error).__name__}: {error}"
                if problem:
                    problems.append(f"with max_length={length}, {problem}")
                    return

        self.tokenizer()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            threads = [threading.Thread(target=work, args=(length,)) for length in lengths]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        if problems:
            raise CheckFailed(f"two threads that encode at once: {problems[0]}.")

    @check(unless=writes_no_text)
    def decoding_gives_the_words_back(self) -> None:
        """Generated ids become text by ``decode``: what it loses or adds is in every answer.

        Leave special tokens out; letters and digits come back, in lower case and without accents where ``encode``
        makes them so.
        """
        tokenizer = self.tokenizer()
        unknown = tokenizer.special_ids.get("unk")
        encoded = tokenizer.encode(self.texts, max_length=10_000)
        known = [(text, ids) for text, ids in zip(self.texts, encoded.ids, strict=True) if unknown not in ids]
        if not known:
            raise CheckFailed("each text holds an unknown token. Set texts to sentences that the tokenizer knows.")
        for (text, _), found in zip(known, tokenizer.decode([ids for _, ids in known]), strict=True):
            if fold(found) != fold(text):
                raise CheckFailed(f"{text!r} comes back as {found!r}.")

    @check()
    def saved_files_give_the_same_elsewhere(self) -> None:
        """A model is loaded in other processes than it was trained in, for years: with other ids it predicts noise.

        Write all that ``encode`` depends on, in an order that no hash decides (Python's differs in each process).
        """
        self._compare("saved", "what save wrote and load read in another process", self.tokenizer())

    @check()
    def a_pickle_gives_the_same_elsewhere(self) -> None:
        """Worker processes get the tokenizer as a pickle.

        Give a class that holds what cannot be pickled ``__reduce__`` or ``__getstate__``.
        """
        self._compare("pickled", "its pickle in another process", self.tokenizer())

    @check()
    def missing_and_broken_files_are_refused(self) -> None:
        """A disk that filled up leaves half a file. Whoever loads it needs to read which, not a trace of Python.

        Raise ArtifactError, with the path, from ``load``; write how much there is, where half a file can be read too.
        """
        cls = self.tokenizer_class()
        whole = self.folder()
        self.tokenizer().save(whole)
        try:
            cls.load(self.folder())
        except ArtifactError:
            pass
        except Exception as error:
            raise CheckFailed(f"an empty folder gives {type(error).__name__}: {error}") from error
        else:
            raise CheckFailed("an empty folder is loaded as a tokenizer.")
        for name, half in self._halves(whole):
            try:
                found = cls.load(half).fingerprint()
            except ArtifactError:
                continue
            except Exception as error:
                raise CheckFailed(f"half of {name} gives {type(error).__name__}: {error}") from error
            if found != self.tokenizer().fingerprint():
                raise CheckFailed(f"half of {name} is loaded as another tokenizer.")

    @check(unless=_is_not_fitted)
    def fitting_gives_the_same_elsewhere(self) -> None:
        """Every process of a run, and a resumed run, fits the vocabulary again: other ids, and they learn past another.

        Sort whatever comes out of a set or a hash table, ties in a count too.
        """
        self._compare("fitted", "what is fitted on the same texts in another process", self.fitted())

    @check(unless=_is_not_fitted)
    def fitting_takes_texts_that_are_read_once(self) -> None:
        """Texts may stream by and be gone: a second pass over them finds nothing.

        Make a list of an iterator that is read twice.
        """
        streamed = describe(self.fit(iter(self.corpus())), self.texts)
        if streamed != describe(self.fitted(), self.texts):
            raise CheckFailed("fitted on an iterator, it is another tokenizer than fitted on a list of the same texts.")

    @check(unless=_is_not_fitted)
    def fitting_keeps_to_vocab_size(self) -> None:
        """A vocabulary that is larger than was asked for does not fit the model or its memory.

        Count special tokens in.
        """
        learned = self.fitted().vocab_size
        for size in (learned * 3 // 4, learned // 2):
            if (found := self.fit(self.corpus(), vocab_size=size).vocab_size) > size:
                raise CheckFailed(f"fit with vocab_size={size} gives a vocabulary of {found}.")

    @check(unless=_is_not_fitted)
    def the_fingerprint_changes_with_the_vocabulary(self) -> None:
        """A saved model is refused where its tokenizer has changed, which shows in the fingerprint alone.

        Hash all that decides about ids.
        """
        parts = self.texts[0::2], self.texts[1::2]
        fitted = [self.fit(list(part) * 3) for part in parts]
        ids = [tokenizer.encode(self.texts, max_length=10_000).ids for tokenizer in fitted]
        if ids[0] != ids[1] and fitted[0].fingerprint() == fitted[1].fingerprint():
            raise CheckFailed(f"two tokenizers that give other ids have one fingerprint, {fitted[0].fingerprint()!r}.")

    def _compare(self, how: str, what: str, tokenizer: Tokenizer) -> None:
        found = self.shared("elsewhere", self._ask)[how]
        if "error" in found:
            raise CheckFailed(f"{what} fails: {found['error']}")
        for name, expected in describe(tokenizer, self.texts).items():
            if found[name] != expected:
                raise CheckFailed(f"{what} has other {name}.")

    def _ask(self) -> Any:
        fit = self.fit_arguments() if self.tokenizer_class().trainable else {}
        return ask(
            self.folder(), self.tokenizer(), name=self.name, texts=self.texts, corpus=self.corpus(), arguments=fit
        )

    def _halves(self, whole: Path) -> Iterator[tuple[str, Path]]:
        """The name of each file in *whole*, with a folder in which only half of it is there."""
        for file in sorted(path for path in whole.iterdir() if path.is_file()):
            folder = self.folder()
            shutil.copytree(whole, folder, dirs_exist_ok=True)
            content = file.read_bytes()
            (folder / file.name).write_bytes(content[: len(content) // 2])
            yield file.name, folder
