"""The certificates that the identity rules are about, each made once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.pki import Identity, make_identity
from tests.tls.wire import HOST

_SERVER, _CLIENT = (ExtendedKeyUsageOID.SERVER_AUTH,), (ExtendedKeyUsageOID.CLIENT_AUTH,)


@dataclass(frozen=True)
class Zoo:
    """`zoo["child"]`: certificates by name."""

    animals: dict[str, Identity]

    def __getitem__(self, name: str) -> Identity:
        return self.animals[name]

    def all(self, names: str) -> tuple[Identity, ...]:
        return tuple(self.animals[name] for name in names.split())


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    folder = tmp_path_factory.mktemp("zoo")
    animals: dict[str, Identity] = {}

    def add(name: str, *, issuer: str = "", host: str = HOST, **options: object) -> None:
        arguments: dict[str, object] = {
            "subject": "peer", "hosts": (host,) if host else (), "addresses": (),
            "issuer": animals[issuer] if issuer else None, **options,
        }  # fmt: skip
        animals[name] = make_identity(folder, name, **arguments)  # type: ignore[arg-type]

    for name in ("own", "self", "twin", "stranger"):  # all of one subject
        add(name)
    add("self_elsewhere", host="elsewhere.test")
    add("self_expired", valid=(-20, -1))
    add("self_future", valid=(1, 20))
    add("self_server", usages=_SERVER)
    add("self_client", usages=_CLIENT)

    add("ca", subject="ca", host="", ca=True)
    add("leaf", issuer="ca")
    add("leaf_twin", issuer="ca")
    add("leaf_elsewhere", issuer="ca", host="elsewhere.test")
    add("leaf_localhost", issuer="ca", host="localhost")
    add("leaf_address", issuer="ca", host="", addresses=("127.0.0.1", "::1"))
    add("leaf_wildcard", issuer="ca", host="*.wild.test")
    add("leaf_idn", issuer="ca", host="xn--bcher-kva.test")
    add("leaf_common_name", issuer="ca", host="", subject=HOST)
    add("leaf_common_address", issuer="ca", host="", subject="127.0.0.1")
    add("leaf_expired", issuer="ca", valid=(-20, -1))
    add("leaf_future", issuer="ca", valid=(1, 20))
    add("leaf_server", issuer="ca", usages=_SERVER)
    add("leaf_client", issuer="ca", usages=_CLIENT)

    add("intermediate", issuer="ca", subject="intermediate", host="", ca=True)
    add("deep", issuer="intermediate")

    # As `openssl req -x509` makes them: CA:TRUE, no keyUsage, no extended key usage.
    add("openssl", subject="openssl", ca=True, key_usage=False)
    add("child", issuer="openssl")
    add("child_elsewhere", issuer="openssl", host="elsewhere.test")
    add("rogue", issuer="openssl", subject="rogue", host="", ca=True)  # says keyCertSign of itself
    add("grandchild", issuer="rogue")
    return Zoo(animals)
