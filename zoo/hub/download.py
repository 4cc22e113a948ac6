"""One file from one URL: streamed beside its place, checked while it still has another name, renamed when whole.

A download that is cut off or killed leaves a ``.part`` file if the server names the version of what it serves (a strong
ETag, kept in the part's name); the next attempt then asks for the rest only. Otherwise the next attempt starts over.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from zoo._version import __version__
from zoo.errors import FetchError
from zoo.files import writing

TIMEOUT = 30.0  # seconds without a byte after which a connection counts as dead
ATTEMPTS = 3
PAUSE = 1.0  # seconds before the second attempt, twice that before the third
_PIECE = 1 << 20
_log = logging.getLogger(__name__)


def download(url: str, path: Path, check: Callable[[Path, str], None], size: int | None = None) -> str:
    """Brings the file at an http(s) ``url`` to ``path`` and returns its SHA-256, computed while it streams.

    Args:
        check: is shown the whole file and its hash before the file gets its name, and raises to refuse it.
        size: bytes that the file must have, if known.

    Raises:
        FetchError: no answer, no such file, cut off again and again, no place to write; and whatever `check` raises.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            part, digest = _attempt(url, path, size)
            break
        except _Retry as error:
            if attempt == ATTEMPTS:
                kept = ", which goes on where it stopped" if _find_part(path) else ""
                raise FetchError(f"{url}: {error} ({ATTEMPTS} attempts). Try again later{kept}.") from error
            _log.warning("%s: %s; trying again", url, error)
            time.sleep(PAUSE * attempt)
    try:
        check(part, digest)
        with writing(path):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return digest


class _Retry(Exception):
    """Something that may go better the next time."""


def _attempt(url: str, path: Path, size: int | None) -> tuple[Path, str]:
    """The whole ``.part`` file and its hash after one request."""
    old = _find_part(path)
    offset = old.stat().st_size if old else 0
    headers = {"User-Agent": f"videozoo/{__version__}", "Accept-Encoding": "identity"}
    if old:
        etag = unquote(old.name.removeprefix(f"{path.name}.").removesuffix(".part"))
        headers |= {"Range": f"bytes={offset}-", "If-Range": etag}
    with _request(url, headers, old) as response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            offset = 0  # the whole file comes: another version than before, or a server without ranges
        etag = response.headers.get("ETag", "")
        resumable = etag.startswith('"') and len(etag) < 100
        part = path.with_name(f"{path.name}.{quote(etag, safe='')}.part" if resumable else f"{path.name}.part")
        if old and old != part:
            old.unlink()
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length else size
        if size and total != size:
            part.unlink(missing_ok=True)
            raise FetchError(f"{url}: the server's file has {total} bytes, the published one {size}; it was replaced.")
        try:
            digest = _receive(response, part, offset, total)
        except FetchError:  # no place to write: make room again
            part.unlink(missing_ok=True)
            raise
        except _Retry:
            if not resumable:
                part.unlink(missing_ok=True)
            raise
    return part, digest


def _receive(response: http.client.HTTPResponse, part: Path, offset: int, total: int | None) -> str:
    """Appends the body to ``part`` from ``offset`` on and returns the hash of the whole."""
    from huggingface_hub.utils import tqdm  # its bar can be switched off by HF_HUB_DISABLE_PROGRESS_BARS

    digest = hashlib.sha256()
    bar = tqdm(total=total, initial=offset, unit="B", unit_scale=True, desc=part.name.split(".")[0], disable=None)
    with bar, writing(part), open(part, "r+b" if offset else "w+b") as file:
        for piece in iter(lambda: file.read(min(_PIECE, offset - file.tell())), b""):
            digest.update(piece)
        for piece in _pieces(response):
            file.write(piece)
            digest.update(piece)
            bar.update(len(piece))
        received = file.tell()
    if total is not None and received != total:
        raise _Retry(f"cut off after {received} of {total} bytes")
    return digest.hexdigest()


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            piece = response.read1(_PIECE)  # what has arrived, so that a later silence loses nothing
        except (OSError, http.client.HTTPException) as error:
            raise _Retry(f"the connection broke ({error!r})") from error
        if not piece:
            return
        yield piece


def _request(url: str, headers: dict[str, str], old: Path | None) -> http.client.HTTPResponse:
    try:
        return _http_only().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        problem = f"the server answers {error.code} {error.reason}"
        if old and error.code == 416:  # there is no rest of what is here already
            old.unlink()
            raise _Retry(problem) from error
        if error.code in (408, 429) or error.code >= 500:
            raise _Retry(problem) from error
        raise FetchError(f"{url}: {problem}. The file was moved or taken down, or needs permission.") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Retry(f"no connection ({getattr(error, 'reason', error)})") from error


def _find_part(path: Path) -> Path | None:
    """What an earlier attempt left of ``path`` and can be gone on with."""
    start = f"{path.name}.%22"  # the quotation mark that opens an ETag
    return next((p for p in path.parent.iterdir() if p.name.startswith(start) and p.name.endswith(".part")), None)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted address to an open one."""

    def redirect_request(self, request, file, code, message, headers, url):
        if urlsplit(request.full_url).scheme == "https" and urlsplit(url).scheme != "https":
            raise FetchError(f"{request.full_url} redirects to {url}, which is not encrypted; refused.")
        return super().redirect_request(request, file, code, message, headers, url)


def _http_only() -> urllib.request.OpenerDirector:
    """urllib without its handlers of file:, ftp: and data: addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
