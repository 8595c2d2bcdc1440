"""MACs, and the keys they are made with.

Covers: published examples of each algorithm and padding; which field and which bytes; a wrong MAC; key change under a
ZMK from install to the end of grace; check values; what a key module refuses; that keys are shown nowhere.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from Crypto.Cipher import DES3

from channels.iso8583 import shipped
from channels.iso8583.errors import Fault, KeyRefused, MacError
from channels.iso8583.keymodule import Generation, KeyModule, Use, WrappedKey
from channels.iso8583.mac import Algorithm, MacRules, authenticated, check, covered, mac_of, padded
from channels.iso8583.message import Message
from channels.iso8583.softwarekeys import (
    KeyRecord,
    Secret,
    SoftwareKeys,
    checked,
    combined,
    kcv_of,
    unwrapped,
    wrapped_key_of,
)
from tests.channels.iso8583.records import message

PACKAGER = shipped.shipped("atm87").packager
KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

SINGLE, DOUBLE, AES = "0123456789ABCDEF", "0123456789ABCDEFFEDCBA9876543210", "2B7E151628AED2A6ABF7158809CF4F3C"
STRING_1, STRING_2 = b"Now is the time for all ", b"Now is the time for it"
AES_KEY = bytes.fromhex(AES)
AES_DATA = bytes.fromhex(
    "6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E51"
    "30C81C46A35CE411E5FBC1191A0A52EFF69F2445DF4F9B17AD2B417BE66C3710"
)

# ISO/IEC 9797-1 annex B, algorithms 1 and 3 (as public libraries test against them), and RFC 4493 section 4.
PUBLISHED = [
    ("9797-1 algorithm 1", Algorithm.X99, SINGLE, STRING_1, 1, "70A30640CC76DD8B"),
    ("9797-1 algorithm 1", Algorithm.X99, SINGLE, STRING_2, 1, "E45B3AD2B7CC0856"),
    ("9797-1 algorithm 3", Algorithm.X919, DOUBLE, STRING_1, 1, "A1C72E74EA3FA9B6"),
    ("9797-1 algorithm 3", Algorithm.X919, DOUBLE, STRING_2, 1, "2E2B1428CC78254F"),
    ("9797-1 algorithm 3", Algorithm.X919, DOUBLE, STRING_1, 2, "E9086230CA3BE796"),
    ("9797-1 algorithm 3", Algorithm.X919, DOUBLE, STRING_2, 2, "5A692CE64F404145"),
    ("RFC 4493 example 1", Algorithm.AES_CMAC, AES, b"", 1, "BB1D6929E95937287FA37D129B756746"),
    ("RFC 4493 example 2", Algorithm.AES_CMAC, AES, AES_DATA[:16], 1, "070A16B46B4D4144F79BDD9DD04A287C"),
    ("RFC 4493 example 3", Algorithm.AES_CMAC, AES, AES_DATA[:40], 1, "DFA66747DE9AE63030CA32611497C827"),
    ("RFC 4493 example 4", Algorithm.AES_CMAC, AES, AES_DATA, 1, "51F0BEBF7E3B9D92FC49741779363CFE"),
]


@pytest.mark.parametrize(("source", "algorithm", "key", "data", "padding", "expected"), PUBLISHED)
def test_published_example(
    source: str, algorithm: Algorithm, key: str, data: bytes, padding: int, expected: str
) -> None:
    assert mac_of(algorithm, bytes.fromhex(key), data, padding).hex().upper() == expected, source


def test_tdes_cbc_is_the_last_block() -> None:
    key = bytes.fromhex("0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123")
    expected = DES3.new(key, DES3.MODE_CBC, iv=bytes(8)).encrypt(padded(b"abc", 2))[-8:]
    assert mac_of(Algorithm.TDES_CBC, key, b"abc", 2) == expected
    # Parts that cancel out are single DES; the library refuses them, a bank's test key may be one.
    single = bytes.fromhex("0123456789ABCDEF")
    assert mac_of(Algorithm.TDES_CBC, single * 2, b"abc", 1) == mac_of(Algorithm.X99, single, b"abc", 1)
    assert mac_of(Algorithm.TDES_CBC, KEY[8:] * 2 + single, b"abc", 1) == mac_of(Algorithm.X99, single, b"abc", 1)


@pytest.mark.parametrize(
    ("data", "padding", "expected"),
    [(b"", 1, "00" * 8), (b"", 2, "80" + "00" * 7), (b"1" * 8, 1, "31" * 8), (b"1" * 8, 2, "31" * 8 + "80" + "00" * 7)],
)
def test_padding(data: bytes, padding: int, expected: str) -> None:
    assert padded(data, padding).hex() == expected


def keys() -> SoftwareKeys:
    return SoftwareKeys([KeyRecord("zak", Use.ZAK, Secret("des", KEY)), KeyRecord("zmk", Use.ZMK, Secret("des", KEY))])


RULES = MacRules(Algorithm.X919, "zak", skip=frozenset({"0800", "0810"}))


def by(module: SoftwareKeys, rules: MacRules = RULES, generation: Generation = Generation.ACTIVE):  # type: ignore[no-untyped-def]
    return lambda data: module.mac(rules.key, rules.algorithm, rules.padding, data, generation)


def test_mac_stands_in_128_as_soon_as_a_field_above_64_does() -> None:
    purchase, reversal = message("atm87-purchase"), message("atm87-reversal-advice")
    assert authenticated(PACKAGER, RULES, purchase, by(keys())).numbers[-1] == 64
    assert authenticated(PACKAGER, RULES, reversal, by(keys())).numbers[-1] == 128


def test_mac_covers_type_bitmap_with_its_bit_and_fields_but_no_header() -> None:
    for name in ("atm87-purchase", "atm87-reversal-advice"):
        signed = authenticated(PACKAGER, RULES, message(name), by(keys()))
        data = PACKAGER.encode(signed)
        assert covered(PACKAGER, RULES, signed) == data[:-16]
        assert mac_of(Algorithm.X919, KEY, data[:-16], 1).hex().upper().encode() == data[-16:]
    header = replace(PACKAGER, header=12)
    with_header = Message("0200", dict(message("atm87-purchase").items()), b"ISO015000050")
    assert covered(header, RULES, with_header) == covered(PACKAGER, RULES, message("atm87-purchase"))


@pytest.mark.parametrize(
    "rules",
    [
        RULES,
        replace(RULES, padding=2),
        replace(RULES, covers=(0, 2, 11, 12, 47)),
        replace(RULES, hex_text=True),
        replace(RULES, length=4, fill="20"),
        replace(RULES, field=64),
    ],
)
def test_what_is_authenticated_is_right_and_any_other_field_is_not(rules: MacRules) -> None:
    module = keys()
    signed = authenticated(PACKAGER, rules, message("atm87-purchase"), by(module, rules))
    read = PACKAGER.decode(PACKAGER.encode(signed))
    assert check(PACKAGER, rules, read, by(module, rules)) == 0
    for change in ({11: "000125"}, {64: "00" * 8}):
        with pytest.raises(MacError, match="^field 64: another MAC expected$"):
            check(PACKAGER, rules, read.having(change), by(module, rules))
    with pytest.raises(MacError) as missing:
        check(PACKAGER, rules, read.without([64]), by(module, rules))
    assert missing.value.fault is Fault.MAC_MISSING


def test_covered_text_of_listed_fields() -> None:
    rules = replace(RULES, covers=(0, 2, 11, 12, 47))
    assert covered(PACKAGER, rules, message("atm87-purchase")) == b"0200" + b"5021990000000017" + b"000124" + b"113015"


def test_types_without_a_mac_have_none() -> None:
    echo = message("atm87-echo")
    assert authenticated(PACKAGER, RULES, echo, by(keys())) == echo
    assert check(PACKAGER, RULES, echo, by(keys())) == 0


# --- keys -------------------------------------------------------------------------------------------------------------


def test_key_change_from_install_to_the_end_of_grace() -> None:
    module = keys()
    change = message("atm87-key-change")
    wrapped = wrapped_key_of(change.get("125") or "")
    assert module.install("zak", Use.ZAK, wrapped, "zmk") == "DFA251"
    old = authenticated(PACKAGER, RULES, message("atm87-purchase"), by(module))
    new = authenticated(PACKAGER, RULES, message("atm87-purchase"), by(module, generation=Generation.PENDING))
    assert old != new and module.generations("zak", NOW) == (Generation.ACTIVE, Generation.PENDING)
    module.activate("zak", NOW, grace_s=120)
    assert module.generations("zak", NOW) == (Generation.ACTIVE, Generation.PREVIOUS)
    ways = [by(module, generation=generation) for generation in module.generations("zak", NOW)]
    assert (check(PACKAGER, RULES, new, *ways), check(PACKAGER, RULES, old, *ways)) == (0, 1)
    assert [(each.handle, each.generation, each.kcv) for each in module.status()] == [
        ("zak", Generation.ACTIVE, "DFA251"),
        ("zak", Generation.PREVIOUS, "08D7B4"),
        ("zmk", Generation.ACTIVE, "08D7B4"),
    ]
    after = NOW + timedelta(seconds=120)
    assert module.generations("zak", after) == (Generation.ACTIVE,)
    with pytest.raises(KeyRefused, match="a key that is previous expected"):
        module.mac("zak", Algorithm.X919, 1, b"", Generation.PREVIOUS)


def test_pending_key_can_be_forgotten() -> None:
    module = keys()
    module.install("zak", Use.ZAK, wrapped_key_of("X1FA15D0627E28BD00C3C275BFBE03911DFA251"), "zmk")
    module.discard("zak")
    module.discard("nobody")
    assert module.generations("zak", NOW) == (Generation.ACTIVE,)
    with pytest.raises(KeyRefused, match="pending"):
        module.activate("zak", NOW, 0)


def test_scheme_u_changes_the_zmk_for_each_half() -> None:
    key = bytes.fromhex("89E504AEF4B6C4F1E3076D29C74A9E62")
    halves = []
    for variant, half in ((0xA6, key[:8]), (0x5A, key[8:])):
        changed = KEY[:8] + bytes([KEY[8] ^ variant]) + KEY[9:]
        halves.append(DES3.new(changed, DES3.MODE_ECB).encrypt(half))
    wrapped = WrappedKey("U", b"".join(halves).hex(), "DFA251")
    assert unwrapped(Secret("des", KEY), wrapped) == key
    assert keys().install("zak", Use.ZAK, wrapped, "zmk") == "DFA251"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("X1FA15D0627E28BD00C3C275BFBE03911DFA252", Fault.KEY_CHECK),
        ("X1FA15D0627E28BD00C3C275BFBE03912DFA251", Fault.KEY_CHECK),
        ("X1FA15D0627E28BD00C3C275BFBE0391DFA251", Fault.KEY_FORMAT),
        ("Q1FA15D0627E28BD00C3C275BFBE03911DFA251", Fault.KEY_FORMAT),
        ("", Fault.KEY_FORMAT),
    ],
)
def test_key_that_came_wrong_is_refused_and_the_old_one_stays(text: str, fault: Fault) -> None:
    module = keys()
    with pytest.raises(KeyRefused) as refused:
        module.install("zak", Use.ZAK, wrapped_key_of(text), "zmk")
    assert refused.value.fault is fault and module.generations("zak", NOW) == (Generation.ACTIVE,)


def test_key_of_even_parity_or_equal_halves_is_refused_though_its_check_value_is_right() -> None:
    for raw, fault in (
        (bytes(16), Fault.KEY_PARITY),
        (KEY[:8] * 2, Fault.KEY_WEAK),
        (b"\x01" * 8 + KEY[:8], Fault.KEY_WEAK),
    ):
        cryptogram = DES3.new(KEY, DES3.MODE_ECB).encrypt(raw).hex()
        with pytest.raises(KeyRefused) as refused:
            keys().install("zak", Use.ZAK, WrappedKey("X", cryptogram, kcv_of("des", raw)), "zmk")
        assert refused.value.fault is fault  # fmt: skip


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        (lambda module: module.mac("zmk", Algorithm.X919, 1, b""), Fault.KEY_USE),
        (lambda module: module.mac("nobody", Algorithm.X919, 1, b""), Fault.KEY_MISSING),
        (lambda module: module.mac("zak", Algorithm.AES_CMAC, 1, b""), Fault.KEY_USE),
        (lambda module: module.mac("zak", Algorithm.X99, 1, b""), Fault.KEY_FORMAT),
        (lambda module: module.install("zak", Use.ZAK, WrappedKey("X", "00" * 16, "DFA251"), "zak"), Fault.KEY_USE),
        (
            lambda module: module.install(
                "zmk", Use.ZAK, wrapped_key_of("X1FA15D0627E28BD00C3C275BFBE03911DFA251"), "zmk"
            ),
            Fault.KEY_USE,
        ),
        (lambda module: SoftwareKeys([KeyRecord("a", Use.ZAK, Secret("des", KEY))] * 2), Fault.KEY_FORMAT),
    ],
)
def test_key_module_refuses_by_name(work, fault: Fault) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(KeyRefused) as refused:
        work(keys())
    assert refused.value.fault is fault


def test_zmk_is_made_of_components_of_several_people() -> None:
    one, two = bytes.fromhex("11" * 16), bytes(left ^ 0x11 for left in KEY)
    made = combined("des", [one, two])
    assert made.raw == KEY and kcv_of("des", made.raw) == "08D7B4"
    # Any parity of the components; the key has odd parity.
    assert combined("des", [one, bytes([two[0] ^ 1]) + two[1:]]).raw == KEY
    for wrong in ([one], [one, two[:8]], [one, one]):
        with pytest.raises(KeyRefused):
            combined("des", wrong)


def test_aes_keys_have_a_check_value_of_ten_digits() -> None:
    assert kcv_of("aes", AES_KEY) == "7AD386C376"
    assert checked("aes", AES_KEY).raw == AES_KEY


def test_software_keys_keep_the_contract_and_show_no_key() -> None:
    module: KeyModule = keys()
    assert isinstance(module, KeyModule)
    wrapped = wrapped_key_of("X1FA15D0627E28BD00C3C275BFBE03911DFA251")
    secret = Secret("des", KEY)
    shown = repr(secret) + repr(KeyRecord("a", Use.ZAK, secret)) + repr(wrapped) + repr(module.status())
    for hidden in (KEY.hex(), repr(KEY), "1FA15D06", "89E504AE"):
        assert hidden not in shown and hidden.upper() not in shown
