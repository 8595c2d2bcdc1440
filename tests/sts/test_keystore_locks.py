"""Where a key file's master key comes from: one passphrase, or the passphrases of all custodians, and nothing less.

scrypt runs here at the lowest cost that is accepted, but for one test at the cost that is the default.
"""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts.errors import Fault
from sts.modules.keystore import (
    CustodianLock,
    KeyLock,
    KeystoreError,
    MasterKey,
    Passphrase,
    PassphraseLock,
    ScryptCost,
    Share,
    custodians_key,
    lock_in,
    lock_of,
    read_keystore,
    seal,
    unseal,
)
from tests.sts.keys import record

LOW: Final = ScryptCost(14)
RECORDS: Final = [record(2), record(4)]
NONCES: Final = [bytes([number]) * 12 for number in (1, 2)]
SALTS: Final = [bytes([number]) * 16 for number in range(1, 6)]
SHARES: Final = [bytes([16 * number + at for at in range(16)]) * 2 for number in range(5)]

AMINA: Final = Passphrase("amina: correct horse")
BARAKA: Final = Passphrase("baraka: battery staple")
WRONG: Final = Passphrase("somebody else entirely")

ONE: Final = PassphraseLock(SALTS[0], LOW).open(AMINA)
TWO: Final = custodians_key({"amina": AMINA, "baraka": BARAKA}, shares=SHARES[:2], salts=SALTS[:2], cost=LOW)
SEALED: Final = {"passphrase": seal(RECORDS, ONE, NONCES), "custodians": seal(RECORDS, TWO, NONCES)}
KEYS: Final = {"passphrase": ONE, "custodians": TWO}


def _lock_of_custodians(text: str) -> CustodianLock:
    lock = lock_of(text)
    assert isinstance(lock, CustodianLock)
    return lock


def _kcvs(text: str, master_key: MasterKey) -> list[str]:
    return [one.key.kcv for one in unseal(text, master_key)]


KCVS: Final = [one.key.kcv for one in RECORDS]


def test_file_sealed_with_a_passphrase_opens_with_it_and_with_no_other() -> None:
    lock = lock_of(SEALED["passphrase"])
    assert isinstance(lock, PassphraseLock) and lock.cost == LOW
    assert _kcvs(SEALED["passphrase"], lock.open(Passphrase("amina: correct horse"))) == KCVS
    with pytest.raises(KeystoreError) as refusal:
        unseal(SEALED["passphrase"], lock.open(WRONG))
    assert refusal.value.fault is Fault.KEYSTORE


def test_file_under_dual_control_opens_with_all_passphrases_in_any_order() -> None:
    lock = _lock_of_custodians(SEALED["custodians"])
    assert lock.custodians == ("amina", "baraka")
    for passphrases in ({"amina": AMINA, "baraka": BARAKA}, {"baraka": BARAKA, "amina": AMINA}):
        assert _kcvs(SEALED["custodians"], lock.open(passphrases)) == KCVS


def test_wrong_passphrase_of_a_custodian_is_refused_without_a_word_on_whose() -> None:
    lock = _lock_of_custodians(SEALED["custodians"])
    said = set()
    for passphrases in (
        {"amina": WRONG, "baraka": BARAKA},
        {"amina": AMINA, "baraka": WRONG},
        {"amina": WRONG, "baraka": Passphrase("and yet another")},
        {"amina": BARAKA, "baraka": AMINA},
    ):
        with pytest.raises(KeystoreError) as refusal:
            unseal(SEALED["custodians"], lock.open(passphrases))
        said.add(str(refusal.value))
    assert len(said) == 1


@pytest.mark.parametrize("given_", [{}, {"amina": AMINA}, {"amina": AMINA, "baraka": BARAKA, "chidi": WRONG}])
def test_passphrases_of_other_custodians_than_those_named_are_refused(given_: dict[str, Passphrase]) -> None:
    with pytest.raises(KeystoreError) as refusal:
        _lock_of_custodians(SEALED["custodians"]).open(given_)
    assert refusal.value.fault is Fault.KEYSTORE
    assert "amina, baraka" in str(refusal.value)


def test_five_custodians_open_together() -> None:
    passphrases = {name: Passphrase(f"the words of {name}") for name in ("e", "d", "c", "b", "a")}
    master_key = custodians_key(passphrases, shares=SHARES, salts=SALTS, cost=LOW)
    assert isinstance(master_key.lock, CustodianLock)
    assert master_key.lock.open(passphrases).secret_bytes() == master_key.secret_bytes()
    assert master_key.secret_bytes() == bytes(a ^ b ^ c ^ d ^ e for a, b, c, d, e in zip(*SHARES, strict=True))


def test_file_holds_no_share_and_nothing_that_tells_a_right_passphrase_from_a_wrong_one() -> None:
    for share in SHARES[:2]:
        assert share.hex() not in SEALED["custodians"]
    lock = _lock_of_custodians(SEALED["custodians"])
    assert TWO.secret_bytes().hex() not in SEALED["custodians"]
    # Any passphrase unwraps a share to 32 bytes; only the sum of all of them is ever compared with anything.
    assert {len(share.wrapped) for share in lock.shares} == {32}


