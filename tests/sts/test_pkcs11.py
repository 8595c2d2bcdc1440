"""DKGA04 inside a PKCS#11 token, against a real SoftHSM2: the same tokens as the software module, keys that cannot be
read, and what happens when a PIN is wrong, a key is spoiled, a token hangs or is pulled out.

SoftHSM2 keeps its tokens in a folder of this test; where it is not installed, this file is skipped in one line.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pkcs11 import exceptions as answers
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KeyType, Mechanism
from pkcs11.types import Session, SignMixin, Token

from sts import tid
from sts.errors import Fault, StsError, TokenError
from sts.meterkey import MeterKey
from sts.modules import pkcs11 as module_under_test
from sts.modules.contract import (
    CreditRequest,
    KeyChangeRequest,
    KeyMissing,
    ManagementRequest,
    ModuleError,
    ModuleRefused,
    ModuleSilent,
    SecurityModule,
    TokenRequest,
    Unsettled,
)
from sts.modules.pkcs11 import (
    LibraryUnusable,
    Pin,
    PinRefused,
    Pkcs11Module,
    TokenAbsent,
    destroy_key,
    import_vending_key,
    label_of,
    list_keys,
    opened,
)
from sts.modules.pkcs11_token import hmac_of, library_at
from sts.modules.records import KeyName, VendingKeyRecord
from sts.modules.software import SoftwareModule
from tests.sts.keys import NOW, handle, raw_key, record
from tests.sts.rows import ROWS, Row, handle_of, new_handle_of, new_vending_key_of, vending_key_of
from tests.sts.softhsm import NONE_FOUND, PIN, SoftHsm, find_softhsm, softhsm

if find_softhsm() is None:
    pytest.skip(NONE_FOUND, allow_module_level=True)

TID: Final = tid.tid_at(NOW, 2014)

RECORDS: Final = [
    record(4),
    record(4, key_revision=2, base_date=2035),
    record(4, key_revision=3, active_from=NOW, issued_until=NOW + timedelta(days=1)),
    record(4, key_revision=4, key_expiry=90),
    record(4, key_type=1),
    record(4, key_type=3),
]
SOFTWARE: Final = SoftwareModule(RECORDS)


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    with softhsm(tmp_path_factory.mktemp("softhsm")) as found:
        yield found


@pytest.fixture(scope="module")
def stocked(hsm: SoftHsm) -> str:
    """The label of a token with RECORDS in it; no test changes it."""
    return _stock(hsm, RECORDS)


@pytest.fixture
def ready(hsm: SoftHsm, stocked: str) -> Iterator[Pkcs11Module]:
    """A module on the stocked token that answers at once and caches nothing."""
    with _module(hsm, stocked, cache_size=0) as module:
        yield module


@pytest.fixture
def waiting(hsm: SoftHsm, stocked: str) -> Iterator[Pkcs11Module]:
    """A module on the stocked token that is asked in a thread."""
    with _module(hsm, stocked, answers_at_once=False) as module:
        yield module


@contextmanager
def _module(hsm: SoftHsm, label: str, **changes: Any) -> Iterator[Pkcs11Module]:
    """A module that answers at once unless it is told not to."""
    module = Pkcs11Module(hsm.library, label, Pin(PIN), **{"answers_at_once": True, **changes})
    try:
        yield module
    finally:
        module.close()


def _stock(hsm: SoftHsm, records: list[VendingKeyRecord]) -> str:
    label = hsm.new_token()
    with opened(hsm.library, label, Pin(PIN)) as session:
        for one in records:
            import_vending_key(session, one)
    return label


def credit(meter: MeterKey, at: int = TID, subclass: int = 0, rnd: int = 5) -> CreditRequest:
    return CreditRequest(meter, subclass, at, rnd, 256)


# --- the same tokens as the software module ---------------------------------------------------------------------------


def test_module_satisfies_the_contract(ready: Pkcs11Module, waiting: Pkcs11Module) -> None:
    module: SecurityModule = ready
    assert isinstance(module, SecurityModule)
    assert ready.answers_at_once and not waiting.answers_at_once


VECTOR_ROWS: Final = [
    row
    for row in ROWS
    if row["kind"] == "token" and row["inputs"].get("dkga") == 4 and "vending_key_hex" in row["inputs"]
]


ANY_CHANGE: Final = frozenset((old, new) for old in (1, 2) for new in (1, 2))


def _records_of(row: Row) -> list[VendingKeyRecord]:
    """The vending keys of a row. In two rows both have one name, which no module can hold: the present one then."""
    inputs = row["inputs"]
    held = [(handle_of(inputs), vending_key_of(inputs))]
    if "vending_key_hex" in inputs.get("new", {}):
        held.insert(0, (new_handle_of(inputs), new_vending_key_of(inputs)))
    records = [VendingKeyRecord(k.supply_group, k.key_revision, k.key_type, k.base_date, 255, raw) for k, raw in held]
    return list({one.name: one for one in records}.values())


def _fits(layer: dict[KeyName, VendingKeyRecord], keys: list[VendingKeyRecord]) -> bool:
    held = [(layer[one.name], one) for one in keys if one.name in layer]
    return all(there.key.secret_bytes() == here.key.secret_bytes() for there, here in held)


@pytest.fixture(scope="module")
def module_for(hsm: SoftHsm) -> Iterator[Callable[[Row], Pkcs11Module]]:
    """The module that holds the vending keys of a row. As many tokens as there are different keys of one name."""
    layers: list[dict[KeyName, VendingKeyRecord]] = []
    place: dict[str, int] = {}
    for row in VECTOR_ROWS:
        keys = _records_of(row)
        place[row["id"]] = next((at for at, layer in enumerate(layers) if _fits(layer, keys)), len(layers))
        if place[row["id"]] == len(layers):
            layers.append({})
        layers[place[row["id"]]].update({one.name: one for one in keys})
    modules = [
        Pkcs11Module(
            hsm.library,
            _stock(hsm, list(layer.values())),
            Pin(PIN),
            answers_at_once=True,
            cache_size=0,
            allowed=frozenset(Unsettled),
            key_type_changes=ANY_CHANGE,
        )
        for layer in layers
    ]
    yield lambda row: modules[place[row["id"]]]
    for module in modules:
        module.close()


@pytest.mark.parametrize("row", VECTOR_ROWS, ids=lambda row: str(row["id"]))
def test_vector_row_with_a_vending_key_of_dkga04_agrees(row: Row, module_for: Callable[[Row], Pkcs11Module]) -> None:
    inputs, expected = row["inputs"], row["expected"]
    module, key = module_for(row), handle_of(inputs)
    decoder_key = module._ready(key).key
    assert decoder_key.same_as(vending_key_of(inputs).derive(key))
    assert f"{decoder_key.secret_value():0{decoder_key.bits // 4}x}" == expected["decoder_key_hex"]
    if row.get("sta_tables") == "operational":
        return
    software = SoftwareModule(
        _records_of(row),
        allowed=frozenset(Unsettled),
        key_type_changes=ANY_CHANGE,
    )
    assert module.verify(expected["token"], key) == software.verify(expected["token"], key)
    token_class, subclass = inputs["class"], inputs["subclass"]
    if (token_class, subclass) in ((2, 3), (2, 4), (2, 8), (2, 9)):
        request = KeyChangeRequest(key, new_handle_of(inputs))
        answer = _answer(lambda: module.make_set(request, now=NOW))
        assert answer == _answer(lambda: software.make_set(request, now=NOW))
        # Some rows ask for a set that no module makes: RO without a new base date, or two keys of one name.
        rollover = request.new.base_date != key.base_date
        if isinstance(answer, tuple) and inputs["new"].get("ro", 0) == rollover and len(_records_of(row)) == 2:
            assert answer[{3: 0, 4: 1, 8: 2, 9: 3}[subclass]] == expected["token"]
    elif key.key_type >= 2:
        value = int(expected["clear_block_hex"], 16) >> 16 & 0xFFFF
        nibble = expected.get("sign_exponent_nibble", inputs.get("rnd"))
        kind = CreditRequest if token_class == 0 else ManagementRequest
        assert module.make(kind(key, subclass, expected["tid"], nibble, value)) == expected["token"]


def _answer(ask: Callable[[], object]) -> object:
    """What it gives, or the name of its refusal."""
    try:
        return ask()
    except StsError as refusal:
        return type(refusal), refusal.fault


# fmt: off
ASKED: Final[list[tuple[str, TokenRequest]]] = [
    ("a token",                         credit(handle(11, 4))),
    ("an engineering token",            ManagementRequest(handle(7, 4), 5, TID, 3, 0)),
    ("credit under a default key",      credit(handle(7, 4, key_type=1))),
    ("engineering under a default key", ManagementRequest(handle(7, 4, key_type=1), 5, TID, 0, 0)),
    ("a key of the factory",            credit(handle(7, 4, key_type=0))),
    ("a common key",                    credit(handle(7, 4, key_type=3))),
    ("a missing key",                   credit(handle(7, 4, key_revision=9))),
    ("a key of DKGA02",                 credit(handle(7, 2))),
    ("TID beyond the meter's KEN",      credit(handle(7, 4, key_expiry=90))),
    ("TID beyond the vending key's KEN", credit(handle(7, 4, key_revision=4))),
    ("before the key is active",        credit(handle(7, 4, key_revision=3), at=TID - 1)),
    ("the first minute of a key",       credit(handle(7, 4, key_revision=3), at=TID)),
    ("after the key may be used",       credit(handle(7, 4, key_revision=3), at=TID + 1441)),
    ("negative currency",               credit(handle(7, 4), subclass=4, rnd=8)),
    ("clear tamper with a value",       ManagementRequest(handle(7, 4), 5, TID, 0, 1)),
]
CHANGES: Final[list[tuple[str, KeyChangeRequest]]] = [
    ("two tokens",          KeyChangeRequest(handle(7, 4), handle(7, 4, key_expiry=9))),
    ("four tokens",         KeyChangeRequest(handle(11, 4), handle(11, 4, key_revision=2, base_date=2035))),
    ("from a default key",  KeyChangeRequest(handle(11, 4, key_type=1), handle(11, 4))),
    ("to a default key",    KeyChangeRequest(handle(11, 4), handle(11, 4, key_type=1))),
    ("another meter",       KeyChangeRequest(handle(7, 4), handle(7, 4, body="9876543210"))),
    ("KEN beyond the key's", KeyChangeRequest(handle(7, 4), handle(7, 4, key_revision=4))),
    ("a missing key",       KeyChangeRequest(handle(7, 4), handle(7, 4, key_revision=9))),
]
# fmt: on


@pytest.mark.parametrize("request_", [case[1] for case in ASKED], ids=[case[0] for case in ASKED])
async def test_request_is_answered_as_by_the_software_module(
    request_: TokenRequest, ready: Pkcs11Module, waiting: Pkcs11Module
) -> None:
    wanted = _answer(lambda: SOFTWARE.make(request_))
    assert _answer(lambda: ready.make(request_)) == wanted
    (answer,) = ready.make_many([request_])
    assert (answer if isinstance(answer, str) else (type(answer), answer.fault)) == wanted
    for module in (ready, waiting):
        try:
            later: object = await module.make_later(request_)
        except ModuleError as refusal:
            later = type(refusal), refusal.fault
        assert later == wanted
    assert ready.holds(request_.key) == SOFTWARE.holds(request_.key)


@pytest.mark.parametrize("request_", [case[1] for case in CHANGES], ids=[case[0] for case in CHANGES])
async def test_key_change_is_answered_as_by_the_software_module(
    request_: KeyChangeRequest, ready: Pkcs11Module, waiting: Pkcs11Module
) -> None:
    wanted = _answer(lambda: SOFTWARE.make_set(request_, now=NOW))
    assert _answer(lambda: ready.make_set(request_, now=NOW)) == wanted
    try:
        later: object = await waiting.make_set_later(request_, now=NOW)
    except ModuleError as refusal:
        later = type(refusal), refusal.fault
    assert later == wanted


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(st.tuples(st.integers(1, 6), st.sampled_from((7, 11)), st.integers(0, 0xFFFF)), max_size=12))
def test_same_request_gives_the_same_token_whatever_is_cached(
    requests: list[tuple[int, int, int]], hsm: SoftHsm, stocked: str, ready: Pkcs11Module
) -> None:
    asked = [CreditRequest(handle(ea, 4, body=f"{body:010d}"), 0, TID, 5, field) for body, ea, field in requests]
    wanted = SOFTWARE.make_many(asked)
    assert ready.make_many(asked) == wanted
    with _module(hsm, stocked, cache_size=2) as module:
        assert module.make_many([*asked, *reversed(asked)]) == [*wanted, *reversed(wanted)]
        assert len(module._connection.cache._ready) <= 2


async def test_verify_reads_a_token_or_refuses_as_the_meter_would(ready: Pkcs11Module, waiting: Pkcs11Module) -> None:
    digits = SOFTWARE.make(credit(handle(11, 4)))
    assert ready.verify(digits, handle(11, 4)) == SOFTWARE.verify(digits, handle(11, 4))
    assert await waiting.verify_later(digits, handle(11, 4)) == SOFTWARE.verify(digits, handle(11, 4))
    with pytest.raises(TokenError) as refusal:
        await waiting.verify_later(digits, handle(11, 4, body="9876543210"))
    assert refusal.value.fault is Fault.CRC


def test_status_shows_what_the_software_module_shows(ready: Pkcs11Module) -> None:
    assert ready.status() == replace(SOFTWARE.status(), name="pkcs11")


def test_module_that_does_not_answer_at_once_is_not_called_so(waiting: Pkcs11Module) -> None:
    for call in (
        lambda: waiting.make(credit(handle(7, 4))),
        lambda: waiting.make_set(CHANGES[0][1], now=NOW),
        lambda: waiting.verify("0" * 20, handle(7, 4)),
    ):
        with pytest.raises(AssertionError):
            call()


# --- keys stay inside -------------------------------------------------------------------------------------------------


def _stored(session: Session, one: VendingKeyRecord) -> Any:
    (found,) = list(session.get_objects({Attribute.LABEL: label_of(one.name)}))
    return found


def test_vending_key_cannot_be_read_copied_in_clear_or_given_other_uses(hsm: SoftHsm, stocked: str) -> None:
    with opened(hsm.library, stocked, Pin(PIN)) as session:
        stored = _stored(session, RECORDS[0])
        with pytest.raises(answers.AttributeSensitive):
            stored[Attribute.VALUE]
        assert stored[Attribute.SENSITIVE] and stored[Attribute.PRIVATE] and stored[Attribute.SIGN]
        assert not stored[Attribute.EXTRACTABLE] and not stored[Attribute.DERIVE]
        assert isinstance(stored, SignMixin)
        for attribute, value in (
            (Attribute.SENSITIVE, False),
            (Attribute.EXTRACTABLE, True),
            (Attribute.DERIVE, True),
            (Attribute.LABEL, label_of(record(4, key_revision=9).name)),
            (Attribute.ID, bytes(21)),
        ):
            with pytest.raises(answers.PKCS11Error):
                stored[attribute] = value
        with pytest.raises(answers.PKCS11Error):
            stored.copy({Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True})


def test_without_the_pin_the_keys_are_not_even_seen(hsm: SoftHsm) -> None:
    label = _stock(hsm, RECORDS[:1])
    library = library_at(hsm.library)
    with library.entered(1.0):
        session = library.cryptoki.get_token(token_label=label).open()
        assert list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})) == []
        session.close()


def test_stored_key_and_the_20_bytes_give_one_hmac(hsm: SoftHsm) -> None:
    label = hsm.new_token()
    with opened(hsm.library, label, Pin(PIN)) as session:
        assert import_vending_key(session, RECORDS[0]) == RECORDS[0].status
        assert list_keys(session) == (RECORDS[0].status,)


def test_imported_dates_come_back(hsm: SoftHsm) -> None:
    early = NOW.replace(year=1960)
    records = [
        record(4, active_from=NOW, key_expiry=0),
        record(4, key_revision=2, issued_until=early),
        record(4, key_revision=3, active_from=early, issued_until=NOW.replace(year=9999)),
    ]
    label = _stock(hsm, records)
    with opened(hsm.library, label, Pin(PIN)) as session:
        assert list_keys(session) == tuple(one.status for one in records)


# fmt: off
NOT_IMPORTED: Final[list[tuple[str, VendingKeyRecord, Fault]]] = [
    ("DKGA02",                  record(2),                                             Fault.UNSUPPORTED),
    ("a key of the same name",  record(4, key_expiry=7),                               Fault.DUPLICATE),
    ("a part of a second",      record(4, key_revision=9, active_from=NOW + timedelta(microseconds=1)), Fault.FORMAT),
]
# fmt: on


@pytest.mark.parametrize(("one", "fault"), [c[1:] for c in NOT_IMPORTED], ids=[c[0] for c in NOT_IMPORTED])
def test_record_that_does_not_belong_there_is_not_imported(
    one: VendingKeyRecord, fault: Fault, hsm: SoftHsm, stocked: str
) -> None:
    with opened(hsm.library, stocked, Pin(PIN)) as session:
        before = list_keys(session)
        with pytest.raises(ModuleRefused) as refusal:
            import_vending_key(session, one)
        assert refusal.value.fault is fault
        assert list_keys(session) == before


def test_destroyed_key_is_gone_and_a_missing_one_is_named(hsm: SoftHsm) -> None:
    label = _stock(hsm, RECORDS[:2])
    with opened(hsm.library, label, Pin(PIN)) as session:
        destroy_key(session, RECORDS[0].name)
        assert list_keys(session) == (RECORDS[1].status,)
        with pytest.raises(ModuleRefused) as refusal:
            destroy_key(session, RECORDS[0].name)
        assert refusal.value.fault is Fault.KEY_MISSING
        import_vending_key(session, RECORDS[0])
    assert Pkcs11Module(hsm.library, label, Pin(PIN)).holds(handle(7, 4))


GOOD_LABEL: Final = label_of(RECORDS[0].name)
GOOD_ID: Final = bytes([1, 255]) + bytes.fromhex(RECORDS[0].key.kcv) + (bytes([0x80]) + bytes(7)) * 2
GOOD_VALUE: Final = RECORDS[0].key.secret_bytes().ljust(32, b"\0")

# fmt: off
SPOILED: Final[list[tuple[str, dict[Attribute, Any], Fault]]] = [
    ("a label of DKGA02",      {Attribute.LABEL: GOOD_LABEL.replace("dkga04", "dkga02")}, Fault.UNSUPPORTED),
    ("a label cut short",      {Attribute.LABEL: GOOD_LABEL[:-1]},                        Fault.FORMAT),
    ("a label with more",      {Attribute.LABEL: GOOD_LABEL + "\n"},                      Fault.FORMAT),
    ("a revision 0",           {Attribute.LABEL: GOOD_LABEL.replace("r1", "r0")},         Fault.FORMAT),
    ("another base date",      {Attribute.LABEL: GOOD_LABEL.replace("2014", "2015")},     Fault.FORMAT),
    ("an ID cut short",        {Attribute.ID: GOOD_ID[:-1]},                              Fault.FORMAT),
    ("no ID",                  {Attribute.ID: b""},                                       Fault.FORMAT),
    ("an ID of version 2",     {Attribute.ID: b"\2" + GOOD_ID[1:]},                       Fault.FORMAT),
    ("a moment beyond time",   {Attribute.ID: GOOD_ID[:-8] + b"\x7f" * 8},                Fault.FORMAT),
    ("another check value",    {Attribute.ID: GOOD_ID[:2] + b"\0\0\0" + GOOD_ID[5:]},     Fault.KEY_CHECK_VALUE),
    ("another key",            {Attribute.VALUE: raw_key(4, "x").ljust(32, b"\0")},       Fault.KEY_CHECK_VALUE),
    ("a key cut short",        {Attribute.VALUE: GOOD_VALUE[:19].ljust(32, b"\0")},       Fault.KEY_CHECK_VALUE),
    ("one bit of the key",     {Attribute.VALUE: bytes([GOOD_VALUE[0] ^ 1]) + GOOD_VALUE[1:]}, Fault.KEY_CHECK_VALUE),
    ("a key of 48 bytes",      {Attribute.VALUE: GOOD_VALUE + bytes(16)},                 Fault.KEY_LENGTH),
    ("a key that may be read", {Attribute.SENSITIVE: False},                              Fault.KEYSTORE),
    ("a key that may leave",   {Attribute.EXTRACTABLE: True},                             Fault.KEYSTORE),
    ("a key to derive from",   {Attribute.DERIVE: True},                                  Fault.KEYSTORE),
    ("a key for no HMAC",      {Attribute.SIGN: False},                                   Fault.KEY_CHECK_VALUE),
    ("a key twice",            {},                                                        Fault.DUPLICATE),
]
# fmt: on


def _plant(session: Session, **changes: Any) -> None:
    """An object as `import_vending_key` would make it, but for the changes."""
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
            Attribute.TOKEN: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.SIGN: True,
            Attribute.DERIVE: False,
            Attribute.LABEL: GOOD_LABEL,
            Attribute.ID: GOOD_ID,
            Attribute.VALUE: GOOD_VALUE,
            **{Attribute[name]: value for name, value in changes.items()},
        }
    )


@pytest.mark.parametrize(("changes", "fault"), [case[1:] for case in SPOILED], ids=[case[0] for case in SPOILED])
def test_token_with_a_spoiled_key_is_refused_whole(changes: dict[Attribute, Any], fault: Fault, hsm: SoftHsm) -> None:
    label = _stock(hsm, [RECORDS[1]])
    with opened(hsm.library, label, Pin(PIN)) as session:
        if not changes:
            _plant(session)
        _plant(session, **{attribute.name: value for attribute, value in changes.items()})
        with pytest.raises(ModuleRefused) as refusal:
            list_keys(session)
    assert refusal.value.fault is fault
    with pytest.raises(ModuleRefused) as refusal:
        Pkcs11Module(hsm.library, label, Pin(PIN))
    assert refusal.value.fault is fault
    assert GOOD_VALUE.hex()[:40] not in str(refusal.value)


def test_objects_of_others_are_left_alone(hsm: SoftHsm) -> None:
    label = _stock(hsm, [RECORDS[0]])
    with opened(hsm.library, label, Pin(PIN)) as session:
        for other in ("", "backup key", "STS-VK"):
            _plant(session, LABEL=other, VALUE=bytes(48))
        assert list_keys(session) == (RECORDS[0].status,)


# --- PIN, token and library -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "1" * 256, "1234\n", "12\r34", "\ud800"])
def test_text_that_is_no_pin_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ModuleRefused) as refusal:
        Pin(text)
    assert refusal.value.fault is Fault.FORMAT
    assert text == "" or text not in str(refusal.value)


WRONG: Final = "wrong-pin-5526"


def test_wrong_pin_is_refused_by_name_and_shown_nowhere(hsm: SoftHsm) -> None:
    label = _stock(hsm, RECORDS[:1])
    with pytest.raises(PinRefused) as refusal:
        Pkcs11Module(hsm.library, label, Pin(WRONG))
    first = refusal.value
    with _module(hsm, label) as module:
        # The token would not look at it, because the process is logged in already.
        with pytest.raises(PinRefused) as refusal:
            Pkcs11Module(hsm.library, label, Pin(WRONG))
        with pytest.raises(PinRefused), opened(hsm.library, label, Pin(WRONG)):
            pass
        shown = f"{module!r} {vars(module)} {module.status()} {Pin(PIN)!r} {Pin(PIN)} {first!r} {refusal.value!r}"
        assert PIN not in shown and WRONG not in shown
        assert first.__cause__ is None and first.__suppress_context__
    with pytest.raises(TypeError):
        pickle.dumps(Pin(PIN))


def test_missing_token_library_and_label_of_two_tokens_are_named(hsm: SoftHsm, tmp_path: Path) -> None:
    with pytest.raises(TokenAbsent):
        Pkcs11Module(hsm.library, "no such token", Pin(PIN))
    for path in (tmp_path / "absent.so", __file__):
        with pytest.raises(LibraryUnusable):
            Pkcs11Module(str(path), "any", Pin(PIN))
    hsm.new_token("twins")
    hsm.new_token("twins")
    with pytest.raises(ModuleRefused) as refusal:
        Pkcs11Module(hsm.library, "twins", Pin(PIN))
    assert refusal.value.fault is Fault.DUPLICATE


@pytest.mark.parametrize("at_once", [True, False])
async def test_token_pulled_out_is_silence_and_not_refusal_and_it_may_come_back(hsm: SoftHsm, at_once: bool) -> None:
    label = _stock(hsm, RECORDS[:1])
    known, unknown = credit(handle(7, 4)), credit(handle(7, 4, body="9876543210"))
    with _module(hsm, label, answers_at_once=at_once) as module:
        assert await module.make_later(known) == SOFTWARE.make(known)
        with hsm.removed():
            for _ in range(3):
                with pytest.raises(ModuleSilent):
                    await module.make_later(unknown)
            assert module.holds(known.key) and len(module.status().keys) == 1
            assert await module.make_later(known) == SOFTWARE.make(known)  # its decoder key is cached
            with pytest.raises(TokenAbsent):
                Pkcs11Module(hsm.library, label, Pin(PIN))
        assert await module.make_later(unknown) == SOFTWARE.make(unknown)


def test_pin_refused_when_the_token_is_back_is_not_tried_again(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    label = _stock(hsm, RECORDS[:1])
    with _module(hsm, label) as module:
        with hsm.removed(), pytest.raises(ModuleSilent):
            module.make(credit(handle(7, 4)))
        tried: list[str] = []

        def refuse(token: Token, pin: Pin) -> Session:
            tried.append(str(token))
            raise PinRefused(Fault.KEYSTORE, "it is wrong")

        with monkeypatch.context() as patch:
            patch.setattr("sts.modules.pkcs11_token._logged_in", refuse)
            for _ in range(3):
                with pytest.raises(ModuleSilent):
                    module.make(credit(handle(7, 4)))
        assert tried == [label]
        with pytest.raises(ModuleSilent):
            module.make(credit(handle(7, 4)))
        module.reload()  # an operator's word
        assert module.make(credit(handle(7, 4))) == SOFTWARE.make(credit(handle(7, 4)))


def test_keys_imported_and_destroyed_are_seen_after_reload(hsm: SoftHsm) -> None:
    label = _stock(hsm, RECORDS[:1])
    old, new = credit(handle(7, 4)), credit(handle(7, 4, key_revision=4), at=5)
    with _module(hsm, label) as module:
        module.make(old)
        with opened(hsm.library, label, Pin(PIN)) as session:
            import_vending_key(session, RECORDS[3])
            destroy_key(session, RECORDS[0].name)
        assert not module.holds(new.key)
        module.reload()
        assert module.make(new) == SOFTWARE.make(new)
        with pytest.raises(KeyMissing):
            module.make(old)  # nor does its decoder key come out of the cache


def test_key_destroyed_behind_the_modules_back_is_silence_first_and_missing_then(hsm: SoftHsm) -> None:
    label = _stock(hsm, RECORDS[:1])
    with _module(hsm, label) as module:
        with opened(hsm.library, label, Pin(PIN)) as session:
            destroy_key(session, RECORDS[0].name)
        with pytest.raises(ModuleSilent):
            module.make(credit(handle(7, 4)))
        with pytest.raises(KeyMissing):
            module.make(credit(handle(7, 4)))


def test_modules_on_one_token_do_not_log_each_other_out_for_good(hsm: SoftHsm, stocked: str) -> None:
    with _module(hsm, stocked, cache_size=0) as one:
        with _module(hsm, stocked, cache_size=0) as other:
            for module in (one, other, one, other):
                assert module.make(credit(handle(7, 4))) == SOFTWARE.make(credit(handle(7, 4)))
        assert one.make(credit(handle(7, 4))) == SOFTWARE.make(credit(handle(7, 4)))
        with opened(hsm.library, stocked, Pin(PIN)) as session:
            assert len(list_keys(session)) == len(RECORDS)
        assert one.make(credit(handle(7, 4))) == SOFTWARE.make(credit(handle(7, 4)))


async def test_closed_module_is_silent(hsm: SoftHsm, stocked: str) -> None:
    for at_once in (True, False):
        with _module(hsm, stocked, answers_at_once=at_once) as module:
            await module.make_later(credit(handle(7, 4)))
        with pytest.raises(ModuleSilent):
            await module.make_later(credit(handle(7, 4)))


# --- threads and waiting ----------------------------------------------------------------------------------------------


def test_many_threads_get_their_tokens(ready: Pkcs11Module) -> None:
    asked = [credit(handle(11 if body % 2 else 7, 4, body=f"{body:010d}")) for body in range(1, 1001)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(ready.make, asked))
    assert made == SOFTWARE.make_many(asked)


async def test_many_tasks_get_their_tokens(hsm: SoftHsm, stocked: str) -> None:
    asked = [credit(handle(11, 4, body=f"{body:010d}")) for body in range(1, 501)]
    with _module(hsm, stocked, answers_at_once=False, waiting_max=500) as module:
        assert await asyncio.gather(*map(module.make_later, asked)) == SOFTWARE.make_many(asked)


async def test_slow_token_leaves_the_loop_free_and_fills_no_queue(
    hsm: SoftHsm, stocked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = Event()

    def slow(stored: SignMixin, message: bytes) -> bytes:
        assert go.wait(10)
        return hmac_of(stored, message)

    with _module(hsm, stocked, answers_at_once=False, waiting_max=3, timeout_s=0.05) as module:
        known = credit(handle(7, 4))
        await module.make_later(known)
        monkeypatch.setattr(module_under_test, "hmac_of", slow)
        asked = [credit(handle(7, 4, body=f"{body:010d}")) for body in range(1, 6)]
        answers_ = await asyncio.gather(*map(module.make_later, asked), return_exceptions=True)
        assert {type(answer) for answer in answers_} == {ModuleSilent}
        # Two found no place; of the three that waited two were taken off the queue, and one is in the token still.
        assert sum("wait for the token already" in str(answer) for answer in answers_) == 2
        assert await module.make_later(known) == SOFTWARE.make(known)
        with pytest.raises(ModuleSilent):
            await module.make_later(asked[1])
        go.set()
        await asyncio.to_thread(module._thread.submit(int).result, 5)  # what was in the token has come out
        assert await module.make_later(asked[0]) == SOFTWARE.make(asked[0])


def test_library_in_use_elsewhere_is_silence_after_the_time_limit(hsm: SoftHsm, stocked: str) -> None:
    with _module(hsm, stocked, timeout_s=0.05) as module, ThreadPoolExecutor(1) as pool:
        with library_at(hsm.library).entered(1.0):
            answer = pool.submit(module.make, credit(handle(7, 4)))
            assert isinstance(answer.exception(5), ModuleSilent)


def test_error_of_the_token_ends_as_silence_and_the_next_request_is_answered(
    ready: Pkcs11Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (answers.SessionHandleInvalid, answers.DeviceError, answers.SessionClosed, answers.MechanismInvalid):

        def fail(stored: SignMixin, message: bytes, error: type[Exception] = error) -> bytes:
            raise error

        monkeypatch.setattr(module_under_test, "hmac_of", fail)
        with pytest.raises(ModuleSilent) as silence:
            ready.make(credit(handle(7, 4)))
        assert error.__name__ in silence.value.sentence
        monkeypatch.setattr(module_under_test, "hmac_of", hmac_of)
        assert ready.make(credit(handle(7, 4))) == SOFTWARE.make(credit(handle(7, 4)))


def test_rate_of_derivation_beside_the_librarys_own(hsm: SoftHsm, stocked: str, ready: Pkcs11Module) -> None:
    """Prints figures (`pytest -s`); asserts nothing about time, which belongs to the machine."""
    keys = [handle(11, 4, body=f"{body:010d}") for body in range(1, 1001)]
    rates: dict[str, float] = {}
    with opened(hsm.library, stocked, Pin(PIN)) as session:
        stored = _stored(session, RECORDS[0])
        for _ in range(5):
            started = time.perf_counter()
            for _key in keys:
                stored.sign(bytes(49), mechanism=Mechanism.SHA256_HMAC)
            _keep_best(rates, "bare HMAC of the library", len(keys) / (time.perf_counter() - started))
    for _ in range(5):
        started = time.perf_counter()
        for key in keys:
            ready._derive(key)
        _keep_best(rates, "derivation", len(keys) / (time.perf_counter() - started))
        started = time.perf_counter()
        for key in keys:
            ready.make(credit(key))
        _keep_best(rates, "derivation and token", len(keys) / (time.perf_counter() - started))
    print("\n" + ", ".join(f"{what}: {rate:,.0f}/s" for what, rate in rates.items()))
    assert set(rates) == {"bare HMAC of the library", "derivation", "derivation and token"}


def _keep_best(rates: dict[str, float], what: str, rate: float) -> None:
    rates[what] = max(rate, rates.get(what, 0.0))
