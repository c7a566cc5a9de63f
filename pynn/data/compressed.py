"""Files that may be gzip-compressed."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from pynn.errors import FormatError

Source = str | os.PathLike[str] | BinaryIO
Readable = BinaryIO | gzip.GzipFile


@contextmanager
def opened(source: Source) -> Iterator[tuple[str, Readable]]:
    """Open a file, unpacked where its first bytes are those of gzip.

    Args:
        source: a path, or a seekable binary file, which is read from its position on.

    Yields:
        Its name, for messages, and what to read from.

    Raises:
        FormatError: the compressed data is corrupt.
        OSError: the file cannot be read.
    """
    with ExitStack() as stack:
        if isinstance(source, (str, os.PathLike)):
            name = os.fspath(source)
            file: BinaryIO = stack.enter_context(open(source, "rb"))
        else:
            name = str(getattr(source, "name", "<file>"))
            file = source
        start = file.tell()
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(start)
        if not compressed:
            yield name, file
            return
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield name, unpacked
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise FormatError(f"{name}: corrupt gzip data ({error})") from error
