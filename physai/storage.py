"""A place for files: a folder of this machine or an object store, addressed like a path.

Whatever is written is there whole or not at all. A local file is written under another name, flushed to the disk and
renamed. An object store has no rename, but shows an object only when it is complete: there, a folder counts once its
seal is in it, the file that is written last and removed first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit, urlunsplit

from physai.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from pyarrow import fs

PARTIAL, REPLACED = ".partial-", ".replaced-"  # begin with a dot: no glob finds them

# What AWS's library calls it, and what a person makes of it.
SAID = {
    "NETWORK_CONNECTION": "it does not answer",
    "ACCESS_DENIED": "access is denied; are its credentials in the environment (AWS_ACCESS_KEY_ID and so on)?",
    "INVALID_ACCESS_KEY_ID": "it does not know the access key in the environment (AWS_ACCESS_KEY_ID)",
    "INVALID_SIGNATURE": "it refuses the secret key in the environment (AWS_SECRET_ACCESS_KEY)",
    "NO_SUCH_BUCKET": "there is no such bucket; make it first",
    "SLOW_DOWN": "it is overloaded",
    "SERVICE_UNAVAILABLE": "it is not available now",
    "REQUEST_TIMEOUT": "it is too slow",
}


class Storage:
    """A folder or file in an object store; it reads like a `pathlib.Path`. `Disk` is the same on a local disk.

    To look at one that does not answer raises StorageError; reading and writing raise OSError, as they do on a disk.

    Args:
        filesystem: of pyarrow.
        path: in it, such as ``bucket/runs``.
        uri: where `path` came from; None on a local disk.
    """

    def __init__(self, filesystem: fs.FileSystem, path: str, uri: SplitResult | None = None) -> None:
        self.filesystem, self.path, self._uri = filesystem, path.rstrip("/"), uri

    @classmethod
    def at(cls, location: str | Path | Storage) -> Storage:
        """Opens a place: a local path, or any URI that `pyarrow.fs.FileSystem.from_uri` takes.

        Raises:
            ConfigError: if it is no such URI.
            StorageError: if it cannot be reached.
        """
        from pyarrow import ArrowException, fs

        if isinstance(location, Storage):
            return location
        if "://" not in str(location):
            return Disk(fs.LocalFileSystem(), str(Path(location).absolute()))
        uri = urlsplit(str(location))
        try:
            filesystem, path = fs.FileSystem.from_uri(str(location))
        except (ArrowException, ValueError) as error:
            first = str(error).splitlines()[0]
            raise ConfigError(f"storage {location} is no place that files can be kept in: {first}") from error
        except OSError as error:
            raise StorageError(f"storage {location} cannot be opened: {reason(error)}") from error
        if isinstance(filesystem, fs.LocalFileSystem):
            return Disk(filesystem, path)
        return cls(filesystem, path, uri)

    def __str__(self) -> str:
        return urlunsplit(self._uri) if self._uri is not None else self.path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> Storage:
        uri = self._uri
        return type(self)(
            self.filesystem, f"{self.path}/{name}", uri and uri._replace(path=f"{uri.path.rstrip('/')}/{name}")
        )

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Storage:
        """The folder in which it lies."""
        uri, above = self._uri, self.path.rpartition("/")[0]
        return type(self)(self.filesystem, above, uri and uri._replace(path=uri.path.rstrip("/").rpartition("/")[0]))

    @property
    def suffix(self) -> str:
        """What the name ends in, such as ``.zip``."""
        return Path(self.name).suffix

    # ---- reading ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self} cannot be looked at: {reason(error)}") from error

    def _kind(self) -> str:
        with self._reached():
            return str(self.filesystem.get_file_info(self.path).type.name)

    def exists(self) -> bool:
        """Whether there is something."""
        return self._kind() != "NotFound"

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self._kind() == "File"

    def is_dir(self) -> bool:
        """Whether it is a folder; in an object store it is one while something is in it."""
        return self._kind() == "Directory"

    def stat(self) -> SimpleNamespace:
        """Returns when the file was written, as ``st_mtime`` [s]."""
        with self._reached():
            return SimpleNamespace(st_mtime=self.filesystem.get_file_info(self.path).mtime.timestamp())

    def _inside(self, *, deep: bool = False) -> list[str]:
        """Paths of what is in the folder, below it; none if there is no such folder."""
        from pyarrow import fs

        with self._reached():
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=deep, allow_not_found=True))
        return [info.path.removeprefix(self.path).strip("/") for info in found]

    def iterdir(self) -> Iterator[Storage]:
        """Yields what is in the folder; nothing if there is none."""
        yield from (self / name for name in self._inside())

    def glob(self, pattern: str) -> Iterator[Storage]:
        """Yields what matches a pattern such as ``*/*.yaml``."""
        for path in self._inside(deep=True):
            if path.count("/") == pattern.count("/") and PurePosixPath(path).match(pattern):
                yield self / path

    def read_bytes(self) -> bytes:
        """Returns the contents of a file.

        Raises:
            OSError: if it cannot be read; FileNotFoundError if it is not there.
        """
        with self.filesystem.open_input_stream(self.path) as file:
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        """Returns the contents of a text file."""
        return self.read_bytes().decode(encoding)

    def sealed(self, seal: str) -> list[str]:
        """Names of the folders in this one that are whole: those with the file `seal` in them."""
        return [path.parent.name for path in self.glob(f"*/{seal}")]

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Writes a file, whole or not at all.

        Raises:
            OSError: if it cannot be written; one that was there before is untouched.
        """
        with self.filesystem.open_output_stream(self.path) as file:
            file.write(data)

    def write_folder(self, files: Mapping[str, bytes], seal: str) -> None:
        """Writes a folder in place of what was there, `seal` last.

        Raises:
            OSError: if it cannot be written; then it does not count.
        """
        self.remove(seal)
        for name in sorted(files, key=lambda name: name == seal):
            (self / name).write(files[name])

    def remove(self, seal: str) -> None:
        """Removes a folder, `seal` first; one that is not there is no failure."""
        if (self / seal).exists():
            self.filesystem.delete_file((self / seal).path)
        if self.is_dir():
            self.filesystem.delete_dir(self.path)

    def unlink(self) -> None:
        """Removes a file."""
        self.filesystem.delete_file(self.path)

    def tidy(self, seal: str, spare: str) -> None:
        """Clears away what a killed process left half done in this folder, but for the folder `spare`."""
        whole = {*self.sealed(seal), spare}
        for child in list(self.iterdir()):
            if child.name not in whole and child.is_dir():
                child.remove(seal)


class Disk(Storage):
    """A folder or file of this machine, or of a file server that is mounted here."""

    def sealed(self, seal: str) -> list[str]:
        """Names of the folders in this one that are whole."""
        folder = Path(self.path)
        return [path.name for path in folder.iterdir() if (path / seal).is_file()] if folder.is_dir() else []

    def write(self, data: bytes) -> None:
        """Writes a file, whole or not at all."""
        path = Path(self.path)
        partial = path.with_name(f".{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_durably(partial, data)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)  # half a file would keep a full disk full
            raise

    def write_folder(self, files: Mapping[str, bytes], seal: str) -> None:
        """Writes a folder under another name and renames it; one that was there is replaced, never half."""
        target, above = Path(self.path), Path(self.path).parent
        partial = above / f"{PARTIAL}{target.name}-{os.getpid()}"
        replaced = above / f"{REPLACED}{target.name}-{os.getpid()}"
        try:
            partial.mkdir(parents=True)
            for name, data in files.items():
                _write_durably(partial / name, data)
            _flush_folder(partial)
            if target.exists():
                target.rename(replaced)
            partial.rename(target)
            _flush_folder(above)
        except OSError:
            if replaced.exists() and not target.exists():
                replaced.rename(target)
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(replaced, ignore_errors=True)

    def remove(self, seal: str) -> None:
        """Removes a folder; one that is not there is no failure."""
        shutil.rmtree(self.path, ignore_errors=True)

    def tidy(self, seal: str, spare: str) -> None:
        """Clears away what a killed process left half done in this folder."""
        folder = Path(self.path)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name.startswith(REPLACED) and path.is_dir():
                target = folder / path.name.removeprefix(REPLACED).partition("-")[0]
                if not target.exists():  # killed between the two renames: the old one is still the checkpoint
                    path.rename(target)
            if path.name.startswith((PARTIAL, REPLACED)):
                shutil.rmtree(path, ignore_errors=True)


def place(location: str | Path | Storage) -> Path | Storage:
    """Returns something to read from: a `pathlib.Path` on this machine, else a `Storage`, which reads like one."""
    if not isinstance(location, Storage):
        if "://" not in str(location):
            return Path(location)
        location = Storage.at(location)
    return Path(location.path) if isinstance(location, Disk) else location


def reason(error: OSError) -> str:
    """Says in words why something could not be written or read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left on the disk; free some, or choose another place with storage="
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there; choose another place with storage="
    text = str(error).partition("\n")[0]
    return next((words for word, words in SAID.items() if f"AWS Error {word}" in text), error.strerror or text)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot; the rename is still atomic
            os.fsync(handle)
    finally:
        os.close(handle)
