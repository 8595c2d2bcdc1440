"""Decoder keys: the worked values of both algorithms, and every key that must not be."""

import copy
import pickle
from collections.abc import Callable
from typing import Any, Final

import pytest

from sts.derivation import VendingKey, dkga02_block, dkga04_message
from sts.errors import Fault, StsError
from sts.meterkey import MeterKey

DES_KEY: Final = bytes.fromhex("abababababababab")
HMAC_KEY: Final = bytes.fromhex("abababababababab949494949494949401234567")


def handle(**changes: Any) -> MeterKey:
    """The meter of the STS 531 tests, changed here and there."""
    facts: dict[str, Any] = dict(
        drn="00000000000",
        iin="600727",
        supply_group="123456",
        key_type=2,
        tariff_index="01",
        key_revision=1,
        key_expiry=255,
        base_date=1993,
        ea=7,
        dkga=2,
    )
    return MeterKey(**{**facts, **changes})


THIRTEEN: Final = {"drn": "0100000000008", "iin": "0000"}

# fmt: off
# Worked values of STS 531-1-0-02 (DKGA02) and STS 531-1-0-04 (DKGA04).
WORKED: Final = [
    (DES_KEY,  handle(),                                             "e653341f9d5bf36f"),
    (DES_KEY,  handle(**THIRTEEN),                                   "e94023262e9993c2"),
    (HMAC_KEY, handle(supply_group="123457", dkga=4),                "aa4baa8749c10d27"),
    (HMAC_KEY, handle(supply_group="123457", dkga=4, ea=11),         "f94b6ed353c3bfdb113e2d3a7ea3c41d"),
]
# fmt: on


@pytest.mark.parametrize(("raw", "key", "wanted"), WORKED)
def test_worked_derivation_agrees(raw: bytes, key: MeterKey, wanted: str) -> None:
    derived = VendingKey(key.dkga, raw).derive(key)
    assert f"{derived.secret_value():0{derived.bits // 4}x}" == wanted


def test_dkga02_block_is_pan_block_xor_control_block() -> None:
    assert dkga02_block(handle()) == 0x2151356011FFFFFF
    assert dkga02_block(handle(**THIRTEEN)) == 0x2123556011FFFFF7


def test_dkga04_message_is_the_documented_49_bytes() -> None:
    message = dkga04_message(handle(supply_group="123457", dkga=4, ea=11))
    wanted = "04023034023933023131023031000406313233343537013201311236303037323730303030303030303030303900000080"
    assert message.hex() == wanted
    assert len(message) == 49
    assert dkga04_message(handle(supply_group="123457", dkga=4)).endswith(b"\x00\x00\x00\x40")


def test_common_key_leaves_the_meter_number_out() -> None:
    one, two = handle(key_type=3), handle(key_type=3, drn="76031372154")
    key = VendingKey(2, DES_KEY)
    assert key.derive(one).same_as(key.derive(two))
    assert not key.derive(handle()).same_as(key.derive(handle(drn="76031372154")))


def test_base_date_alone_changes_a_dkga04_key_but_no_dkga02_key() -> None:
    des, hmac = VendingKey(2, DES_KEY), VendingKey(4, HMAC_KEY)
    assert des.derive(handle()).same_as(des.derive(handle(base_date=2014)))
    assert not hmac.derive(handle(dkga=4)).same_as(hmac.derive(handle(dkga=4, base_date=2014)))


# fmt: off
REFUSED: Final[list[tuple[Callable[[], object], Fault]]] = [
    (lambda: VendingKey(2, HMAC_KEY),                                    Fault.KEY_LENGTH),
    (lambda: VendingKey(2, b""),                                         Fault.KEY_LENGTH),
    (lambda: VendingKey(4, DES_KEY),                                     Fault.KEY_LENGTH),
    (lambda: VendingKey(4, HMAC_KEY[:19]),                               Fault.KEY_LENGTH),
    (lambda: VendingKey(4, HMAC_KEY + bytes(12)),                        Fault.KEY_LENGTH),
    (lambda: VendingKey(2, DES_KEY[:7] + b"\xaa"),                       Fault.KEY_PARITY),
    (lambda: VendingKey(2, b"\xaa" + DES_KEY[1:]),                       Fault.KEY_PARITY),
    (lambda: VendingKey(1, DES_KEY),                                     Fault.UNSUPPORTED),
    (lambda: VendingKey(3, DES_KEY * 2),                                 Fault.UNSUPPORTED),
    (lambda: VendingKey(2, DES_KEY).derive(handle(dkga=4)),              Fault.KEY_MISMATCH),
    (lambda: VendingKey(4, HMAC_KEY).derive(handle()),                   Fault.KEY_MISMATCH),
    (lambda: VendingKey(2, DES_KEY).derive(handle(key_type=0)),          Fault.KEY_TYPE),
    (lambda: VendingKey(4, HMAC_KEY).derive(handle(key_type=3, dkga=4)), Fault.UNSETTLED),
]
# fmt: on


@pytest.mark.parametrize(("make", "fault"), REFUSED)
def test_key_that_must_not_be_is_refused_by_name(make: Callable[[], object], fault: Fault) -> None:
    with pytest.raises(StsError) as refusal:
        make()
    assert refusal.value.fault is fault


def test_check_value_tells_keys_apart() -> None:
    assert VendingKey(2, DES_KEY).kcv == VendingKey(2, DES_KEY).kcv
    assert VendingKey(2, DES_KEY).kcv != VendingKey(2, bytes.fromhex("94" * 8)).kcv
    assert VendingKey(4, HMAC_KEY).kcv != VendingKey(4, HMAC_KEY[::-1]).kcv
    # The check value of a DES key is the usual one: zeros enciphered. NBS Special Publication 500-20 has, for the key
    # of all ones in odd parity, 8CA64DE9C1B123A7.
    assert VendingKey(2, bytes.fromhex("0101010101010101")).kcv == "8ca64d"


def test_vending_key_shows_nothing_and_cannot_be_copied_out() -> None:
    for key in (VendingKey(2, DES_KEY), VendingKey(4, HMAC_KEY)):
        assert "abab" not in repr(key) + str(key)
        assert not hasattr(key, "__dict__")
        for copy_out in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                copy_out(key)
