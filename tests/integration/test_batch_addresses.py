"""Runs over images at an address: pyarrow's own client of S3, against a server of this test."""

from __future__ import annotations

import http.server
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import COUNT, batch, rows_of, scores_of, stopping_after

from trtnet.errors import UsageError

pytestmark = pytest.mark.usefixtures("pyarrow")


@pytest.fixture
def where() -> Iterator[str]:
    """The server, as the query of an address names it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=none"
    server.shutdown()
    server.server_close()


class Bucket(http.server.SimpleHTTPRequestHandler):
    """As much of S3 as listing and reading takes: ``/photos/KEY`` are the files in ``in``."""

    def do_GET(self) -> None:
        """A listing, or an object."""
        place = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(place.query)
        if "list-type" in query:
            self._list(query.get("prefix", [""])[0])
        else:
            self._send(place.path)

    def do_HEAD(self) -> None:
        """About an object."""
        self._send(urllib.parse.urlsplit(self.path).path)

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _list(self, prefix: str) -> None:
        keys = [p for p in sorted(Path("in").rglob("*")) if p.is_file()]
        entries = "".join(
            f"<Contents><Key>{key.relative_to('in').as_posix()}</Key><Size>{key.stat().st_size}"
            "</Size><LastModified>2026-11-30T00:00:00.000Z</LastModified></Contents>"
            for key in keys
            if key.relative_to("in").as_posix().startswith(prefix)
        )
        self._answer(
            200,
            f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode(),
        )

    def _send(self, path: str) -> None:
        file = Path("in") / urllib.parse.unquote(path).removeprefix("/photos").lstrip("/")
        if not file.is_file() or file.name == "00005.png":  # one that was listed, and is gone
            self._answer(404, b"")
            return
        content = file.read_bytes()
        asked = self.headers.get("Range")
        if asked and self.command == "GET":
            start, _, end = asked.removeprefix("bytes=").partition("-")
            self._answer(206, content[int(start) : int(end) + 1], len(content))
        else:
            self._answer(200, content)

    def _answer(self, status: int, body: bytes, whole: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml")
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        if whole is not None:
            self.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{whole}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def test_images_of_a_bucket(
    folder: np.ndarray, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    result = batch(f"s3://photos?{where}", task="outputs")
    rows = rows_of(result.results)
    assert [row["path"] for row in rows] == [f"s3://photos/{i:05d}.png" for i in range(COUNT)]
    assert [row["path"] for row in rows if row["error"]] == ["s3://photos/00005.png"]
    got = np.array([row["scores"] for row in rows if not row["error"]], np.float32)
    kept = np.delete(folder, 5, 0)
    np.testing.assert_allclose(got, scores_of(Path("m.engine"), kept), atol=1e-6)


def test_keys_in_an_address_are_neither_shown_nor_written(folder: np.ndarray, where: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        batch(f"s3://KEY:SECRET@photos?{where}", runner=stopping_after(1))
    said = ""
    for bad in (f"s3://KEY:SECRET@photos/none?{where}", "s3://KEY:SECRET@", "no://KEY:SECRET@b"):
        with pytest.raises(UsageError) as caught:
            batch(bad, results="bad.parquet")
        said += str(caught.value)
    assert "s3://photos/none" in said
    assert "SECRET" not in said
    files = [path for path in Path("out.parquet.parts").iterdir() if path.is_file()]
    assert len(files) == 2
    assert not [path for path in files if b"SECRET" in path.read_bytes()]
