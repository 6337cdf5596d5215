from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import sys
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from et_core.data.formats import ReadOptions
from et_core.data.parts import Bad, Digest, Opened, Part, Record, check_unique, sampled
from et_core.errors import DataError

Line = tuple[int, str, Bad | None]
Fields = Iterator[tuple[int, list[str] | Bad]]

_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_FIELD = 1 << 27  # characters; Python's own limit of 131,072 is less than a long document
_SHOWN = 60


class TextPart(Part):
    """A file of lines, possibly gzipped; without a path, standard input."""

    def __init__(self, path: Path | None, *, name: str, format_name: str, zipped: bool, options: ReadOptions) -> None:
        self.path = path
        self.name = name
        self.format_name = format_name
        self.zipped = zipped
        self.options = options
        self.once = path is None
        self._used = False

    def where(self, number: int) -> str:
        return f"{self.name} line {number}"

    def digest(self, digest: Digest, _wanted: Collection[str], /) -> None:
        if self.path is None:
            raise DataError("standard input has no fingerprint: save it to a file first.")
        digest_file(self.path, self.name, digest)

    @contextmanager
    def _lines(self) -> Iterator[Iterator[Line]]:
        with ExitStack() as stack:
            yield _decoded(guarded(self._stream(stack), self.name), self.name)

    def _stream(self, stack: ExitStack) -> BinaryIO:
        if self.path is None:
            if self._used:
                raise DataError("standard input can be read only once: save it to a file and name that file.")
            self._used = True
            return sys.stdin.buffer
        stream = stack.enter_context(open_binary(self.path, self.name))
        if not self.zipped:
            return stream
        # GzipFile gives lines one Python call at a time; the buffer around it does so in C.
        unzipped = cast(io.RawIOBase, stack.enter_context(gzip.GzipFile(fileobj=stream)))
        return stack.enter_context(io.BufferedReader(unzipped, 1 << 17))


class JsonLinesPart(TextPart):
    exact = False

    @contextmanager
    def open(self, _wanted: Collection[str] | None, /) -> Iterator[Opened]:
        with self._lines() as lines:
            yield sampled(self._records(lines), once=self.once)

    def _records(self, lines: Iterator[Line]) -> Iterator[Record]:
        found = False
        for number, text, bad in lines:
            stripped = text.rstrip()
            if stripped:
                found = True
                yield number, bad or _parse(stripped)
        if not found:
            raise DataError(f"{self.name} is empty.")


class JsonPart(JsonLinesPart):
    """One object a line, as many data sets have it under .json, or one array of objects, which is read whole."""

    _is_array = False

    def where(self, number: int) -> str:
        return f"{self.name} item {number}" if self._is_array else super().where(number)

    def _records(self, lines: Iterator[Line]) -> Iterator[Record]:
        first = next((line for line in lines if line[1].strip()), None)
        self._is_array = first is not None and first[1].lstrip().startswith("[")
        if first is None or not self._is_array:
            yield from super()._records(chain([first] if first else [], lines))
            return
        for position, value in enumerate(self._array(first, lines), 1):
            yield position, _checked(value, json.dumps(value))

    def _array(self, first: Line, lines: Iterator[Line]) -> list[Any]:
        texts = []
        for number, text, bad in chain([first], lines):
            if bad:
                raise DataError(f"{self.name} line {number}: {bad.reason}.\n{bad.advice}")
            texts.append(text)
        try:
            values: list[Any] = json.loads("".join(texts))
        except json.JSONDecodeError as error:
            line = first[0] + error.lineno - 1
            raise DataError(f"{self.name} line {line}: invalid JSON at column {error.colno}: {error.msg}.") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.name}: invalid JSON: {error}.") from error
        if not values:
            raise DataError(f"{self.name} is empty.")
        return values


class DelimitedPart(TextPart):
    @property
    def headed(self) -> bool:
        return self.options.header

    @contextmanager
    def open(self, _wanted: Collection[str] | None, /) -> Iterator[Opened]:
        separator = self.options.separator_of(self.format_name)
        with self._lines() as lines:
            fields = _csv_fields(lines, separator) if self.format_name == "csv" else _tsv_fields(lines, separator)
            columns, rest = self._header(fields)
            check_unique(columns, self.where(1))
            yield columns, self._records(columns, rest)

    def _header(self, fields: Fields) -> tuple[list[str], Fields]:
        number, first = next(fields, (0, None))
        if first is None:
            raise DataError(f"{self.name} is empty.")
        if isinstance(first, Bad):
            raise DataError(f"{self.where(number)}: {first.reason}.\n{first.advice}")
        if self.options.header:
            return first, fields
        names = list(self.options.column_names) or [str(position) for position in range(len(first))]
        if len(names) != len(first):
            raise DataError(
                f"{self.where(number)}: there are {_fields(len(first))}, but data.column_names has {len(names)}: "
                f"{', '.join(names)}."
            )
        return names, chain([(number, first)], fields)

    def _records(self, columns: list[str], rows: Fields) -> Iterator[Record]:
        width = len(columns)
        found = False
        for number, fields in rows:
            found = True
            if isinstance(fields, Bad):
                yield number, fields
            elif len(fields) == width:
                yield number, dict(zip(columns, fields, strict=True))
            else:
                yield number, self._misfit(fields, width)
        if not found:
            raise DataError(
                f"{self.name} has a header but no rows. If its first line is a row, set data.header=false.\n"
                f"Header: {', '.join(columns)}."
            )

    def _misfit(self, fields: list[str], width: int) -> Bad:
        raw = self.options.separator_of(self.format_name).join(fields)
        start = raw if len(raw) <= _SHOWN else f"{raw[:_SHOWN]}..."
        expected = "the header has" if self.options.header else "there should be"
        return Bad(f"{_fields(len(fields))} where {expected} {width}; it starts with {start!r}", raw)


