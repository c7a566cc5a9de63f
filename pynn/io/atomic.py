"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside path, which takes path's place when the block ends well.

    The content is synced to disk before the rename and the folder after it, so that path always
    holds its old content or the new one, also after a crash. If the block raises, the temporary
    file is removed and path stays as it was. A process that is killed may leave it behind, called
    `.pynn-*.tmp`.

    Raises:
        OSError: if the folder cannot be written, the disk is full, or path is not a regular file.
    """
    target = Path(path).resolve()  # a symbolic link keeps pointing to the file that is replaced
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {target}: it is not a regular file")
    temporary = target.with_name(f".pynn-{secrets.token_hex(8)}.tmp")
    try:
        # Not tempfile: its files are private, while a saved file has the permissions of the umask.
        file = open(temporary, "xb")  # noqa: SIM115
    except OSError as error:
        reason = f"cannot write in folder {target.parent}: {error.strerror}"
        raise OSError(error.errno, reason, str(target)) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders
        return
    # Some network file systems refuse, and the file itself is synced and in its place by now.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
