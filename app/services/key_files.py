"""A private key in a file of its own, under a passphrase that people remember: what leaves this machine.

PKCS #8 under PBES2 with scrypt and AES-256-CBC (RFC 8018 §6.2, RFC 7914 §7), which ``openssl pkey`` reads. The crypto
library opens such files but writes only PBKDF2 in 2,048 rounds; so they are put together here.
"""

from __future__ import annotations

import base64
import os
from typing import Final

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.keys import PrivateKey

__all__ = ["sealed"]

# OWASP's figures for 16 MiB (Password Storage Cheat Sheet); OpenSSL opens nothing that takes more than 32 MiB.
_N: Final = 2**14
_R: Final = 8
_P: Final = 5
_PBES2: Final = "1.2.840.113549.1.5.13"
_SCRYPT: Final = "1.3.6.1.4.1.11591.4.11"
_AES_256_CBC: Final = "2.16.840.1.101.3.4.1.42"
_BLOCK_BITS: Final = 128


def sealed(private_key: PrivateKey, passphrase: str) -> bytes:
    """PEM of the encrypted key; another one each time. Takes about a tenth of a second."""
    salt, vector = os.urandom(16), os.urandom(16)
    key = Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase.encode())
    padder = padding.PKCS7(_BLOCK_BITS).padder()
    plain = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(vector)).encryptor()
    ciphertext = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    numbers = (der.integer(_N), der.integer(_R), der.integer(_P))
    derivation = der.sequence(der.object_identifier(_SCRYPT), der.sequence(der.octet_string(salt), *numbers))
    encryption = der.sequence(der.object_identifier(_AES_256_CBC), der.octet_string(vector))
    scheme = der.sequence(der.object_identifier(_PBES2), der.sequence(derivation, encryption))
    encoded = base64.b64encode(der.sequence(scheme, der.octet_string(ciphertext))).decode("ascii")
    lines = (encoded[at : at + 64] for at in range(0, len(encoded), 64))
    text = "\n".join(("-----BEGIN ENCRYPTED PRIVATE KEY-----", *lines, "-----END ENCRYPTED PRIVATE KEY-----", ""))
    return text.encode("ascii")
