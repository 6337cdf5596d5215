"""Fresh environments, and a package index on this machine, for tests of what users install."""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from et_core.registry import GROUP

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (".", "plugins/et-appzoo", "plugins/et-bert")


def call(*command: str | Path, cwd: Path | None = None, fails: bool = False, **environment: str) -> str:
    """Run *command* and return all that it says; what it returns has to be 0, or with *fails* anything else."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**_clean(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"{command} returned {done.returncode}\n{done.stdout}"
    return done.stdout


def _clean() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ET_", "PYTHON", "PIP_", "UV_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "ET_CACHE_DIR": os.environ["ET_CACHE_DIR"]}


def _scratch() -> Path:
    """A folder that goes when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="et-environments-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def own_wheels() -> tuple[Path, ...]:
    """The wheels of this repository, built once from a copy, so that the checkout stays clean."""
    folder = _scratch()
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__", "build")
    for name in ("et_core", "plugins", "templates"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    for source in SOURCES:
        # That of et-core from its source distribution, which has to hold the templates too.
        only = () if source == "." else ("--wheel",)
        call(sys.executable, "-m", "build", *only, "--no-isolation", "--outdir", folder / "wheels", folder / source)
    return tuple(sorted((folder / "wheels").glob("*.whl")))


@functools.cache
def dependencies(*without: str) -> Path:
    """A folder with all that is installed here but plugins of et, et itself, and the distributions *without*."""
    installed = Path(sysconfig.get_path("purelib"))
    left_out = {
        Path(str(file)).parts[0]
        for found in importlib.metadata.distributions(path=[str(installed)])
        if found.name in without or found.entry_points.select(group=GROUP)
        for file in found.files or ()
    }
    folder = _scratch()
    for entry in installed.iterdir():
        if entry.name not in left_out:
            (folder / entry.name).symlink_to(entry)
    return folder


def fresh_environment(path: Path) -> Path:
    """An environment at *path* with this repository's wheels; all else is what is installed here."""
    call(sys.executable, "-m", "venv", "--without-pip", path)
    (own,) = (path / "lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text(f"{dependencies()}\n", "utf-8")
    install(path, *own_wheels())
    return path


def install(environment: Path, *wheels: Path) -> None:
    """Install *wheels* and nothing else."""
    call(*_pip(environment), "install", "--no-deps", "--no-index", "--no-cache-dir", *wheels)


def uninstall(environment: Path, *names: str) -> None:
    call(*_pip(environment), "uninstall", "--yes", *names)


def _pip(environment: Path) -> tuple[str | Path, ...]:
    return (sys.executable, "-m", "pip", "--python", environment / "bin/python")


def pack(name: str, folder: Path) -> Path:
    """The installed distribution *name*, packed into a wheel again; pip makes its scripts anew from entry points."""
    distribution = importlib.metadata.distribution(name)
    made = {point.name for point in distribution.entry_points.select(group="console_scripts")}
    stem = f"{distribution.name.replace('-', '_')}-{distribution.version}"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for file in distribution.files or ():
            source = Path(str(file.locate()))
            target = f"{stem}.data/scripts/{file.name}" if ".." in file.parts else file.as_posix()
            if source.is_file() and "__pycache__" not in file.parts and not (".." in file.parts and file.name in made):
                wheel.write(source, target)
    return path


class Index:
    """A package index: it serves the files of a folder and takes uploads into it."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address

    @property
    def settings(self) -> Mapping[str, str]:
        """What makes pip and uv use it, and nothing else."""
        return {
            "PIP_INDEX_URL": f"{self.address}/simple",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_CACHE_DIR": "1",
            "UV_PUBLISH_URL": f"{self.address}/upload",
            "UV_PUBLISH_TOKEN": "token",
        }


@contextmanager
def package_index(folder: Path) -> Iterator[Index]:
    """Serve *folder* on this machine until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Index(folder, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, folder: Path, *args: object) -> None:
        self._folder = folder
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        _, kind, name, *_ = [*self.path.split("/"), ""]
        if kind == "files":
            self._answer((self._folder / name).read_bytes(), "application/octet-stream")
            return
        files = sorted(path.name for path in self._folder.iterdir() if _project(path.name) == name)
        links = "".join(f'<a href="/files/{file}">{file}</a>' for file in files)
        self._answer(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html", found=bool(files))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        for part in BytesParser().parsebytes(head + body).get_payload():
            if file := part.get_filename():  # type: ignore[union-attr]
                (self._folder / file).write_bytes(part.get_payload(decode=True))  # type: ignore[union-attr, arg-type]
        self._answer(b"", "text/plain")

    def _answer(self, content: bytes, kind: str, *, found: bool = True) -> None:
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is http.server's
        return


def _project(file: str) -> str:
    return file.partition("-")[0].replace("_", "-").lower()