def test_key_from_elsewhere_goes_on_and_a_file_can_change_its_lock() -> None:
    plain = seal(RECORDS, MasterKey(bytes(32)), NONCES)
    assert lock_of(plain) == KeyLock()
    moved = seal(unseal(plain, MasterKey(bytes(32))), TWO, NONCES)
    assert _kcvs(moved, TWO) == KCVS
    # The right 32 bytes from elsewhere do not open it: the way in is part of what is sealed.
    with pytest.raises(KeystoreError):
        unseal(moved, MasterKey(TWO.secret_bytes()))


def test_sealing_again_keeps_the_lock() -> None:
    lock = _lock_of_custodians(SEALED["custodians"])
    again = seal(
        [*RECORDS, record(4, key_revision=2)], lock.open({"amina": AMINA, "baraka": BARAKA}), [*NONCES, b"3" * 12]
    )
    assert lock_of(again) == lock
    assert len(unseal(again, TWO)) == 3


@pytest.mark.parametrize("kind", SEALED)
def test_any_bit_altered_anywhere_refuses_the_file(kind: str) -> None:
    raw = SEALED[kind].encode()
    for place in range(len(raw)):
        altered = bytearray(raw)
        altered[place] ^= 1 << place % 7
        with pytest.raises(KeystoreError) as refusal:
            unseal(altered.decode("latin-1"), KEYS[kind])
        assert refusal.value.fault is Fault.KEYSTORE


@pytest.mark.parametrize("kind", SEALED)
@given(data=st.data())
def test_file_cut_anywhere_is_refused(kind: str, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(SEALED[kind]) - 1))
    for part in (SEALED[kind][:length], SEALED[kind][length + 1 :]):
        with pytest.raises(KeystoreError):
            lock_of(part)


# fmt: off
OTHER_LOCKS: Final[list[tuple[str, str, dict[str, Any]]]] = [
    ("another kind",         "passphrase", {"kind": "custodians"}),
    ("no kind",              "passphrase", {"kind": None}),
    ("a cost too low",       "passphrase", {"log2_n": 13}),
    ("a cost to exhaust us", "passphrase", {"log2_n": 30}),
    ("a cost below zero",    "passphrase", {"log2_n": -1}),
    ("a cost of true",       "passphrase", {"p": True}),
    ("a cost as text",       "passphrase", {"r": "8"}),
    ("too much memory",      "passphrase", {"log2_n": 20, "r": 16}),
    ("a short salt",         "passphrase", {"salt": "00" * 15}),
    ("no salt",              "passphrase", {"salt": None}),
    ("capital digits",       "passphrase", {"salt": "AB" * 16}),
    ("one member more",      "passphrase", {"more": 1}),
    ("no shares",            "custodians", {"shares": []}),
    ("shares of no objects", "custodians", {"shares": [1, 2]}),
    ("shares no list",       "custodians", {"shares": 5}),
    ("a salt too",           "custodians", {"salt": "00" * 16}),
]
# fmt: on


@pytest.mark.parametrize(("kind", "changes"), [case[1:] for case in OTHER_LOCKS], ids=[case[0] for case in OTHER_LOCKS])
def test_lock_that_cannot_be_is_refused_before_anything_is_computed(kind: str, changes: dict[str, Any]) -> None:
    lock = json.loads(SEALED[kind])["lock"]
    text = SEALED[kind].replace(json.dumps(lock), json.dumps({**lock, **changes}), 1)
    assert text != SEALED[kind]
    with pytest.raises(KeystoreError) as refusal:
        lock_of(text)
    assert refusal.value.fault is Fault.KEYSTORE


def test_lock_exchanged_for_another_is_refused() -> None:
    other = PassphraseLock(SALTS[1], LOW)
    text = SEALED["passphrase"].replace(SALTS[0].hex(), SALTS[1].hex(), 1)
    with pytest.raises(KeystoreError):
        unseal(text, other.open(AMINA))
    # Even with the right 32 bytes the exchanged lock is no part of what was sealed.
    with pytest.raises(KeystoreError):
        unseal(text, MasterKey(ONE.secret_bytes(), other))


GOOD: Final = {"amina": AMINA, "baraka": BARAKA}
SIX: Final = {name: Passphrase(f"the words of {name}") for name in "abcdef"}

