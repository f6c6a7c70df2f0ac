"""Keys of persons: one secret each, which makes the pseudonym and encrypts what is personal.

Destroying the secret makes all of it unreadable wherever it lies, in backups, too. Secrets rest encrypted by a master
key that comes from a file.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata
from typing import TYPE_CHECKING, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NONCE = 12
_SECRET = 32


class Undecipherable(Exception):
    """The ciphertext was not made with this key for this place, or has been changed."""


class SubjectKey:
    """What is personal of one subject."""

    def __init__(self, secret: bytes, pseudonym: str) -> None:
        """Take what is known of a subject whose pseudonym has been made before."""
        self._cipher = AESGCMSIV(_mac(secret, b"cipher"))
        self.pseudonym = pseudonym

    @classmethod
    def of(cls, secret: bytes, identifier: str) -> Self:
        """Make the pseudonym from the identifier, which is not kept."""
        return cls(secret, _mac(secret, b"pseudonym", normal(identifier).encode()).hex())

    def seal(self, value: bytes, place: bytes) -> bytes:
        """Encrypt; `place` says what it is, so that one ciphertext cannot stand for another."""
        return _seal(self._cipher, value, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Decrypt; raises Undecipherable."""
        return _open(self._cipher, sealed, place)


class MasterKey:
    """Protects the subjects' secrets at rest and finds them by an index that does not give identifiers away."""

    def __init__(self, secret: bytes) -> None:
        """Take at least 32 random bytes; raises ValueError for fewer."""
        if len(secret) < _SECRET:
            raise ValueError(f"a master key has at least {_SECRET} random bytes, got {len(secret)}")
        self._cipher = AESGCMSIV(_mac(secret, b"wrap"))
        self._pepper = _mac(secret, b"pepper")

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the key, whose bytes are the file's; raises ValueError, OSError."""
        return cls(path.read_bytes())

    def blind_index(self, tenant: str, identifier: str) -> bytes:
        """Find a subject without its identifier being stored."""
        return _mac(self._pepper, tenant.encode(), normal(identifier).encode())

    def wrap(self, secret: bytes, index: bytes) -> bytes:
        """Encrypt what belongs to a subject, found at `index`."""
        return _seal(self._cipher, secret, index)

    def unwrap(self, wrapped: bytes, index: bytes) -> bytes:
        """Decrypt it; raises Undecipherable."""
        return _open(self._cipher, wrapped, index)


class SubjectKeys(Protocol):
    """Where the secrets of subjects are kept."""

    async def of(self, tenant: str, identifiers: Iterable[str]) -> dict[str, SubjectKey]:
        """Return the key of each identifier, made where there is none yet."""
        ...

    async def by_pseudonym(self, tenant: str, pseudonyms: Iterable[str]) -> dict[str, SubjectKey]:
        """Return the keys that have not been destroyed, by pseudonym."""
        ...


def new_secret() -> bytes:
    """Make a subject's secret."""
    return os.urandom(_SECRET)


def normal(identifier: str) -> str:
    """One form of an identifier for all ways to write its letters; surrounding space does not count, case does."""
    return unicodedata.normalize("NFC", identifier.strip())


def _mac(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 of parts whose borders count."""
    total = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        total.update(len(part).to_bytes(8, "big") + part)
    return total.digest()


def _seal(cipher: AESGCMSIV, value: bytes, place: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, value, place)


def _open(cipher: AESGCMSIV, sealed: bytes, place: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], place)
    except (InvalidTag, ValueError) as error:
        raise Undecipherable("this is not a ciphertext of this key for this place") from error
