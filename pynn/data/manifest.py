"""Manifests: the SHA-256 of each image of a folder, as `sha256sum` writes and checks them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pynn.data.image_folder import list_images
from pynn.data.images import ENDINGS
from pynn.errors import FormatError, some_of
from pynn.io.atomic import replacing
from pynn.io.digest import sha256_of

NAME = "SHA256SUMS"
_LIMIT = 64 * 1024**2
_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")
_ESCAPES = {"\\": r"\\", "\n": r"\n", "\r": r"\r"}  # in names of lines that begin with a backslash
_UNESCAPES = {escape: character for character, escape in _ESCAPES.items()}
_NAMED = 5  # so many images of each kind are named in an error


def image_sums(folder: str | os.PathLike[str]) -> dict[str, str]:
    """The SHA-256 of each image of a folder, by its name relative to the folder.

    Raises:
        What `list_images` raises.
    """
    root = Path(folder).expanduser()
    return {file: sha256_of(root / file) for _, found in list_images(root) for file in found}


def find_manifest(folder: str | os.PathLike[str]) -> Path | None:
    """SHA256SUMS in the folder, or else beside it; None where there is neither."""
    root = Path(folder).expanduser().resolve()
    return next((p / NAME for p in (root, root.parent) if (p / NAME).is_file()), None)


def write_manifest(
    folder: str | os.PathLike[str], path: str | os.PathLike[str] | None = None
) -> Path:
    """Write the manifest of a folder of images.

    Args:
        folder: with one subfolder of images for each class.
        path: of the manifest; SHA256SUMS in the folder by default.

    Returns:
        The path.

    Raises:
        OSError: it cannot be written.
    """
    target = Path(folder).expanduser() / NAME if path is None else Path(path).expanduser()
    prefix = _prefix(Path(folder).expanduser(), target)
    lines = [_line(digest, prefix + file) for file, digest in image_sums(folder).items()]
    with replacing(target) as out:
        out.write("".join(lines).encode(errors="surrogateescape"))
    return target


def check_manifest(
    folder: str | os.PathLike[str], path: str | os.PathLike[str] | None = None
) -> int:
    """Check that a folder has the images that a manifest names, each with its content, and no
    others.

    Args:
        folder: with one subfolder of images for each class.
        path: of the manifest; SHA256SUMS in the folder by default. Where it lies above the folder,
            names count from where it lies and those outside the folder are passed over; otherwise
            they count from the folder.

    Returns:
        The number of images.

    Raises:
        FormatError: naming images that have changed, are missing, or are in no manifest; or the
            line that is no line of a manifest.
        OSError: a file cannot be read.
    """
    root = Path(folder).expanduser()
    target = root / NAME if path is None else Path(path).expanduser()
    prefix = _prefix(root, target)
    listed = {
        name.removeprefix(prefix): digest
        for name, digest in read_manifest(target).items()
        if name.startswith(prefix)
    }
    found = image_sums(root)
    changed = [file for file in found if file in listed and found[file] != listed[file]]
    extra = [file for file in found if file not in listed]
    # A manifest may name files that are no images, such as a README.
    missing = [
        file for file in listed if file not in found and Path(file).suffix.lower() in ENDINGS
    ]
    problems = [
        f"{what}: {some_of(files, _NAMED)}"
        for what, files in (
            ("changed", changed), ("missing", missing), ("unknown", extra),
        )
        if files
    ]  # fmt: skip
    if problems:
        raise FormatError(f"{root} is not as {target} has it: {'; '.join(problems)}")
    return len(found)


def read_manifest(path: str | os.PathLike[str]) -> dict[str, str]:
    """The SHA-256 by name that a manifest lists: 64 hexadecimal digits, two spaces, a name. In a
    line that begins with a backslash, backslashes and ends of lines of the name are escaped.

    Raises:
        FormatError: a line is not so, or a name comes twice.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise FormatError(f"{os.fspath(path)}: a manifest of more than {_LIMIT} bytes")
    sums: dict[str, str] = {}
    lines = content.decode(errors="surrogateescape").removesuffix("\n").split("\n")
    for number, line in enumerate(lines if content else [], 1):
        match = _LINE.fullmatch(line.removesuffix("\r"))
        name = match and _name(match)
        if match is None or name is None or name in sums:
            raise FormatError(
                f"{os.fspath(path)}: line {number} "
                + ("names a file again" if name in sums else "is not a SHA-256 and a name")
                + f": {line[:100]!r}"
            )
        sums[name] = match[2]
    return sums


def _line(digest: str, name: str) -> str:
    escaped = "".join(_ESCAPES.get(character, character) for character in name)
    mark = "" if escaped == name else "\\"
    return f"{mark}{digest}  {escaped}\n"


def _name(match: re.Match[str]) -> str | None:
    """The name in a line; None where an escape is none."""
    if not match[1]:
        return match[3]
    parts = re.split(r"(\\.?)", match[3])
    if any(part not in _UNESCAPES for part in parts[1::2]):
        return None
    return "".join(_UNESCAPES.get(part, part) for part in parts)


def _prefix(folder: Path, manifest: Path) -> str:
    """What a manifest writes before names relative to the folder."""
    above = manifest.resolve().parent
    root = folder.resolve()
    if root == above or above not in root.parents:
        return ""
    return root.relative_to(above).as_posix() + "/"