# fmt: off
NOT_MADE: Final[list[tuple[str, dict[str, Passphrase], list[bytes], list[bytes], Fault]]] = [
    ("one custodian",          {"amina": AMINA},  SHARES[:1],             SALTS[:1],             Fault.FORMAT),
    ("six custodians",         SIX,               [*SHARES, b"6" * 32],   [*SALTS, b"6" * 16],   Fault.FORMAT),
    ("one passphrase for two", {"a": AMINA, "b": AMINA}, SHARES[:2],      SALTS[:2],             Fault.DUPLICATE),
    ("shares alike",           GOOD,              [SHARES[0], SHARES[0]], SALTS[:2],             Fault.DUPLICATE),
    ("salts alike",            GOOD,              SHARES[:2],             [SALTS[0], SALTS[0]],  Fault.FORMAT),
    ("too few shares",         GOOD,              SHARES[:1],             SALTS[:2],             Fault.FORMAT),
    ("too few salts",          GOOD,              SHARES[:2],             SALTS[:1],             Fault.FORMAT),
    ("a short share",          GOOD,              [SHARES[0], b"1" * 31], SALTS[:2],             Fault.FORMAT),
    ("a short salt",           GOOD,              SHARES[:2],             [SALTS[0], b"1" * 15], Fault.FORMAT),
    ("a name with a capital",  {"A": AMINA, "b": BARAKA},   SHARES[:2],   SALTS[:2],             Fault.FORMAT),
    ("a name with a space",    {"a b": AMINA, "c": BARAKA}, SHARES[:2],   SALTS[:2],             Fault.FORMAT),
    ("no name",                {"": AMINA, "b": BARAKA},    SHARES[:2],   SALTS[:2],             Fault.FORMAT),
]
# fmt: on


@pytest.mark.parametrize(
    ("passphrases", "shares", "salts", "fault"), [case[1:] for case in NOT_MADE], ids=[case[0] for case in NOT_MADE]
)
def test_dual_control_that_would_be_none_is_not_made(
    passphrases: dict[str, Passphrase], shares: list[bytes], salts: list[bytes], fault: Fault
) -> None:
    with pytest.raises(KeystoreError) as refusal:
        custodians_key(passphrases, shares=shares, salts=salts, cost=LOW)
    assert refusal.value.fault is fault


def test_lock_of_custodians_keeps_one_order_and_whole_shares() -> None:
    shares = _lock_of_custodians(SEALED["custodians"]).shares
    for wrong in (shares[::-1], (shares[0], shares[0]), (shares[0], replace(shares[1], wrapped=b""))):
        with pytest.raises(KeystoreError):
            CustodianLock(wrong, LOW)
    with pytest.raises(KeystoreError):
        PassphraseLock(b"", LOW)
    assert Share("amina", SALTS[0], SHARES[0]) != shares[0]


# fmt: off
NO_PASSPHRASES: Final[list[tuple[str, Fault]]] = [
    ("",                     Fault.KEY_LENGTH),
    ("eleven char",          Fault.KEY_LENGTH),
    ("x" * 1025,             Fault.KEY_LENGTH),
    ("two lines\nare not one", Fault.FORMAT),
    ("a tab\tis not typed",  Fault.FORMAT),
    ("half a pair \ud800",   Fault.FORMAT),
]
# fmt: on


@pytest.mark.parametrize(("text", "fault"), NO_PASSPHRASES)
def test_text_that_is_no_passphrase_is_refused_and_not_repeated(text: str, fault: Fault) -> None:
    with pytest.raises(KeystoreError) as refusal:
        Passphrase(text)
    assert refusal.value.fault is fault
    assert text == "" or text not in str(refusal.value)


def test_same_passphrase_from_another_keyboard_or_a_file_is_the_same() -> None:
    composed, apart = Passphrase("crème brûlée à midi"), Passphrase("cre\u0300me bru\u0302le\u0301e a\u0300 midi\r\n")
    assert composed.same_as(apart)
    assert not composed.same_as(Passphrase("creme brulee a midi"))


def test_passphrase_and_keys_show_nothing() -> None:
    for thing in (AMINA, ONE, TWO):
        shown = f"{thing!r} {thing}"
        for secret in ("correct horse", ONE.secret_bytes().hex(), TWO.secret_bytes().hex(), SHARES[0].hex()):
            assert secret not in shown
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_derived_key_is_scrypt_as_published() -> None:
    # The example of RFC 7914 section 12 with log2 n 14, as far as our 32 bytes reach: its first 32.
    class Short(Passphrase):
        """The example's passphrase is shorter than we accept."""

        def __init__(self) -> None:
            self._Passphrase__raw = b"pleaseletmein"

    derived = Short().derived(b"SodiumChloride", LOW)
    assert derived.hex() == "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"


def test_default_cost_takes_the_memory_that_is_promised() -> None:
    assert ScryptCost().memory_bytes == 128 * 1024 * 1024
    assert len(AMINA.derived(SALTS[0], ScryptCost())) == 32


@pytest.mark.parametrize(
    "numbers", [(13, 8, 1), (21, 8, 1), (17, 7, 1), (17, 17, 1), (17, 8, 0), (17, 8, 5), (20, 9, 1)]
)
def test_cost_outside_its_limits_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(KeystoreError) as refusal:
        ScryptCost(*numbers)
    assert refusal.value.fault is Fault.OUT_OF_RANGE


def test_lock_is_read_from_the_file_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(SEALED["custodians"], encoding="utf-8")
    assert lock_in(path) == TWO.lock
    assert len(read_keystore(path, TWO)) == 2
    path.write_bytes(b"\xff")
    with pytest.raises(KeystoreError):
        lock_in(path)
    with pytest.raises(FileNotFoundError):
        lock_in(tmp_path / "absent")
