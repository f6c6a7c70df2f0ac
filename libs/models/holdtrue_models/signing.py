"""Signatures of manifests: who vouches for a model version. Needs the extra `sign`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from holdtrue_models.errors import UnsafeModel

if TYPE_CHECKING:
    from collections.abc import Mapping

_PURPOSE = b"holdtrue model manifest v1\0"
"""Signed with every digest, so that no signature made for another purpose counts here."""
_DIGEST_BYTES = 32


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signature: the manifest's sha256, the signer's key id, both hexadecimal, and the Ed25519 signature."""

    digest: str
    key_id: str
    signature: bytes


class Signer:
    """Signs with one private key."""

    def __init__(self, private: bytes) -> None:
        """Take the 32 bytes of an Ed25519 private key."""
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()
        """The 32 bytes of the public key."""
        self.key_id = key_id(self.public)
        """How the key is named."""

    @classmethod
    def generate(cls) -> Self:
        """Return a signer with a new key."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def seal(self, digest: str) -> Seal:
        """Sign the digest of a manifest."""
        return Seal(digest, self.key_id, self._key.sign(_message(digest)))


def key_id(public: bytes) -> str:
    """Return the name of a public key: the begin of its sha256, hexadecimal."""
    return hashlib.sha256(public).hexdigest()[:16]


def check_seal(seal: Seal, digest: str, trusted: Mapping[str, bytes]) -> None:
    """Raise UnsafeModel unless a trusted key has signed this digest; `trusted` are public keys by their id."""
    public = trusted.get(seal.key_id)
    if public is None:
        raise UnsafeModel(f"the model is signed by {seal.key_id}, which is not a trusted key")
    if seal.digest != digest:
        raise UnsafeModel(f"the signature is of another manifest: {seal.digest}, not {digest}")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(seal.signature, _message(digest))
    except InvalidSignature as error:
        raise UnsafeModel(f"the signature of manifest {digest} is not one of key {seal.key_id}") from error


def _message(digest: str) -> bytes:
    try:
        raw = bytes.fromhex(digest)
    except ValueError as error:
        raise UnsafeModel(f"{digest!r} is not a digest in hexadecimal") from error
    if len(raw) != _DIGEST_BYTES:
        raise UnsafeModel(f"{digest!r} is not a sha256 digest")
    return _PURPOSE + raw
