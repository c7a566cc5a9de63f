import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pynn.data import cache_folder, fetch
from pynn.errors import DownloadError, PynnError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        body = {"/good": CONTENT, "/cut": CONTENT, "/other": b"other"}[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if self.path == "/cut" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("PYNN_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        http.asked = []
        http.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def files_in(folder):
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file())


def test_downloads_once(server, tmp_path):
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        path = fetch("name.gz", [f"{server.url}/good"], SHA256, folder=folder)
        assert path == folder / "name.gz"
        assert path.read_bytes() == CONTENT
    assert server.asked == ["/good"]
    assert files_in(tmp_path) == ["name.gz"]


def test_cached_file_with_other_content_is_downloaded_again(server, tmp_path):
    (tmp_path / "name").write_bytes(CONTENT[:-1])
    path = fetch("name", [f"{server.url}/good"], SHA256, folder=tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("first", ["/missing", "/cut", "/other", "refused", "file", "no url"])
def test_second_mirror(server, tmp_path, first):
    url = {
        "refused": "http://127.0.0.1:1/good",
        "file": (tmp_path / "none").as_uri(),
        "no url": "nonsense",
    }.get(first, server.url + first)
    path = fetch("name", [url, f"{server.url}/good"], SHA256, folder=tmp_path)
    assert path.read_bytes() == CONTENT
    assert files_in(tmp_path) == ["name"]


def test_file_urls(server, tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    path = fetch("name", [(tmp_path / "source").as_uri()], SHA256, folder=tmp_path)
    assert path.read_bytes() == CONTENT


def test_all_mirrors_fail(server, tmp_path):
    (tmp_path / "name").write_bytes(b"old")
    urls = [f"{server.url}{path}" for path in ("/missing", "/cut", "/other")]
    with pytest.raises(DownloadError) as caught:
        fetch("name", urls, SHA256, folder=tmp_path)
    assert isinstance(caught.value, (PynnError, OSError))
    lines = str(caught.value).splitlines()
    assert lines[0] == "cannot download name:"
    for url, reason, line in zip(urls, ["404", "1000", "5 bytes"], lines[1:4], strict=True):
        assert url in line
        assert reason in line
    assert str(tmp_path / "name") in lines[4]
    assert SHA256 in lines[4]
    assert "--data FOLDER" in lines[4]
    assert files_in(tmp_path) == ["name"]
    assert (tmp_path / "name").read_bytes() == b"old"


def test_size_limit(server, tmp_path):
    with pytest.raises(DownloadError, match="more than the limit of 1000 bytes"):
        fetch("name", [f"{server.url}/good"], SHA256, folder=tmp_path, limit=1000)
    assert files_in(tmp_path) == []


def test_silent_server_times_out(tmp_path, monkeypatch):
    monkeypatch.delenv("PYNN_OFFLINE", raising=False)
    with HTTPServer(("127.0.0.1", 0), Handler) as silent:  # accepts and never answers
        url = f"http://127.0.0.1:{silent.server_port}/good"
        with pytest.raises(DownloadError, match="timed out"):
            fetch("name", [url], SHA256, folder=tmp_path, timeout=0.1)


def test_full_disk_is_not_blamed_on_the_mirror(server, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch("name", [f"{server.url}/good"], SHA256, folder=tmp_path)
    assert not isinstance(caught.value, DownloadError)
    assert files_in(tmp_path) == []


def test_offline(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PYNN_OFFLINE", "1")
    path = tmp_path / "name"
    with pytest.raises(DownloadError, match=r"is not there, and PYNN_OFFLINE") as caught:
        fetch("name", [f"{server.url}/good"], SHA256, folder=tmp_path)
    assert f"put the file at {path}" in str(caught.value)
    path.write_bytes(b"wrong")
    with pytest.raises(DownloadError, match="has the wrong SHA-256"):
        fetch("name", [f"{server.url}/good"], SHA256, folder=tmp_path)
    path.write_bytes(CONTENT)
    assert fetch("name", [f"{server.url}/good"], SHA256, folder=tmp_path) == path
    assert server.asked == []


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "/home/someone/.cache/pynn"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/pynn"),
        ("linux", {"PYNN_DATA": "/data", "XDG_CACHE_HOME": "/xdg"}, "/data"),
        ("linux", {"PYNN_DATA": "~/data"}, "/home/someone/data"),
        ("darwin", {"XDG_CACHE_HOME": "/xdg"}, "/home/someone/Library/Caches/pynn"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/pynn"),
        ("win32", {}, "/home/someone/AppData/Local/pynn"),
    ],
)
def test_cache_folder(monkeypatch, platform, environment, expected):
    for name in ("PYNN_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/someone", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_folder() == Path(expected)
