"""A store of bundles on a disk: each under its digest, names that point to them, and a signed log of who moved which.

registry/objects/<digest>/    the bundle
         aliases.json         {"champion": "<digest>", ...}, replaced in one step
         log.jsonl            a line for each event: signed, and holding the digest of the line before
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from physai.deploy.bundle import load_bundle
from physai.deploy.files import canonical_json, read_folder, sha256, strict_json
from physai.deploy.signature import SIGNATURE, Trust, envelope, open_envelope, utc_now
from physai.errors import BundleError

CANDIDATE, CHAMPION, ROLLBACK = "candidate", "champion", "rollback"
ALIASES = (CANDIDATE, CHAMPION, ROLLBACK)
EVENT_TYPE = "application/vnd.physai.event+json"
FIRST = "0" * 64  # stands for the line before the first


class Registry:
    """A local registry.

    Args:
        folder: where it is; made when the first bundle is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.objects = folder, folder / "objects"
        self._aliases, self._log = folder / "aliases.json", folder / "log.jsonl"

    def aliases(self) -> dict[str, str]:
        """Returns the digests of all aliases that are set.

        Raises:
            BundleError: if the file is damaged.
        """
        try:
            found = strict_json(self._aliases.read_bytes(), self._aliases.name)
            if not isinstance(found, dict) or not found.keys() <= set(ALIASES):
                raise ValueError("it holds something else than aliases")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as problem:
            raise BundleError(
                f"{self._aliases} is damaged ({problem}); the last lines of log.jsonl say what it held"
            ) from problem
        return {str(name): str(digest) for name, digest in found.items()}

    def find(self, name: str) -> Path:
        """Returns the folder of a bundle, by alias, digest or the first digits of one.

        Raises:
            BundleError: if there is none, or more than one begins so.
        """
        digest = self.aliases().get(name, name)
        stored = sorted(path.name for path in self.objects.iterdir()) if self.objects.is_dir() else []
        found = [one for one in stored if one.startswith(digest)] if len(digest) >= 6 else []
        if len(found) != 1:
            what = "no bundle" if not found else "more than one bundle"
            raise BundleError(f"{what} in {self.folder} is called {name!r}; `physai bundle list` shows what there is")
        return self.objects / found[0]

    def add(self, bundle: Path, key: Ed25519PrivateKey, trust: Trust | None = None) -> str:
        """Takes in a bundle that passes all checks, makes it the candidate, and returns its digest.

        Raises:
            BundleError: if it is refused, or cannot be stored.
        """
        digest = load_bundle(bundle, trust).digest
        with self._changing():
            if not (self.objects / digest).exists():
                self._store(bundle, digest)
            elif (bundle / SIGNATURE).exists():  # the digest does not cover it: the same bundle, signed anew
                self._replace(self.objects / digest / SIGNATURE, (bundle / SIGNATURE).read_bytes())
            self._point({CANDIDATE: digest}, "add", key)
        return digest

    def _store(self, bundle: Path, digest: str) -> None:
        self.objects.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=self.objects))
        try:
            for name, data in read_folder(bundle).items():
                (scratch / name).parent.mkdir(exist_ok=True)
                (scratch / name).write_bytes(data)
            if load_bundle(scratch).digest != digest:
                raise BundleError(f"{bundle} changed while it was copied; try again")
            scratch.chmod(0o755)
            scratch.rename(self.objects / digest)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def promote(self, name: str, key: Ed25519PrivateKey) -> str:
        """Makes a bundle the champion; the former is kept for a rollback. Returns the digest.

        Raises:
            BundleError: if there is no such bundle, or it is refused.
        """
        digest = load_bundle(self.find(name)).digest
        with self._changing():
            former = self.aliases().get(CHAMPION)
            self._point({CHAMPION: digest, **({ROLLBACK: former} if former else {})}, "promote", key)
        return digest

    def rollback(self, key: Ed25519PrivateKey) -> str:
        """Makes the former champion the champion again, and returns its digest.

        Raises:
            BundleError: if there is none.
        """
        with self._changing():
            aliases = self.aliases()
            if ROLLBACK not in aliases:
                raise BundleError(f"{self.folder} has no former champion to return to; promote one by its digest")
            self._point({CHAMPION: aliases[ROLLBACK], ROLLBACK: aliases[CHAMPION]}, "rollback", key)
        return aliases[ROLLBACK]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Holds the registry's lock, so that two who change it do so one after the other."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / ".lock", "w", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as problem:
            raise BundleError(
                f"registry {self.folder} cannot be changed ({problem.strerror}); check the disk"
            ) from problem

    def _replace(self, path: Path, data: bytes) -> None:
        """Writes a file in one step; for a moment it lies beside the bundles, never in one."""
        fresh = self.folder / f".{path.name}.{os.getpid()}"
        fresh.write_bytes(data)
        os.replace(fresh, path)

    def _point(self, changes: Mapping[str, str], event: str, key: Ed25519PrivateKey) -> None:
        """Writes the event first: a log that knows more than the aliases can be repaired, the reverse cannot."""
        lines = self._log.read_bytes().splitlines() if self._log.exists() else []
        said = {
            "event": event,
            "time": utc_now(),
            "aliases": dict(changes),
            "before": sha256(lines[-1]) if lines else FIRST,
        }
        line = json.dumps(envelope(canonical_json(said), EVENT_TYPE, key), sort_keys=True).encode()
        with open(self._log, "ab") as stream:
            stream.write(line + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._replace(self._aliases, canonical_json({**self.aliases(), **changes}))

    def events(self, keys: Mapping[str, Ed25519PublicKey] | None = None) -> list[dict[str, Any]]:
        """Returns the log, checked: each line follows from the one before, and a known key has signed it.

        Raises:
            BundleError: if a line was changed, taken out or added, or the aliases are not what the log says.
        """
        before, events, aliases = FIRST, [], {}
        lines = self._log.read_bytes().splitlines() if self._log.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                payload, signer = open_envelope(strict_json(line, "it"), EVENT_TYPE, keys)
                event = dict(strict_json(payload, "its event"))
                if event["before"] != before:
                    raise ValueError("it does not follow the line before")
                aliases.update(event["aliases"])
            except (ValueError, KeyError, TypeError) as problem:
                raise BundleError(f"line {number} of {self._log} is refused: {problem}; restore the log") from problem
            before = sha256(line)
            events.append({**event, "signer": signer})
        if aliases != self.aliases():
            raise BundleError(f"{self._aliases} is not what {self._log} says; write what its last lines say")
        return events
