"""Signatures of manifests: Ed25519, as `openssl pkeyutl` makes and checks them, too."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ctg_assets.errors import CtgAssetsError, ExitCode


class SigningKeyError(CtgAssetsError, ValueError):
    """A key cannot be used; the message names the file and says how to make one."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The key by which releases are signed; raises SigningKeyError."""
    how = f"make one with `openssl genpkey -algorithm ed25519 -out {path.name}`"
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        message = f"the key {path} cannot be read: {error.strerror}; {how}"
        raise SigningKeyError(message) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        message = f"{path} is no private key in PEM that can be used without a password; {how}"
        raise SigningKeyError(message) from error
    if not isinstance(key, Ed25519PrivateKey):
        message = f"the key {path} is no Ed25519 key; {how}"
        raise SigningKeyError(message)
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The key by which signatures are checked; raises SigningKeyError."""
    try:
        return public_key_of(path.read_bytes())
    except OSError as error:
        message = f"the key {path} cannot be read: {error.strerror}"
        raise SigningKeyError(message) from error
    except ValueError as error:
        message = (
            f"{path} is no public Ed25519 key in PEM; `openssl pkey -in KEY -pubout` tells that of a "
            "private key"
        )
        raise SigningKeyError(message) from error


def public_key_of(pem: bytes) -> Ed25519PublicKey:
    """The key that a text has; raises ValueError when it has none."""
    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        message = "no Ed25519 key"
        raise ValueError(message)  # noqa: TRY004 - a text of the wrong content, as any other
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key as text."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def is_signed_by(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    """Whether a signature is of this content, by the private key that belongs to this one."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
