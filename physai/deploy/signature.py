"""Signatures of bundles: a DSSE envelope around an in-toto statement, signed with Ed25519.

The statement names every file of the bundle with its digest, and who approved it for how long. DSSE signs the bytes
that are read afterwards, so nothing has to be canonical. Sources: DSSE v1.0 (secure-systems-lab), in-toto Statement v1.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from physai.deploy.files import canonical_json, sha256, strict_json
from physai.errors import BundleError

SIGNATURE = "SIGNATURE.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "physai-approval/1"


@dataclass(frozen=True)
class Approval:
    """What somebody signed: that these files may run, until `expires` (ISO 8601, UTC; None: for ever)."""

    by: str
    signed: str
    expires: str | None = None

    def expired(self, now: datetime) -> bool:
        """Whether it holds no longer."""
        return self.expires is not None and now >= _time(self.expires)


@dataclass(frozen=True)
class Trust:
    """The keys that a controller believes, by id, and the time at which it looks."""

    keys: Mapping[str, Ed25519PublicKey]
    now: datetime | None = None

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Trust:
        """Reads public keys from files.

        Raises:
            BundleError: if one cannot be read.
        """
        keys = [read_public_key(path) for path in paths]
        return cls({key_id(key): key for key in keys})


def key_id(key: Ed25519PublicKey) -> str:
    """Returns the name of a key: the first 16 digits of the SHA-256 of its 32 bytes."""
    return sha256(key.public_bytes_raw())[:16]


def write_keys(path: Path) -> tuple[Path, str]:
    """Makes a key pair: `path` holds the private key, which only its owner may read, ``path.pub`` the public one.

    Returns:
        The file of the public key, and its id.

    Raises:
        BundleError: if one of the files exists or cannot be written.
    """
    key, public = Ed25519PrivateKey.generate(), path.with_name(path.name + ".pub")
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, data, mode in ((path, secret, 0o600), (public, shown, 0o644)):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(data)
    except OSError as problem:
        raise BundleError(f"key {problem.filename} cannot be written ({problem.strerror}); name another") from problem
    return public, key_id(key.public_key())


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Reads a private key.

    Raises:
        BundleError: if there is none in the file, or others can read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise BundleError(f"others can read the private key {path}; `chmod 600 {path}`, or make a new one")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise BundleError(f"{path} holds no private key ({problem}); `physai bundle keygen` makes one") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path} holds no Ed25519 key; `physai bundle keygen` makes one")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Reads a public key.

    Raises:
        BundleError: if there is none in the file.
    """
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as problem:
        raise BundleError(f"{path} holds no public key ({problem}); give the file that ends in .pub") from problem
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{path} holds no Ed25519 key; give the .pub file that `physai bundle keygen` wrote")
    return key


def envelope(payload: bytes, payload_type: str, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Returns the DSSE envelope of a payload."""
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {
                "keyid": key_id(key.public_key()),
                "sig": base64.b64encode(key.sign(_pre_authentication(payload_type, payload))).decode(),
            }
        ],
    }


def open_envelope(data: Any, payload_type: str, keys: Mapping[str, Ed25519PublicKey] | None) -> tuple[bytes, str]:
    """Returns the payload, and the id of the key that signed it.

    Args:
        data: the envelope.
        payload_type: what has to be in it.
        keys: those that are believed; None asks for no key, and then the signature proves nothing.

    Raises:
        ValueError: if the envelope is malformed, or no believed key signed it.
    """
    try:
        if data["payloadType"] != payload_type:
            raise ValueError(f"it signs {data['payloadType']!r} and not {payload_type!r}")
        payload = base64.b64decode(data["payload"], validate=True)
        signatures = [(str(s["keyid"]), base64.b64decode(s["sig"], validate=True)) for s in data["signatures"]]
        first = signatures[0][0]
    except (KeyError, TypeError, IndexError, binascii.Error) as problem:
        raise ValueError(f"it is no DSSE envelope ({problem!r})") from problem
    if keys is None:
        return payload, first
    for name, signature in signatures:
        if name not in keys:
            continue
        try:
            keys[name].verify(signature, _pre_authentication(payload_type, payload))
        except InvalidSignature as problem:
            raise ValueError(f"its signature by the key {name} is wrong") from problem
        return payload, name
    raise ValueError(f"it is signed by the key {first}, which is not among those to trust ({', '.join(sorted(keys))})")


def _pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: what is really signed, so that a payload of one type cannot pass for another."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign_files(files: Mapping[str, bytes], approval: Approval, key: Ed25519PrivateKey) -> bytes:
    """Returns ``SIGNATURE.json`` for the files of a bundle, its manifest among them."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256(files[name])}} for name in sorted(files)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"by": approval.by, "signed": approval.signed, "expires": approval.expires},
    }
    return canonical_json(envelope(canonical_json(statement), PAYLOAD_TYPE, key))


def check_signature(raw: bytes, digests: Mapping[str, str], trust: Trust | None) -> tuple[Approval, str]:
    """Checks ``SIGNATURE.json`` against the digests of all files.

    Args:
        raw: its contents.
        digests: SHA-256 by name of every file of the bundle but the signature itself.
        trust: whom to believe; None checks no more than that the statement is about these files.

    Returns:
        The approval, and the id of the key.

    Raises:
        ValueError: if it is malformed, by nobody who is trusted, about other files, or expired.
    """
    try:
        payload, signer = open_envelope(
            strict_json(raw, SIGNATURE), PAYLOAD_TYPE, None if trust is None else trust.keys
        )
    except ValueError as problem:
        raise ValueError(f"{SIGNATURE} is refused: {problem}") from problem
    try:
        statement = strict_json(payload, "its statement")
        if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
            raise ValueError("its statement is of another kind")
        said = {str(entry["name"]): str(entry["digest"]["sha256"]) for entry in statement["subject"]}
        predicate = statement["predicate"]
        expires = predicate["expires"]
        approval = Approval(str(predicate["by"]), str(predicate["signed"]), None if expires is None else str(expires))
        late = approval.expired((trust.now if trust else None) or datetime.now(timezone.utc))
    except (ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"{SIGNATURE} holds no approval ({problem})") from problem
    for name in sorted(said.keys() | digests.keys()):
        if name not in digests:
            raise ValueError(f"{name} was signed and is missing")
        if name not in said:
            raise ValueError(f"{name} was not there when {SIGNATURE} was made")
        if said[name] != digests[name]:
            raise ValueError(f"{name} is not as it was when {SIGNATURE} was made")
    if late and trust is not None:
        raise ValueError(f"the approval by {approval.by!r} expired {approval.expires}")
    return approval, signer


def utc_now() -> str:
    """Returns the time as ISO 8601 with seconds, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _time(text: str) -> datetime:
    when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return when if when.tzinfo is not None else when.replace(tzinfo=timezone.utc)
