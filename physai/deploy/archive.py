"""A bundle as one file: a zip whose entries are plain names, read without trusting a word of it."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path

from physai.deploy.files import LARGEST_FOLDER, MANIFEST, read_folder
from physai.deploy.schema import schema
from physai.errors import BundleError

SUFFIX = ".zip"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first time that a zip knows: equal bundles are equal archives
MOST_FILES = 1000


def pack(folder: Path, archive: Path) -> Path:
    """Writes a bundle as a zip; equal bundles give equal bytes.

    Raises:
        BundleError: if there is no bundle, or the file exists or cannot be written.
    """
    try:
        files = read_folder(folder)
        if MANIFEST not in files:
            raise BundleError(f"{folder} is no bundle: there is no {MANIFEST} in it")
        with open(archive, "xb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in files.items():
                packed.writestr(zipfile.ZipInfo(name, LONG_AGO), data, zipfile.ZIP_DEFLATED)
    except (OSError, ValueError) as problem:
        raise BundleError(f"{archive} cannot be written ({problem}); name another file") from problem
    return archive


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks a bundle into a folder that does not exist yet, and nothing anywhere else.

    Raises:
        BundleError: if the folder exists, or the archive is damaged or holds a name that is no plain name.
    """
    if os.path.lexists(folder):
        raise BundleError(f"{folder} exists; name a folder that does not")
    try:
        files = _entries(archive.read_bytes())
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, data in files.items():
                (scratch / name).parent.mkdir(exist_ok=True)
                (scratch / name).write_bytes(data)
            scratch.chmod(0o755)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, ValueError) as problem:
        raise BundleError(f"archive {archive} is refused: {problem}; copy it anew") from problem
    return folder


def _entries(raw: bytes) -> dict[str, bytes]:
    """Reads all entries into memory.

    Raises:
        ValueError: if one is damaged, no plain file, or there is too much.
    """
    name_rule = schema("manifest")["properties"]["files"]["propertyNames"]
    files: dict[str, bytes] = {}
    left = LARGEST_FOLDER
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_FILES:
                raise ValueError(f"it holds {len(entries)} files; {MOST_FILES} are allowed")
            for entry in entries:
                name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
                if not re.fullmatch(name_rule["pattern"][1:-1], name) or len(name) > name_rule["maxLength"]:
                    raise ValueError(f"it holds {name[:60]!r}, which is no plain name")
                if name in files or kind not in (0, stat.S_IFREG):
                    raise ValueError(f"{name} is there twice, or is no plain file")
                with archive.open(entry) as stream:
                    files[name] = stream.read(left + 1)
                left -= len(files[name])
                if left < 0:
                    raise ValueError(f"it unpacks to more than {LARGEST_FOLDER} bytes")
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OverflowError) as problem:
        raise ValueError(f"it is no intact zip ({problem})") from problem
    if MANIFEST not in files:
        raise ValueError(f"there is no {MANIFEST} in it")
    folders = {name.partition("/")[0] for name in files if "/" in name}
    if clash := sorted(folders & files.keys()):
        raise ValueError(f"{clash[0]} is a file and a folder")
    return files
