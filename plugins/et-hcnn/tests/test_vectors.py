from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from et_core.data import PretrainedTokenizer
from et_core.errors import ConfigError, DataError, EtError
from et_core.interfaces import build_backbone
from et_hcnn.tokenizer import WordTokenizer
from et_hcnn.vectors import load_vectors

TOKENIZER = WordTokenizer.fit(["the fox jumps over the lazy dog"], vocab_size=50)
VECTORS = {"the": [1.0, 2.0, 3.0], "dog": [-1.0, 0.5, 2e-3], "cat": [9.0, 9.0, 9.0], "Fox": [7.0, 7.0, 7.0]}


def as_text(vectors: dict[str, list[float]]) -> str:
    return "".join(f"{word} {' '.join(map(str, values))}\n" for word, values in vectors.items())


def write_npy(folder: Path, vectors: dict[str, list[float]], suffix: str = ".vocab") -> Path:
    np.save(folder / "v.npy", np.asarray(list(vectors.values()), np.float32))
    (folder / f"v{suffix}").write_text("\n".join(vectors) + "\n", "utf-8")
    return folder / "v.npy"


def write(folder: Path, text: str) -> Path:
    file = folder / "v.txt"
    file.write_text(text, "utf-8")
    return file


FORMATS: dict[str, Callable[[Path], Path]] = {
    "glove": lambda folder: write(folder, as_text(VECTORS)),
    "word2vec": lambda folder: write(folder, f"{len(VECTORS)} 3\n{as_text(VECTORS)}"),
    "blanks at the end": lambda folder: write(folder, as_text(VECTORS).replace("\n", " \n") + "\n"),
    "tabs": lambda folder: write(folder, as_text(VECTORS).replace(" ", "\t")),
    "npy and vocab": lambda folder: write_npy(folder, VECTORS),
    "npy and txt": lambda folder: write_npy(folder, VECTORS, ".txt"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_words_of_the_vocabulary_get_the_vectors_of_the_file(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = FORMATS[name](tmp_path)
    with caplog.at_level(logging.INFO, logger="et"):
        table = load_vectors(str(file), TOKENIZER)
    assert table.shape == (TOKENIZER.vocab_size, 3)
    for word in ("the", "dog"):
        torch.testing.assert_close(table[TOKENIZER.vocabulary[word]], torch.tensor(VECTORS[word]))
    assert not (table == 9).any()
    assert caplog.messages == [f"vectors: 2 of 6 words found in {file} (33.3 %)"]


def test_words_without_a_vector_get_random_ones_of_the_same_scale(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.fit([" ".join(f"w{number}" for number in range(500))], vocab_size=600)
    rng = np.random.default_rng(0)
    known = {f"w{number}": list(rng.normal(0, 0.37, 60)) for number in range(200)}
    file = write(tmp_path, as_text(known))
    torch.manual_seed(5)
    table = load_vectors(str(file), tokenizer)
    others = table[[tokenizer.vocabulary[f"w{number}"] for number in range(200, 500)]]
    assert float(others.std()) == pytest.approx(0.37, rel=0.03)
    assert abs(float(others.mean())) < 0.01
    torch.manual_seed(5)
    assert torch.equal(load_vectors(str(file), tokenizer), table)


def test_a_word_that_comes_twice_keeps_its_first_vector(tmp_path: Path) -> None:
    table = load_vectors(str(write(tmp_path, "the 1 2\nthe 3 4\n")), TOKENIZER)
    assert table[TOKENIZER.vocabulary["the"]].tolist() == [1, 2]


def test_a_word_may_hold_blanks_as_some_of_glove_s_do(tmp_path: Path) -> None:
    table = load_vectors(str(write(tmp_path, "fox 5 6\nat name@domain.com 1 2\n. . . 3 4\nthe 1 2\n")), TOKENIZER)
    assert table[TOKENIZER.vocabulary["the"]].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2 3\nfox 1 2\n", "v.txt line 2: 2 numbers follow the word, where 3 are due."),
        ("the 1 2 3\ncat 1 2 3 4\n", "v.txt line 2: 4 numbers follow the word, where 3 are due."),
        ("3 2\nthe 1 2\nfox 1 2 3\n", "v.txt line 3: 3 numbers follow the word, where 2 are due."),
        ("the 1 2 3\ndog 1 x 3\n", "v.txt line 2: 'x' is not a number."),
        ("the 1 2 3\ndog 1 nan 3\n", "v.txt line 2: 'nan' is not a number."),
        ("the 1e39 2 3\n", "v.txt line 1: '1e39' is beyond the numbers that fp32 has, which end at 3.4e38."),
        (
            "the 1 2 3\ndog 1 2 -1e300\n",
            "v.txt line 2: '-1e300' is beyond the numbers that fp32 has, which end at 3.4e38.",
        ),
        ("the\n", "v.txt line 1: expected a word and its numbers."),
        ("", "v.txt is empty: expected a word and its numbers a line."),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        load_vectors(str(file), TOKENIZER)
    assert str(caught.value) == message.replace("v.txt", str(file))


def test_a_word_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes(b"the 1 2\n\xff\xfe 1 2\n")
    with pytest.raises(DataError, match=r"v\.txt line 2: the word is not UTF-8: "):
        load_vectors(str(tmp_path / "v.txt"), TOKENIZER)


@pytest.mark.parametrize("name", ["glove", "word2vec", "npy and vocab"])
def test_another_size_than_was_asked_for_is_refused(tmp_path: Path, name: str) -> None:
    file = FORMATS[name](tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_vectors(str(file), TOKENIZER, size=300)
    assert str(caught.value) == (
        f"model.embedding_size is 300, but the vectors in {file} have 3 numbers. "
        "Leave it out, or set model.embedding_size=3."
    )
    assert load_vectors(str(file), TOKENIZER, size=3).shape[1] == 3


def npy(folder: Path, values: Any, words: str = "the\nfox\n") -> Path:
    np.save(folder / "v.npy", values)
    (folder / "v.vocab").write_text(words, "utf-8")
    return folder / "v.npy"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((3, 2)), "v.vocab has 2 words, but v.npy has 3 rows."),
        (np.ones(2), "v.npy holds float64 of shape [2]: expected numbers [V, D]."),
        (np.ones((2, 2), np.int64), "v.npy holds int64 of shape [2, 2]: expected numbers [V, D]."),
        (np.array([[1.0, 2.0], [np.inf, 1.0]]), "v.npy row 1 ('fox') holds what is no number, or none of fp32's."),
        (np.array([[1.0, 2.0], [1e39, 1.0]]), "v.npy row 1 ('fox') holds what is no number, or none of fp32's."),
    ],
)
def test_a_broken_matrix_is_named(tmp_path: Path, values: Any, message: str) -> None:
    file = npy(tmp_path, values)
    with pytest.raises(DataError) as caught:
        load_vectors(str(file), TOKENIZER)
    assert str(caught.value).replace(f"{tmp_path}/", "") == message


def as_npz(file: Path) -> None:
    with file.open("wb") as stream:
        np.savez(stream, vectors=np.ones((2, 2)))


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut off in its header": lambda file: file.write_bytes(file.read_bytes()[:40]),
    "cut off in its numbers": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "an archive": as_npz,
    "a broken archive": lambda file: file.write_bytes(b"PK\x03\x04" + bytes(50)),
    "a text": lambda file: file.write_text("the 1 2\n"),
    "a header that does not parse": lambda file: file.write_bytes(b"\x93NUMPY\x01\x00\x04\x00{'a("),
    "sizes beyond all memory": lambda file: file.write_bytes(
        file.read_bytes().replace(b"(2, 2), ", b"(9" + b"0" * 30 + b", 2), ")
    ),
    "pickled": lambda file: np.save(file, np.array([{"a": 1}, None], dtype=object)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_matrix_is_told_and_not_opened(tmp_path: Path, name: str) -> None:
    file = npy(tmp_path, np.ones((2, 2)))
    BROKEN[name](file)
    with pytest.raises(DataError) as caught:
        load_vectors(str(file), TOKENIZER)
    assert str(caught.value).startswith(f"{file} cannot be read as a matrix that numpy.save wrote: ")


def test_a_matrix_without_words_says_which_file_it_needs(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((2, 2)))
    with pytest.raises(ConfigError, match=r"needs the list of its words beside it, one a line: v\.vocab or v\.txt\.$"):
        load_vectors(str(tmp_path / "v.npy"), TOKENIZER)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.txt", None, "model.vectors: there is no file "),
        ("v.bin", "x", "model.vectors: .* is packed or binary. Unpack it, or save it as text"),
    ],
)
def test_a_file_that_cannot_serve_says_what_to_do(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(ConfigError, match=message):
        load_vectors(str(tmp_path / name), TOKENIZER)


CASED = WordTokenizer.fit(["The Fox jumps"], vocab_size=50, lowercase=False)


@pytest.mark.parametrize(
    ("tokenizer", "words", "message"),
    [
        (
            TOKENIZER,
            ["The", "Fox", "DOG", "is"],
            "v.txt has none of the 6 words of the vocabulary. The file begins with 'The', 'Fox', 'DOG', "
            "the vocabulary with 'the', 'dog', 'fox'. Words as the file has them need model.tokenizer.lowercase=false.",
        ),
        (
            CASED,
            ["the", "fox"],
            "v.txt has none of the 3 words of the vocabulary. The file begins with 'the', 'fox', the vocabulary "
            "with 'Fox', 'The', 'jumps'. Words as the file has them need model.tokenizer.lowercase=true.",
        ),
        (
            TOKENIZER,
            ["chat", "chien"],
            "v.txt has none of the 6 words of the vocabulary. The file begins with 'chat', 'chien', the vocabulary "
            "with 'the', 'dog', 'fox'. Take vectors whose words are those of the training rows, split in the same way.",
        ),
    ],
)
def test_where_no_word_is_found_both_sides_are_shown_and_what_differs(
    tmp_path: Path, tokenizer: WordTokenizer, words: list[str], message: str
) -> None:
    vectors = {word: [1.0, 2.0] for word in words}
    for file in (write(tmp_path, as_text(vectors)), write_npy(tmp_path, vectors)):
        with pytest.raises(ConfigError) as caught:
            load_vectors(str(file), tokenizer)
        assert str(caught.value) == f"model.vectors: {message.replace('v.txt', str(file))}"


def test_the_words_of_lines_are_shown_and_not_blank_lines_or_the_first_line_s_sizes(tmp_path: Path) -> None:
    file = write(tmp_path, "2 2\n\nThe 1 2\nFox 1 2\n")
    with pytest.raises(ConfigError, match=r"The file begins with 'The', 'Fox', the vocabulary"):
        load_vectors(str(file), TOKENIZER)


@pytest.mark.parametrize("first", ["the 1061396", "The\t1061396", "the 0.1 0.2"])
def test_a_word_list_with_more_than_words_says_so(tmp_path: Path, first: str) -> None:
    file = npy(tmp_path, np.ones((2, 2)), f"{first}\nfox 593677\n")
    with pytest.raises(ConfigError) as caught:
        load_vectors(str(file), TOKENIZER)
    assert str(caught.value) == (
        f"model.vectors: {file} has none of the 6 words of the vocabulary. The file begins with {first!r}, "
        "'fox 593677', the vocabulary with 'the', 'dog', 'fox'. A line of v.vocab has to hold a word alone."
    )


def test_pieces_of_words_have_no_vectors(tmp_path: Path) -> None:
    pieces = PretrainedTokenizer.fit(["the fox the fox"], vocab_size=40)
    with pytest.raises(ConfigError, match="but a PretrainedTokenizer has no whole words to look up in it"):
        load_vectors(str(FORMATS["glove"](tmp_path)), pieces)


def test_a_network_begins_with_the_vectors_and_takes_its_size_from_them(tmp_path: Path) -> None:
    file = str(FORMATS["glove"](tmp_path))
    backbone: Any = build_backbone("hcnn", {"vectors": file}, tokenizer=TOKENIZER)
    assert backbone.config({})["embedding_size"] == 3
    table = backbone.words.weight
    assert table.requires_grad
    assert table[TOKENIZER.vocabulary["dog"]].tolist() == pytest.approx(VECTORS["dog"])
    assert not table[TOKENIZER.pad_id].any()


def test_frozen_vectors_do_not_train(tmp_path: Path) -> None:
    options = {"vectors": str(FORMATS["glove"](tmp_path)), "freeze_vectors": True}
    backbone: Any = build_backbone("bicnn", options, tokenizer=TOKENIZER)
    assert [name for name, parameter in backbone.named_parameters() if not parameter.requires_grad] == ["words.weight"]


def test_freezing_without_vectors_is_refused() -> None:
    with pytest.raises(EtError, match="random ones would never learn"):
        build_backbone("hcnn", {"freeze_vectors": True}, tokenizer=TOKENIZER)
