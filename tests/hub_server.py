"""A local server that answers the requests of huggingface_hub, for tests of downloads without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".h5")


@dataclass
class Repo:
    """Files by revision; *status* other than 200 refuses every request with *code* as the Hub's error code."""

    revisions: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    status: int = 200
    code: str = ""


class HubServer:
    """``with HubServer() as hub: hub.push("org/repo", {"config.json": b"{}"})``; *requests* is all that was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def push(self, name: str, files: Mapping[str, bytes], *, revision: str = "main") -> str:
        """Add a commit with *files* that *revision* then names; returns its hash."""
        commit = sha1(json.dumps({k: sha256(v).hexdigest() for k, v in files.items()}).encode()).hexdigest()
        repo = self.repos.setdefault(name, Repo())
        repo.commits[commit] = dict(files)
        repo.revisions[revision] = commit
        return commit

    def refuse(self, name: str, *, status: int, code: str = "") -> None:
        self.repos[name] = Repo(status=status, code=code)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.requests.append(f"{self.command} {path}")
        status, headers, body = self._route(path.split("/"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _route(self, parts: list[str]) -> tuple[int, dict[str, str], bytes]:
        api = parts[:2] == ["api", "models"]
        org, name, verb, *rest = [*(parts[2:] if api else parts), ""]
        repo = self.hub.repos.get(f"{org}/{name}")
        if repo is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if repo.status != 200:
            return repo.status, {"X-Error-Code": repo.code} if repo.code else {}, b"{}"
        rest = [part for part in rest if part]
        if api:
            revision = "/".join(rest) or "main"
        else:
            revision, path = rest[0], "/".join(rest[1:])
        commit = repo.revisions.get(revision, revision)
        files = repo.commits.get(commit)
        if files is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if api:
            listing = _tree(files) if verb == "tree" else _info(f"{org}/{name}", commit, files)
            return 200, {"Content-Type": "application/json"}, json.dumps(listing).encode()
        if path not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        etag = sha256(files[path]).hexdigest() if path.endswith(LARGE) else sha1(files[path]).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, files[path]


def _info(name: str, commit: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    siblings = [
        {"rfilename": row["path"], "size": row["size"], "blobId": row["oid"]}
        | ({"lfs": {"sha256": row["lfs"]["oid"], "size": row["size"], "pointerSize": 134}} if "lfs" in row else {})
        for row in _tree(files)
    ]
    return {"_id": "0", "id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": [], "private": False}


def _tree(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path, content in files.items():
        row = {"type": "file", "path": path, "size": len(content), "oid": sha1(content).hexdigest()}
        if path.endswith(LARGE):
            row["lfs"] = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        rows.append(row)
    return rows
