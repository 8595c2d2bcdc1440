"""No key byte and no token in any repr, str, status or refusal of the package."""

from collections.abc import Callable
from typing import Final

import pytest

from sts.ciphers import DecoderKey
from sts.decode import digits_from
from sts.derivation import VendingKey
from sts.errors import StsError
from sts.meter import Meter
from sts.modules.contract import CreditRequest, KeyChangeRequest
from sts.modules.keystore import MasterKey, master_key_from, seal, unseal
from sts.modules.software import SoftwareModule
from sts.tokens import Credit, Resource
from tests.sts.keys import NOW, handle, raw_key, record

RAW_DES: Final = raw_key(2, "secret")
RAW_HMAC: Final = raw_key(4, "secret")
RAW_MASTER: Final = bytes(range(100, 132))
MODULE: Final = SoftwareModule([record(2), record(4), record(2, key_revision=2)])
KEY: Final = record(2).key.derive(handle())
TOKEN: Final = digits_from(Credit(Resource.ELECTRICITY, 6_000_002, 5, 256), KEY)


def _spellings(raw: bytes) -> set[str]:
    """A secret as it might slip out: hex, decimal, the repr of its bytes."""
    number = int.from_bytes(raw, "big")
    return {raw.hex(), f"{number}", f"{number:x}", repr(raw)[2:-1]}


SECRETS: Final = (
    _spellings(RAW_DES)
    | _spellings(RAW_HMAC)
    | _spellings(RAW_MASTER)
    | _spellings(KEY.secret_value().to_bytes(8, "big"))
    | _spellings(record(2).key.secret_bytes())
    | _spellings(record(4).key.secret_bytes())
    | {TOKEN, TOKEN[:16]}
)

OBJECTS: Final = [
    VendingKey(2, RAW_DES),
    VendingKey(4, RAW_HMAC),
    MasterKey(RAW_MASTER),
    KEY,
    record(2),
    [record(2), record(4)],
    MODULE,
    MODULE.status(),
    handle(),
    CreditRequest(handle(), 0, 6_000_002, 5, 256),
    KeyChangeRequest(handle(), handle(key_revision=2)),
    Meter(handle(), KEY),
]


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: type(thing).__name__)
def test_object_shows_no_secret(thing: object) -> None:
    shown = f"{thing!r} {thing!s} {thing}"
    assert not [secret for secret in SECRETS if secret in shown]


REFUSALS: Final[list[Callable[[], object]]] = [
    lambda: VendingKey(2, RAW_HMAC),
    lambda: VendingKey(4, RAW_DES),
    lambda: VendingKey(2, bytes([RAW_DES[0] ^ 1]) + RAW_DES[1:]),
    lambda: DecoderKey(7, int.from_bytes(RAW_HMAC, "big")),
    lambda: DecoderKey.from_bytes(7, RAW_HMAC),
    lambda: MasterKey(RAW_DES),
    lambda: master_key_from(RAW_DES.hex()),
    lambda: master_key_from(RAW_MASTER.hex()[:-1] + "x"),
    lambda: unseal(RAW_MASTER.hex(), MasterKey(RAW_MASTER)),
    lambda: unseal(seal([record(2)], MasterKey(RAW_MASTER), [bytes(12)]), MasterKey(RAW_MASTER[::-1])),
    lambda: MODULE.verify(TOKEN, handle(body="9876543210")),
    lambda: MODULE.verify(TOKEN + "1", handle()),
    lambda: MODULE.verify(TOKEN, handle(key_revision=9)),
    lambda: MODULE.make(CreditRequest(handle(key_expiry=0), 0, 6_000_002, 5, 256)),
    lambda: MODULE.make_set(KeyChangeRequest(handle(), handle(key_type=1)), now=NOW),
]


@pytest.mark.parametrize("refuse", REFUSALS)
def test_refusal_shows_no_secret_nor_does_anything_it_was_raised_from(refuse: Callable[[], object]) -> None:
    with pytest.raises(StsError) as refusal:
        refuse()
    error: BaseException | None = refusal.value
    while error is not None:
        shown = f"{error!r} {error!s} {error.args}"
        assert not [secret for secret in SECRETS if secret in shown]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
