"""PKCS#12 and PKCS#7 opened: the certificates and the key in them, as if they stood in a file of their own."""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dicomtls_cli.errors import InputError
from dicomtls_cli.material import Prompt
from dicomtls_cli.pki.contents import MAX_PASSPHRASE, Contents, Item, Kind, Store, read_contents
from dicomtls_cli.pki.der import greatest_iterations
from dicomtls_cli.pki.files import word
from dicomtls_cli.pki.issuer import issued_by

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12KeyAndCertificates

    from dicomtls_cli.pki.generate import PrivateKey

Password: TypeAlias = Callable[[], bytes] | None
"""Where the password of a store comes from; None: nobody gave one."""

USUAL_PASSWORDS = (b"", b"secret")
"""What a store is tried with when no password is given: the Orthanc book's, and dcm4che's default."""

_SHROUDED_KEY_BAG = bytes.fromhex("060b2a864886f70d010c0a0102")  # RFC 7292 4.2.2
_RC2_40 = bytes.fromhex("060a2a864886f70d010c0106")  # pbeWithSHAAnd40BitRC2-CBC, RFC 7292 C
_RC2_128 = bytes.fromhex("060a2a864886f70d010c0105")
_CHAIN_LIMIT = 16  # certificates
_MOST_ITERATIONS = 10_000_000  # some seconds; programs of today write 2,000 to 1,000,000


def read_opened(path: Path, what: str, password: Password = None) -> Contents:
    """Read the file `path` as `read_contents` does, and open it if it is PKCS#12 or PKCS#7.

    `password` is called at most once, and only for PKCS#12: a `Prompt` after `USUAL_PASSWORDS`, any other
    instead of them. Raises `InputError` for what cannot be read or opened.
    """
    return opened(read_contents(path, what), password)


def opened(contents: Contents, password: Password = None) -> Contents:
    """Return `contents`, with every PKCS#12 or PKCS#7 in them replaced by what it holds; see `read_opened`.

    Of a store with a private key its own certificate comes first, then the chain that belongs to it, then
    the rest. Never `openssl_ready` if something was replaced.
    """
    if not any(item.kind in (Kind.PKCS12, Kind.PKCS7) for item in contents.items):
        return contents
    if contents.main_kind is Kind.PKCS12:  # DER, and so the only one
        return _opened_store(contents.items[0].der, contents.path, password)
    items: list[Item] = []
    for item in contents.items:
        items += _pkcs7_items(item, contents.path) if item.kind is Kind.PKCS7 else [item]
    return Contents(contents.path, tuple(items) or (Item(Kind.EMPTY),))


def _opened_store(data: bytes, path: Path, password: Password) -> Contents:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    store = _open(data, path, password)
    others = [one.certificate for one in store.additional_certs]
    chain = [] if store.cert is None else _chain(store.cert.certificate, others)
    rest = [one for one in others if one not in chain]
    items = [Item(Kind.CERTIFICATE, der=one.public_bytes(Encoding.DER)) for one in (*chain, *rest)]
    if store.key is not None:
        # In this process's memory only: whoever writes it anywhere encrypts it first.
        plain = store.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        items.append(Item(Kind.PRIVATE_KEY, der=plain))
    keys = max(data.count(_SHROUDED_KEY_BAG), store.key is not None)
    return Contents(path, tuple(items) or (Item(Kind.EMPTY),), store=Store(keys, len(chain)))


