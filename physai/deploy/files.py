"""Files under a digest: a manifest names each file with its SHA-256 and size, and nothing else lies beside it."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANIFEST = "manifest.json"
LARGEST_JSON = 16_000_000  # bytes: the manifest of 100,000 observations is smaller
LARGEST_ARRAYS = 256_000_000  # bytes of arrays in a file, unpacked
LARGEST_FOLDER = 1_000_000_000  # bytes of a bundle
DEEPEST_JSON = 64  # levels of lists and objects: the manifest has 6


def sha256(data: bytes) -> str:
    """Returns the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(data: Any) -> bytes:
    """Returns JSON that is the same for equal data: sorted keys, no NaN or infinity, a newline at the end.

    Raises:
        ValueError: if a number is not finite.
    """
    return json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def strict_json(raw: bytes, name: str) -> Any:
    """Reads JSON as the standard has it: no NaN, no key twice, and neither huge nor endlessly nested.

    Raises:
        ValueError: if it is anything else; begins with `name`.
    """
    if len(raw) > LARGEST_JSON:
        raise ValueError(f"{name} has {len(raw)} bytes; {LARGEST_JSON} are allowed")
    try:
        data = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
        _check_depth(data)
    except RecursionError as problem:
        raise ValueError(f"{name} is nested too deeply") from problem
    except ValueError as problem:
        raise ValueError(f"{name} is cut off or not JSON ({problem})") from problem
    return data


def _check_depth(data: Any) -> None:
    level, depth = [data], 0
    while level:
        if depth > DEEPEST_JSON:
            raise RecursionError
        parts = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        level, depth = [value for part in parts for value in part], depth + 1


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    if value - value != 0.0:
        raise ValueError(f"{digits} is too large for a number")
    return value


def describe(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Returns the ``files`` table of a manifest: SHA-256 and size [bytes] by name."""
    return {name: {"sha256": sha256(data), "size": len(data)} for name, data in files.items()}


def read_described(folder: Path, table: Any) -> dict[str, bytes]:
    """Reads the files of one folder that a manifest lists, as they were when the digest was checked.

    Args:
        folder: where they lie, on this machine or in an object store; other files there are left alone.
        table: the ``files`` entry of the manifest.

    Raises:
        ValueError: if the table is malformed, or a file is missing or changed; says which.
        OSError: if a file cannot be read.
    """
    if not isinstance(table, Mapping) or not all(isinstance(entry, Mapping) for entry in table.values()):
        raise ValueError(f"{MANIFEST} has no table of files")
    missing = sorted(set(table) - {path.name for path in folder.iterdir()})  # so that no name leads out of the folder
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    contents = {}
    for name, entry in table.items():
        contents[name] = (folder / name).read_bytes()
        _check_digest(name, contents[name], entry)
    return contents


def read_folder(folder: Path) -> dict[str, bytes]:
    """Reads all files in a folder and the folders below, by name with slashes.

    Raises:
        ValueError: if there is something that is neither a file nor a folder, such as a link, or far too much.
        OSError: if a file cannot be read.
    """
    names = listing(folder)
    if sum((folder / name).stat().st_size for name in names) > LARGEST_FOLDER:
        raise ValueError(f"it holds more than {LARGEST_FOLDER} bytes")
    return {name: (folder / name).read_bytes() for name in sorted(names)}


def check_described(files: Mapping[str, bytes], table: Mapping[str, Mapping[str, Any]]) -> None:
    """Compares files with the table of a manifest, which must list every one of them.

    Raises:
        ValueError: if one is missing, changed or not listed; says which.
    """
    for name in sorted(files.keys() | table.keys()):
        if name not in files:
            raise ValueError(f"{name} is missing")
        if name not in table:
            raise ValueError(f"{name} is not listed in {MANIFEST}")
        _check_digest(name, files[name], table[name])


def listing(folder: Path) -> set[str]:
    """Returns the names of all files in a folder and the folders below.

    Raises:
        ValueError: if there is something that is neither a file nor a folder, such as a link.
    """
    names = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{name} is neither a file nor a folder")
        if path.is_file():
            names.add(name)
    return names


def _check_digest(name: str, data: bytes, entry: Mapping[str, Any]) -> None:
    if len(data) != entry.get("size") or sha256(data) != entry.get("sha256"):
        raise ValueError(f"{name} differs from its digest")


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Returns arrays as an .npz, the same bytes for the same arrays."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def read_arrays(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """Reads an .npz without trusting it: no pickle, and no array that is larger than its bytes.

    Raises:
        ValueError: if it is damaged; begins with `name`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_ARRAYS:
                raise ValueError(f"it unpacks to more than {LARGEST_ARRAYS} bytes")
            return {entry.removesuffix(".npy"): _array(archive.read(entry)) for entry in archive.namelist()}
    except (
        ValueError, OSError, EOFError, KeyError, TypeError, IndexError, RuntimeError, SyntaxError, OverflowError,
        NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error,
    ) as problem:  # fmt: skip
        raise ValueError(f"{name} cannot be read ({problem})") from problem


def _array(data: bytes) -> NDArray[Any]:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"arrays of format {version} are not read")
    shape, fortran, kind = np.lib.format.read_array_header_1_0(stream)
    if kind.kind not in "fiub" or fortran or min(shape, default=0) < 0:
        raise ValueError(f"arrays of {kind} are not read")
    rest = data[stream.tell() :]
    count = 1
    for size in shape:
        count *= int(size)
    if count * kind.itemsize != len(rest):
        raise ValueError(f"an array of shape {shape} does not have {len(rest)} bytes")
    return np.frombuffer(rest, kind).reshape(shape)
