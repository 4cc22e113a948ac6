"""A small hub on the loopback: what the Hugging Face client needs to create, upload, commit and download.

The protocol is huggingface_hub's towards a server without xet storage: ``/api/repos/create``, preupload, the git-lfs
batch interface, NDJSON commits, and ``resolve`` with ``X-Repo-Commit``, ``X-Linked-Etag``, ranges and a redirect
to where large files lie. It also serves plain files, whose transfer can be made to fail as real transfers do.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_loopback"  # writes need it


@dataclass
class Plain:
    """A file at a plain address.

    Attributes:
        data: its bytes.
        etag: the version that the server names, or None for a server that names none.
        ranges: whether the server serves a part on demand.
        faults: what goes wrong, one entry a request, from the first on: ``"cut"`` (closes half way), ``"flip"`` (one
            byte differs), ``"stall"`` (half, then silence), ``"404"``, ``"503"``, ``"page"`` (a web page instead).
        pause: seconds between pieces, to have time for a kill.
    """

    data: bytes
    etag: str | None = '"v1"'
    ranges: bool = True
    faults: list[str] = field(default_factory=list)
    pause: float = 0.0


@dataclass
class Repo:
    """A repository: its commits from the first on, each a mapping of file name to content."""

    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    large: set[str] = field(default_factory=set)


class HubServer:
    """The server's contents and its diary.

    Attributes:
        url: its address, for ``HF_ENDPOINT`` and ``ZOO_MIRROR``.
        plain: files by path, such as ``"/video-nonlocal/x.pkl"``.
        repos: repositories by ``org/name``.
        requests: every request so far as ``(method, path, Range header or "")``.
    """

    def __init__(self) -> None:
        self.plain: dict[str, Plain] = {}
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.store = f"http://localhost:{self._server.server_port}/store"  # another host's name, as a hub's storage has

    def gets(self, path: str) -> list[str]:
        """The Range headers of the GET requests for ``path``, in order."""
        return [requested for method, at, requested in self.requests if method == "GET" and at == path]

    @contextlib.contextmanager
    def running(self) -> Iterator[HubServer]:
        """Serves while the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        with self.hub.lock:
            self.hub.requests.append((self.command, path, self.headers.get("Range", "")))
        if path in self.hub.plain:
            return self._plain(self.hub.plain[path])
        writes = self.command in ("POST", "PUT") and not path.startswith("/store/")  # signed addresses need no token
        if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json(401, {"error": "Invalid credentials"})
        for pattern, answer in self._routes():
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                with self.hub.lock:
                    return answer(body, *match.groups())
        return self._json(404, {"error": "not found"})

    do_GET = do_HEAD = do_POST = do_PUT = _route

    def _routes(self):
        repo = "([^/]+/[^/]+)"
        return [
            (r"POST /api/repos/create", self._create),
            (r"POST /api/validate-yaml", lambda body: self._json(200, {"errors": [], "warnings": []})),
            (rf"POST /api/models/{repo}/preupload/([^/]+)", self._preupload),
            (rf"POST /{repo}\.git/info/lfs/objects/batch", self._batch),
            (r"PUT /store/(\w+)", self._put),
            (rf"POST /api/models/{repo}/commit/([^/]+)", self._commit),
            (rf"GET /api/models/{repo}(?:/revision/([^/]+))?", self._info),
            (rf"(?:GET|HEAD) /{repo}/resolve/([^/]+)/(.+)", self._resolve),
            (r"(?:GET|HEAD) /store/(\w+)", self._get),
        ]

    # --- Writing: create, say which files are large, upload those, commit all.

    def _create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repos:
            return self._json(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        self.hub.repos[name] = Repo([(hashlib.sha1(name.encode()).hexdigest(), {})])
        return self._json(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def _preupload(self, body: bytes, repo: str, revision: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        self._json(200, {"files": files})

    def _batch(self, body: bytes, repo: str) -> None:
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.hub.store}/{wanted['oid']}"}}}
            for wanted in json.loads(body)["objects"]
        ]
        self._json(200, {"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._json(400, {"error": "not the announced content"})
        self.hub.blobs[oid] = body
        return self._json(200, {})

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        repo = self.hub.repos[name]
        files = dict(repo.commits[-1][1])
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                files[entry["value"]["path"]] = self.hub.blobs[entry["value"]["oid"]]
                repo.large.add(entry["value"]["path"])
        commit = hashlib.sha1(repo.commits[-1][0].encode() + body).hexdigest()
        repo.commits.append((commit, files))
        self._json(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})

    # --- Reading.

    def _info(self, body: bytes, name: str, revision: str | None) -> None:
        if name not in self.hub.repos:
            return self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        commit, files = self.hub.repos[name].commits[-1]
        return self._json(200, {"id": name, "sha": commit, "siblings": [{"rfilename": f} for f in files]})

    def _resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if name not in self.hub.repos:
            return self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        repo = self.hub.repos[name]
        found = [c for c in repo.commits if c[0] == revision] or (repo.commits[-1:] if revision == "main" else [])
        if not found:
            return self._json(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        commit, files = found[0]
        if path not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            return self._json(404, {"error": "Entry not found"}, headers)
        data = files[path]
        if path not in repo.large:
            etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            return self._bytes(data, f'"{etag}"', {"X-Repo-Commit": commit})
        oid = hashlib.sha256(data).hexdigest()
        self.hub.blobs.setdefault(oid, data)
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": commit}
        return self._json(302, {}, {"Location": f"{self.hub.store}/{oid}", **linked})

    def _get(self, body: bytes, oid: str) -> None:
        self._bytes(self.hub.blobs[oid], f'"{oid}"', {})

    def _plain(self, file: Plain) -> None:
        with self.hub.lock:
            fault = file.faults.pop(0) if file.faults else ""
        if fault.isdigit():
            return self._json(int(fault), {"error": "fault"})
        if fault == "page":
            return self._bytes(b"<!DOCTYPE html><title>Log in</title>", None, {})
        data = file.data
        if fault == "flip":
            data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
        return self._bytes(data, file.etag, {}, ranges=file.ranges, fault=fault, pause=file.pause)

    # --- Answers.

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _bytes(
        self,
        data: bytes,
        etag: str | None,
        headers: dict[str, str],
        ranges: bool = True,
        fault: str = "",
        pause: float = 0.0,
    ) -> None:
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if ranges else None
        if start and self.headers.get("If-Range", etag) != etag:
            start = None
        offset = int(start[1]) if start else 0
        if start and offset >= len(data):
            return self._json(416, {}, {"Content-Range": f"bytes */{len(data)}"})
        body = data[offset:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {offset}-{len(data) - 1}/{len(data)}")
        if etag:
            self.send_header("ETag", etag)
        for key, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if fault in ("cut", "stall"):
            body = body[: len(body) // 2]
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(body), 65536):
                self.wfile.write(body[at : at + 65536])
                time.sleep(pause)
            if fault == "stall":
                time.sleep(2)
        self.close_connection = self.close_connection or fault in ("cut", "stall")
        return None

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body
