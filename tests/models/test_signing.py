"""Who vouches for a model version."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from holdtrue_models import UnsafeModel
from holdtrue_models.signing import Seal, Signer, check_seal
from msgspec.structs import replace

DIGEST = "ab" * 32


def test_seal_of_a_trusted_key_holds_and_survives_its_private_bytes() -> None:
    private = Ed25519PrivateKey.generate().private_bytes_raw()
    signer = Signer(private)
    check_seal(Signer(private).seal(DIGEST), DIGEST, {signer.key_id: signer.public})


def test_everything_else_is_refused() -> None:
    signer, stranger = Signer.generate(), Signer.generate()
    trusted = {signer.key_id: signer.public}
    seal = signer.seal(DIGEST)
    flipped = bytes([seal.signature[0] ^ 1]) + seal.signature[1:]
    forged = replace(stranger.seal(DIGEST), key_id=signer.key_id)
    bare = Ed25519PrivateKey.generate()
    elsewhere = Seal(DIGEST, Signer(bare.private_bytes_raw()).key_id, bare.sign(bytes.fromhex(DIGEST)))
    cases: list[tuple[Seal, str, dict[str, bytes], str]] = [
        (stranger.seal(DIGEST), DIGEST, trusted, "not a trusted key"),
        (seal, "cd" * 32, trusted, "another manifest"),
        (replace(seal, digest="cd" * 32), "cd" * 32, trusted, "not one of key"),
        (replace(seal, signature=flipped), DIGEST, trusted, "not one of key"),
        (forged, DIGEST, trusted, "not one of key"),
        (elsewhere, DIGEST, {elsewhere.key_id: bare.public_key().public_bytes_raw()}, "not one of key"),
    ]
    for bad, digest, keys, words in cases:
        with pytest.raises(UnsafeModel, match=words):
            check_seal(bad, digest, keys)


@pytest.mark.parametrize("digest", ["", "xy", "ab" * 31])
def test_only_digests_are_signed(digest: str) -> None:
    with pytest.raises(UnsafeModel, match="is not a"):
        Signer.generate().seal(digest)
