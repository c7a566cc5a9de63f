"""A cache of downloaded files, each known by its SHA-256."""

import hashlib
import os
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from pynn.errors import DownloadError
from pynn.io.atomic import replacing
from pynn.io.digest import sha256_of

DEFAULT_LIMIT = 256 * 1024**2
_CHUNK = 1024**2


def cache_folder() -> Path:
    """Return the folder of downloaded data: $PYNN_DATA, or pynn's folder in the user's cache."""
    if chosen := os.environ.get("PYNN_DATA"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pynn"


def fetch(
    file_name: str,
    urls: Sequence[str],
    sha256: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = 30.0,
) -> Path:
    """Return the path of a file in the cache, downloaded if it is not there with the right content.

    Args:
        file_name: its name in the folder.
        urls: where it can be had; tried in order.
        sha256: of the content, in hexadecimal digits.
        folder: where it is kept; default `cache_folder()`.
        limit: the largest download to accept, in bytes.
        timeout: seconds without an answer after which a server is given up.

    Raises:
        DownloadError: no url gave the file, or PYNN_OFFLINE is set and the file is not there.
        OSError: the folder cannot be written.
    """
    path = (cache_folder() if folder is None else Path(folder)) / file_name
    if path.is_file() and sha256_of(path) == sha256:
        return path
    instead = (
        f"put the file at {path} (SHA-256 {sha256}), "
        "or name a folder that has the data: --data FOLDER"
    )
    if os.environ.get("PYNN_OFFLINE", "0") not in {"", "0"}:
        found = "has the wrong SHA-256" if path.is_file() else "is not there"
        raise DownloadError(f"{path} {found}, and PYNN_OFFLINE forbids to download it; {instead}")
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in urls:
        try:
            with replacing(path) as file:
                _download(url, file, sha256, limit, timeout)
        except DownloadError as error:
            reasons.append(f"  {url}: {error}")
        else:
            return path
    lines = [f"cannot download {file_name}:", *reasons, f"Instead, {instead}"]
    raise DownloadError("\n".join(lines))


def _download(url: str, file: BinaryIO, sha256: str, limit: int, timeout: float) -> None:
    """Write the content of url to file; DownloadError for whatever is wrong with it."""
    digest = hashlib.sha256()
    size = 0
    for chunk in _chunks(url, timeout):
        size += len(chunk)
        if size > limit:
            raise DownloadError(f"more than the limit of {limit} bytes")
        digest.update(chunk)
        file.write(chunk)
    if digest.hexdigest() != sha256:
        raise DownloadError(f"wrong content: {size} bytes of SHA-256 {digest.hexdigest()}")


def _chunks(url: str, timeout: float) -> Iterator[bytes]:
    # A generator, so that only the network's errors are caught here and not those of the disk.
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "pynn"})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            while chunk := response.read(_CHUNK):
                yield chunk
    except (OSError, HTTPException, ValueError) as error:
        raise DownloadError(f"{type(error).__name__}: {error}") from error