def open_binary(path: Path, name: str) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{name} cannot be opened: {error.strerror}.") from error


def guarded(pieces: Iterable[bytes], name: str) -> Iterator[bytes]:
    """*pieces* of the file *name*; DataError where its gzip or its disk is broken."""
    try:
        yield from pieces
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name} is not a complete gzip file: {error}. Fetch or compress it again.") from error
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}.") from error


def digest_file(path: Path, name: str, digest: Digest) -> None:
    with open_binary(path, name) as stream:
        digest.update(hashlib.file_digest(stream, "sha256").digest())


def _decoded(stream: Iterator[bytes], name: str) -> Iterator[Line]:
    """Numbered lines with their ends. Broken UTF-8 is replaced, and told, so that reading can go on after it."""
    for number, line in enumerate(stream, 1):
        data = line.removeprefix(_BOM) if number == 1 else line
        bad = None
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            text = data.decode(errors="replace")
            bad = _broken(line, error.start + len(line) - len(data), text, name)
        yield number, text, bad


def _broken(line: bytes, start: int, text: str, name: str) -> Bad:
    encoding = "UTF-16" if line.startswith((b"\xff\xfe", b"\xfe\xff")) else "LATIN1"
    other = "" if encoding == "UTF-16" else " (put in the encoding that it has, such as GB18030)"
    return Bad(
        f"byte {start + 1} of the line (0x{line[start]:02x}) is not UTF-8",
        text.rstrip("\r\n"),
        f"Convert the file: iconv -f {encoding} -t UTF-8 '{name}' > NEW_FILE{other}.",
    )


def _tsv_fields(lines: Iterator[Line], separator: str) -> Fields:
    for number, text, bad in lines:
        stripped = text.rstrip("\r\n")
        if bad:
            yield number, bad
        elif stripped and (separator in stripped or not stripped.isspace()):
            yield number, stripped.split(separator)


def _csv_fields(lines: Iterator[Line], separator: str) -> Fields:
    opening: list[str] = []
    broken: list[tuple[int, Bad]] = []

    def texts() -> Iterator[str]:
        for number, text, bad in lines:
            if bad:
                broken.append((number, bad))
            if not opening:
                opening.append(text)
            yield text

    if csv.field_size_limit() < _LONGEST_FIELD:
        csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(texts(), delimiter=separator, strict=True)
    while True:
        number = reader.line_num + 1
        fields = _next_fields(reader, opening)
        if fields is None:
            return
        if broken:
            yield broken[0]
            broken.clear()
        elif isinstance(fields, Bad) or (fields and not (len(fields) == 1 and fields[0].isspace())):
            yield number, fields
        opening.clear()


def _next_fields(reader: Any, opening: list[str]) -> list[str] | Bad | None:
    """The fields of the next record, which may span several lines; None at the end."""
    try:
        fields: list[str] | None = next(reader, None)
    except csv.Error as error:
        reason = str(error)
        if reason == "unexpected end of data":
            reason = "a quote that opens here is never closed"
        advice = 'A field with quotes is quoted, and they are doubled: "say ""yes""".'
        return Bad(f"not valid CSV: {reason}", opening[0].rstrip("\r\n"), advice)
    return fields


def _parse(text: str) -> dict[str, Any] | Bad:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return Bad(f"invalid JSON at column {error.colno}: {error.msg}", text)
    except (ValueError, RecursionError) as error:
        return Bad(f"invalid JSON: {error}", text)
    return _checked(value, text)


def _checked(value: Any, text: str) -> dict[str, Any] | Bad:
    """A *value* that was written as *text*, if it is an object of characters."""
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", type(None): "null"}.get(type(value), f"the value {value!r}")
        return Bad(f"{kind} where a JSON object is expected", text, 'Write one object a line, such as {"text": "..."}.')
    if _SURROGATE.search(text) and not _encodable(json.dumps(value, ensure_ascii=False)):
        return Bad("an escape \\uD8.. to \\uDF.. without its other half, which is no character", text)
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fields(count: int) -> str:
    return f"{count} field" if count == 1 else f"{count} fields"