def _chain(own: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
    """Return `own` and those of `others` that lead up from it, in the order TLS sends them."""
    chain = [own]
    while len(chain) < _CHAIN_LIMIT:
        issuer = next((one for one in others if one not in chain and issued_by(chain[-1], one)), None)
        if issuer is None:
            break
        chain.append(issuer)
    return chain


def _open(data: bytes, path: Path, password: Password) -> PKCS12KeyAndCertificates:
    check_iterations(data, path)
    for candidate in _candidates(path, password):
        found = _load(data, path, candidate)
        if found is None and not candidate:
            found = _load(data, path, None)  # an empty password is written in two ways, RFC 7292 B.1
        if found is not None:
            return found
    raise _locked(data, path, password)


def check_iterations(data: bytes, path: Path) -> None:
    """Raise `InputError` where it would take minutes to open what is encrypted in `data` (DER, of `path`)."""
    if (iterations := greatest_iterations(data)) > _MOST_ITERATIONS:
        raise InputError(
            f"`{path}` asks for {iterations} iterations to open it, more than {_MOST_ITERATIONS}",
            "it is damaged, or made to keep a program busy: get the file again from its owner",
            slug="store.iterations",
        )


def _candidates(path: Path, password: Password) -> Iterator[bytes]:
    if password is None or isinstance(password, Prompt):
        yield from USUAL_PASSWORDS
    if password is not None:
        given = password()
        if len(given) > MAX_PASSPHRASE:
            raise InputError(
                f"the password of `{path}` is longer than {MAX_PASSPHRASE} bytes",
                "check that the password file is the one you mean",
                slug="key.passphrase-too-long",
            )
        yield given


def _load(data: bytes, path: Path, password: bytes | None) -> PKCS12KeyAndCertificates | None:
    """Return what is in the store; None where it does not open under `password`."""
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import pkcs12

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about old certificates is for TLS to judge
            return pkcs12.load_pkcs12(data, password)
    except UnsupportedAlgorithm as error:
        raise _unsupported(path, str(error)) from None
    except (ValueError, TypeError, InternalError) as error:
        if "assword" in str(error):
            return None
        raise InputError(
            f"`{path}` looks like PKCS#12 and is damaged",
            f"see what `openssl pkcs12 -info -noout -in {word(path)}` says, and get the file again",
            slug="store.damaged",
        ) from None


def _locked(data: bytes, path: Path, password: Password) -> InputError:
    if (_RC2_40 in data or _RC2_128 in data) and not _has_rc2():
        return _unsupported(path, "RC2, which this OpenSSL does not have")
    if password is None:
        return InputError(
            f"`{path}` has a password, and none was given (empty and `secret` were tried)",
            "put the password into a file of mode 0600: `--key-passphrase-file` for our own key, "
            "`--trust-passphrase-file` for trusted certificates, `--passphrase-file` for other commands",
            slug="store.locked",
        )
    return InputError(
        f"the password does not open `{path}`, or the file is damaged",
        f"try it with `openssl pkcs12 -info -noout -in {word(path)}`; a password file has it on its first line",
        slug="store.wrong-password",
    )


def _unsupported(path: Path, how: str) -> InputError:
    return InputError(
        f"`{path}` is encrypted in a way that cannot be read here: {how}",
        f"write it anew: `openssl pkcs12 -legacy -in {word(path)} -out PAIR.pem`, then "
        "`openssl pkcs12 -export -in PAIR.pem -out NEW.p12`",
        slug="store.unsupported",
    )


def _has_rc2() -> bool:
    """Tell whether OpenSSL's legacy provider is at hand: what older programs export is RC2."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    try:
        from cryptography.hazmat.decrepit.ciphers.algorithms import RC2

        Cipher(RC2(bytes(16)), modes.CBC(bytes(8))).encryptor()
    except (ImportError, UnsupportedAlgorithm):
        return False
    return True


def _pkcs7_items(item: Item, path: Path) -> list[Item]:
    """Return the certificates of a PKCS#7 (RFC 2315 9.1) `item`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    try:
        data = item.der or base64.b64decode(b"".join(item.pem.splitlines()[1:-1]), validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pkcs7.load_der_pkcs7_certificates(data)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error):
        raise InputError(
            f"`{path}` is PKCS#7 without certificates that can be read",
            f"see what is in it: `openssl pkcs7 -print_certs -in {word(path)}`",
            slug="store.pkcs7",
        ) from None
    return [Item(Kind.CERTIFICATE, der=one.public_bytes(Encoding.DER)) for one in found]


def key_store(name: str, key: PrivateKey, chain: Sequence[bytes], password: bytes) -> bytes:
    """Return a PKCS#12 key store under `password` (1 byte or more) that Java, OpenSSL and Windows 10 read.

    `chain` are certificates (DER), the key's first. Java finds nothing in a store with an empty password.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import pkcs12

    own, *others = [x509.load_der_x509_certificate(der) for der in chain]
    return pkcs12.serialize_key_and_certificates(
        name.encode(), key, own, others or None, _encryption(password)
    )


def trust_store(certificates: Sequence[bytes], password: bytes) -> bytes:
    """Return a PKCS#12 trust store with `certificates` (DER) that Java reads; an empty `password` is no encryption.

    No two are equal: the salt of the MAC (RFC 7292 4), which `cryptography` draws, is random.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12

    entries = []
    for number, der in enumerate(certificates, 1):
        alias = f"trusted-{number}".encode()  # each its own: Java keeps one entry an alias
        entries.append(pkcs12.PKCS12Certificate(x509.load_der_x509_certificate(der), alias))
    encryption = _encryption(password) if password else serialization.NoEncryption()
    return pkcs12.serialize_java_truststore(entries, encryption)


def _encryption(password: bytes) -> KeySerializationEncryption:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(50_000)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password)
    )
