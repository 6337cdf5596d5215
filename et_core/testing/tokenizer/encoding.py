from __future__ import annotations

import itertools

from et_core.interfaces import Encoded
from et_core.testing.suite import CheckFailed, check
from et_core.testing.tokenizer.base import TokenizerSuite
from et_core.testing.tokenizer.texts import (
    ODD_TEXTS,
    Token,
    alone,
    differing,
    fold,
    of_segment,
    tokens_of,
    uncovered,
)

_ROLES = frozenset({"pad", "unk", "cls", "sep", "mask", "bos", "eos"})


def writes_no_text(suite: TokenizerSuite) -> str | None:
    """Why no check that decodes can be run."""
    return None if suite.decodes else "decodes = False: it turns no ids into text"


class EncodingChecks(TokenizerSuite):
    """What a tokenizer promises of ``encode``."""

    @check()
    def ids_lie_in_the_vocabulary(self) -> None:
        """A model has as many rows in its table as the vocabulary is large: an id beyond stops the run, or worse.

        ``vocab_size`` counts all ids that ``encode`` can give, added and special ones too.
        """
        size = self.tokenizer().vocab_size
        texts = [*self.texts, *ODD_TEXTS]
        for encoded in (self.encode(texts), self.encode(texts, texts[::-1])):
            for source, ids in zip(encoded.sources, encoded.ids, strict=True):
                if wrong := [found for found in ids if not 0 <= found < size]:
                    raise CheckFailed(f"{texts[source][:40]!r} gives the id {wrong[0]} in a vocabulary of {size}.")

    @check()
    def special_ids_lie_in_the_vocabulary(self) -> None:
        """Padding, masking and generation write these ids themselves; batches are padded with ``pad_id``.

        Give every special token a place in the vocabulary, and leave out the roles that have none.
        """
        tokenizer = self.tokenizer()
        found = dict(tokenizer.special_ids)
        if found.get("pad") != tokenizer.pad_id:
            raise CheckFailed(f"special_ids says that 'pad' is {found.get('pad')}, and pad_id is {tokenizer.pad_id}.")
        for role, number in found.items():
            if role not in _ROLES:
                raise CheckFailed(f"special_ids names the role {role!r}. Roles: {', '.join(sorted(_ROLES))}.")
            if not 0 <= number < tokenizer.vocab_size:
                raise CheckFailed(f"the id of {role!r} is {number}, in a vocabulary of {tokenizer.vocab_size}.")

    @check()
    def offsets_lie_in_the_text(self) -> None:
        """What is found by offsets is looked up in the text as it was given: a span beyond it, or a hole, is lost.

        Count characters, not bytes; special tokens get (0, 0).
        """
        for text in self._texts_for_offsets():
            tokens = self.tokens(text)
            for before, token in zip([Token(0, 0, 0, 0), *tokens], tokens, strict=False):
                if not 0 <= token.start < token.end <= len(text):
                    raise CheckFailed(f"the span {token.start}:{token.end} is not in {text[:40]!r}.")
                if (token.start, token.end) < (before.start, before.end):
                    raise CheckFailed(f"the span {token.start}:{token.end} comes after {before.start}:{before.end}.")
            if text in self.texts and (missing := next(uncovered(text, tokens), None)) is not None:
                raise CheckFailed(f"no token stands for {text[missing]!r}, character {missing} of {text[:40]!r}.")

    @check(unless=writes_no_text)
    def offsets_cut_out_their_token(self) -> None:
        """Labels per token, answers and marks are found by offsets: one that is off by a character shifts them all.

        Count in the text as it was given, before it was normalised.
        """
        for text in self._texts_for_offsets():
            for token in self.tokens(text):
                (decoded,) = self.tokenizer().decode([[token.id]])
                cut, meant = fold(text[token.start : token.end]), fold(decoded)
                # One character may become several that stand in several tokens, as a ligature does.
                if meant and cut != meant and not (token.end - token.start == 1 and meant in cut):
                    raise CheckFailed(
                        f"{token.start}:{token.end} of {text[:40]!r} is {text[token.start : token.end]!r}, "
                        f"but the token is {decoded!r}."
                    )

    def _texts_for_offsets(self) -> list[str]:
        return [*self.texts, *(f"\U0001f600 {text}" for text in self.texts), *ODD_TEXTS]

    @check()
    def words_are_in_order(self) -> None:
        """Labels that are given per word go to the first of its tokens.

        Number the words of a text in their order, the tokens of one word alike, and give None for special tokens.
        """
        for text in self.texts:
            encoded = self.encode([text])
            if len(encoded.words) != 1 or len(encoded.words[0]) != len(encoded.ids[0]):
                raise CheckFailed(f"words are not given for each token of {text[:40]!r}.")
            spans: dict[int, list[int]] = {}
            for word, (start, end) in zip(encoded.words[0], encoded.offsets[0], strict=True):
                if word is not None and end > start:
                    spans.setdefault(word, []).extend((start, end))
            if list(spans) != sorted(spans):
                raise CheckFailed(f"the words of {text[:40]!r} are numbered {list(spans)}.")
            for word, places in spans.items():
                if len(text[min(places) : max(places)].split()) > 1:
                    found = text[min(places) : max(places)]
                    raise CheckFailed(f"word {word} of {text[:40]!r} is {found[:40]!r}, which is several words.")

    @check()
    def asking_for_offsets_changes_no_ids(self) -> None:
        """Training asks for offsets where prediction may not, and both must see the same tokens.

        Without ``offsets=True`` both *offsets* and *words* are empty; all else is the same.
        """
        texts = list(self.texts)
        with_offsets, without = self.encode(texts, max_length=16), self.encode(texts, max_length=16, offsets=False)
        if without.offsets or without.words:
            raise CheckFailed("offsets or words are given without being asked for.")
        bare = Encoded(with_offsets.ids, with_offsets.segments, with_offsets.sources)
        if problem := differing(bare, without):
            raise CheckFailed(f"{problem} between encode with offsets and without.")

    @check()
    def odd_texts_give_tokens(self) -> None:
        """Real data holds empty cells, emoji, stray accents and control characters: one of them must not end a run.

        Give the unknown token, or a special one, where nothing is left; a row without tokens cannot be a row of a
        batch.
        """
        if self.encode([]).ids:
            raise CheckFailed("no texts at all give a window.")
        for text in ODD_TEXTS:
            for pairs in (None, [text], ["a"]):
                try:
                    encoded = self.encode([text], pairs, max_length=64)
                except Exception as error:
                    raise CheckFailed(f"{text[:40]!r} fails: {type(error).__name__}: {error}") from error
                if [len(ids) > 0 for ids in encoded.ids] != [True]:
                    raise CheckFailed(f"{text[:40]!r} gives no token.")

    @check()
    def no_window_is_longer_than_max_length(self) -> None:
        """Models have positions for so many tokens, and memory is planned by it.

        Count special tokens in.
        """
        texts = [*self.texts, "x" * 300]
        for pairs in (None, texts[::-1]):
            for length in (8, 24):
                for side in ("right", "left"):
                    encoded = self.encode(texts, pairs, max_length=length, truncation=side)
                    if encoded.sources != list(range(len(texts))):
                        raise CheckFailed(f"without a stride, {len(texts)} texts give windows of {encoded.sources}.")
                    if (longest := max(map(len, encoded.ids))) > length:
                        raise CheckFailed(f"a window of {longest} tokens where max_length is {length}, cut {side}.")

    @check()
    def the_end_that_is_asked_for_is_cut(self) -> None:
        """``data.truncation: left`` keeps the end of a text, where the last turn of a dialogue stands.

        With "right" the first tokens stay, with "left" the last.
        """
        text = " ".join(self.texts)
        whole = self.tokens(text)
        for side in ("right", "left"):
            kept = self.tokens(text, max_length=16, truncation=side)
            wanted = whole[: len(kept)] if side == "right" else whole[-len(kept) :]
            if kept != wanted or len(kept) < 8:
                raise CheckFailed(f"cut {side} to 16 tokens, it keeps {_span(kept)} of {_span(whole)}.")

    @check()
    def the_longer_of_a_pair_is_cut_first(self) -> None:
        """A question is short and its passage long: what is cut is the passage.

        Take tokens from the longer text until both fit.
        """
        short, long = min(self.texts, key=len), " ".join(self.texts)
        whole = {text: self.tokens(text) for text in (short, long)}
        special = len(self.encode([short], [short]).ids[0]) - 2 * len(whole[short])
        length = special + 2 * len(whole[short]) + 4
        for pair in ((short, long), (long, short)):
            for side in ("right", "left"):
                tokens = self.tokens(*pair, max_length=length, truncation=side)
                for segment, text in enumerate(pair):
                    kept, full = of_segment(tokens, segment), whole[text]
                    least = len(full) if text == short else 1
                    wanted = full[: len(kept)] if side == "right" else full[len(full) - len(kept) :]
                    if len(kept) < least or kept != wanted:
                        raise CheckFailed(
                            f"cut {side} to {length} tokens, text {segment} of a pair keeps {_span(kept)} of "
                            f"{_span(full)}, the texts being of {len(whole[pair[0]])} and {len(whole[pair[1]])} tokens."
                        )

    @check()
    def windows_overlap_and_cover_the_text(self) -> None:
        """An answer is found wherever it stands only if windows leave nothing out, and whole if they overlap.

        Each window begins *stride* tokens before the end of the one before, and *sources* says which text it is of.
        """
        long, short = " ".join(self.texts), min(self.texts, key=len)
        encoded = self.encode([long, "a"], max_length=16, stride=4)
        count = encoded.sources.count(0)
        if encoded.sources != [0] * count + [1] or count < 3 or max(map(len, encoded.ids)) > 16:
            raise CheckFailed(f"a long text and a short one give windows of {encoded.sources} of up to 16 tokens.")
        windows = [tokens_of(encoded, window) for window in range(count)]
        for before, window in itertools.pairwise(windows):
            if before[-4:] != window[:4]:
                raise CheckFailed(f"with stride=4, {_span(window)} follows {_span(before)}.")
        joined = windows[0] + [token for window in windows[1:] for token in window[4:]]
        if joined != (whole := self.tokens(long)):
            raise CheckFailed(f"the windows hold {_span(joined)} of {_span(whole)}.")
        encoded = self.encode([short], [long], max_length=len(self.tokens(short)) + 16, stride=4)
        found = {token for window in range(len(encoded.ids)) for token in tokens_of(encoded, window)}
        if missing := len(set(self.tokens(short, long)) - found):
            raise CheckFailed(f"the {len(encoded.ids)} windows of a pair leave out {missing} of its tokens.")

    @check()
    def pairs_have_segments_0_then_1(self) -> None:
        """Segments tell a model which of two texts a token is of, and an app which text an offset is in.

        0 for the first text, 1 for the second, 0 throughout for one alone; offsets count from the start of a token's
        own text.
        """
        for text in self.texts:
            if set(self.encode([text]).segments[0]) != {0}:
                raise CheckFailed(f"{text[:40]!r} alone has the segments {self.encode([text]).segments[0][:20]}.")
        first, second = self.texts[0], self.texts[1]
        encoded = self.encode([first], [second])
        segments = encoded.segments[0]
        if len(segments) != len(encoded.ids[0]) or segments != sorted(segments) or set(segments) != {0, 1}:
            raise CheckFailed(f"a pair has the segments {segments[:40]}.")
        tokens = tokens_of(encoded, 0)
        for segment, text in ((0, first), (1, second)):
            found, wanted = of_segment(tokens, segment), self.tokens(text)
            if [token.id for token in found] != [token.id for token in wanted]:
                raise CheckFailed(f"the tokens of segment {segment} of a pair are not those of its text.")
            for token, expected in zip(found, wanted, strict=True):
                if token != expected:
                    raise CheckFailed(
                        f"text {segment} of a pair has a token at {token.start}:{token.end}, "
                        f"which is at {expected.start}:{expected.end} where the text stands alone."
                    )

    @check()
    def one_by_one_equals_a_batch(self) -> None:
        """A row's tokens must not depend on the rows beside it: a served text stands alone.

        Pad nothing, and keep nothing from one text to the next: the words of each are numbered anew.
        """
        texts = [*self.texts, *ODD_TEXTS]
        for pairs in (None, texts[::-1]):
            whole = self.encode(texts, pairs, max_length=24)
            for place, text in enumerate(texts):
                one = self.encode([text], None if pairs is None else [pairs[place]], max_length=24)
                if part := differing(one, alone(whole, place)):
                    raise CheckFailed(f"of {text[:40]!r} alone and among {len(texts)} texts, {part}.")

    @check()
    def a_call_leaves_nothing_to_the_next(self) -> None:
        """Training, evaluation and serving share a tokenizer and ask for other lengths.

        Let no call change what later calls give.
        """
        before, fingerprint = self.encode(self.texts), self.tokenizer().fingerprint()
        self.encode(self.texts, max_length=8, truncation="left")
        shortest = min(self.texts, key=len)
        self.encode([shortest] * len(self.texts), self.texts, max_length=len(self.tokens(shortest)) + 16, stride=2)
        if problem := differing(before, self.encode(self.texts)):
            raise CheckFailed(f"{problem} after calls with other lengths.")
        if self.tokenizer().fingerprint() != fingerprint:
            raise CheckFailed("the fingerprint is another one after calls of encode.")


def _span(tokens: list[Token]) -> str:
    """Which part of a text *tokens* are, in words."""
    if not tokens:
        return "nothing"
    return f"{len(tokens)} tokens of {tokens[0].start}:{tokens[-1].end}"
