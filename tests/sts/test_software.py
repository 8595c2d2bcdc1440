"""The software module: which requests it refuses and how it calls that, and that a request always gives one token."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts import tid
from sts.decode import digits_from
from sts.errors import Fault, StsError, TokenError
from sts.meterkey import MeterKey
from sts.modules.contract import (
    CreditRequest,
    KeyChangeRequest,
    KeyMissing,
    ManagementRequest,
    ModuleRefused,
    ModuleSilent,
    SecurityModule,
    TokenRequest,
    Unsettled,
)
from sts.modules.software import SoftwareModule
from sts.tables import SAMPLE, TableSet
from sts.tokens import ClearTamper, Credit, KeySection1, KeySection2, KeySection3, KeySection4, Resource
from tests.sts.keys import HMAC_GROUP, NOW, handle, record

TID: Final = tid.tid_at(NOW, 2014)
MINUTE: Final = timedelta(minutes=1)

MODULE: Final = SoftwareModule(
    [
        record(2),
        record(2, key_revision=2),
        record(2, key_type=1),
        record(2, key_type=3),
        record(2, key_revision=3, base_date=1993),
        record(2, key_revision=4, key_expiry=90),
        record(2, key_revision=5, active_from=NOW, issued_until=NOW + timedelta(days=1)),
        record(4),
        record(4, key_revision=2, base_date=2035),
        record(4, key_type=3),
    ]
)


def credit(key: MeterKey, subclass: int = 0, at: int = TID, rnd: int = 5, field: int = 256) -> CreditRequest:
    """A credit request; 25.6 kWh unless said otherwise."""
    return CreditRequest(key, subclass, at, rnd, field)


def test_module_satisfies_the_contract() -> None:
    module: SecurityModule = MODULE
    assert isinstance(module, SecurityModule)
    assert module.answers_at_once


# fmt: off
REFUSED: Final[list[tuple[str, TokenRequest, Fault]]] = [
    ("credit under a default key",      credit(handle(key_type=1)),                       Fault.DEFAULT_KEY_CREDIT),
    ("engineering under a default key", ManagementRequest(handle(key_type=1), 5, TID, 0, 0), Fault.KEY_TYPE),
    ("a key of the factory",            credit(handle(key_type=0)),                       Fault.KEY_TYPE),
    ("a common key with DKGA04",        credit(handle(dkga=4, key_type=3)),               Fault.UNSETTLED),
    ("TID beyond the meter's KEN",      credit(handle(key_expiry=90)),                    Fault.KEY_EXPIRED),
    ("TID beyond the vending key's KEN", credit(handle(key_revision=4)),                  Fault.KEY_EXPIRED),
    ("before the key is active",        credit(handle(key_revision=5), at=TID - 1),       Fault.KEY_NOT_ACTIVE),
    ("after the key may be used",       credit(handle(key_revision=5), at=TID + 1441),    Fault.KEY_NO_LONGER_USED),
    ("currency above exponent 3",       credit(handle(), 4, rnd=1),                       Fault.UNSETTLED),
    ("negative currency",               credit(handle(), 4, rnd=8),                       Fault.UNSETTLED),
    ("clear tamper with a value",       ManagementRequest(handle(), 5, TID, 0, 1),        Fault.OUT_OF_RANGE),
    ("an index nobody describes",       ManagementRequest(handle(), 10, TID, 0, 0),       Fault.UNSETTLED),
]
# fmt: on


@pytest.mark.parametrize(("request_", "fault"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_request_is_refused_by_name(request_: TokenRequest, fault: Fault) -> None:
    with pytest.raises(ModuleRefused) as refusal:
        MODULE.make(request_)
    assert refusal.value.fault is fault
    (answer,) = MODULE.make_many([request_])
    assert isinstance(answer, ModuleRefused) and answer.fault is fault


def test_missing_key_is_its_own_error_because_another_module_may_hold_it() -> None:
    absent = handle(key_revision=9)
    assert not MODULE.holds(absent)
    assert not MODULE.holds(handle(base_date=2035))
    assert MODULE.holds(handle())
    with pytest.raises(KeyMissing) as refusal:
        MODULE.make(credit(absent))
    assert refusal.value.fault is Fault.KEY_MISSING
    assert not isinstance(refusal.value, ModuleRefused)


def test_dates_of_a_key_are_held_against_now_if_it_is_given() -> None:
    request = credit(handle(key_revision=5), at=TID - 1)
    assert MODULE.make(request, now=NOW)
    for now, fault in ((NOW - MINUTE, Fault.KEY_NOT_ACTIVE), (NOW + timedelta(days=2), Fault.KEY_NO_LONGER_USED)):
        with pytest.raises(ModuleRefused) as refusal:
            MODULE.make(request, now=now)
        assert refusal.value.fault is fault


# fmt: off
BAD_REQUESTS: Final[list[tuple[Callable[[], object], Fault]]] = [
    (lambda: credit(handle(), subclass=8),               Fault.TOKEN_CLASS),
    (lambda: credit(handle(), subclass=-1),              Fault.TOKEN_CLASS),
    (lambda: credit(handle(), at=1 << 24),               Fault.OUT_OF_RANGE),
    (lambda: credit(handle(), at=-1),                    Fault.OUT_OF_RANGE),
    (lambda: credit(handle(), at=1441),                  Fault.OUT_OF_RANGE),  # 00:01 is reserved
    (lambda: credit(handle(), rnd=16),                   Fault.OUT_OF_RANGE),
    (lambda: credit(handle(), field=1 << 16),            Fault.OUT_OF_RANGE),
    (lambda: ManagementRequest(handle(), 3, TID, 0, 0),  Fault.TOKEN_CLASS),   # key change
    (lambda: ManagementRequest(handle(), 11, TID, 0, 0), Fault.TOKEN_CLASS),   # proprietary
    (lambda: ManagementRequest(handle(), 0, TID, 0, -1), Fault.OUT_OF_RANGE),
]
# fmt: on


@pytest.mark.parametrize(("make", "fault"), BAD_REQUESTS)
def test_request_that_cannot_be_is_refused_when_it_is_built(make: Callable[[], object], fault: Fault) -> None:
    with pytest.raises(StsError) as refusal:
        make()
    assert refusal.value.fault is fault


REQUESTS: Final = st.builds(
    credit,
    st.sampled_from([handle(), handle(7, 4), handle(11, 4), handle(body="9876543210"), handle(key_type=3)]),
    st.integers(0, 3),
    st.integers(TID, TID + 100).filter(lambda number: not tid.is_reserved(number)),
    st.integers(0, 15),
    st.integers(0, 0xFFFF),
)


@given(st.lists(REQUESTS, max_size=8))
def test_same_request_gives_the_same_token_whatever_is_cached(requests: list[TokenRequest]) -> None:
    records = [record(2), record(2, key_type=3), record(4)]
    tokens = MODULE.make_many(requests)
    for cache_size in (0, 1, 100):
        module = SoftwareModule(records, cache_size=cache_size)
        assert module.make_many(requests) == tokens
        assert [module.make(request) for request in reversed(requests)] == tokens[::-1]


@given(REQUESTS)
def test_token_says_what_was_asked_for(request_: CreditRequest) -> None:
    token = MODULE.verify(MODULE.make(request_), request_.key)
    assert token == Credit(Resource(request_.subclass), request_.tid, request_.rnd, request_.amount_field)


def test_waiting_forms_give_the_same_answers() -> None:
    request = credit(handle())
    change = KeyChangeRequest(handle(), handle(key_revision=2))

    async def ask() -> tuple[Any, ...]:
        return (
            await MODULE.make_later(request),
            await MODULE.make_set_later(change, now=NOW),
            await MODULE.verify_later(MODULE.make(request), handle()),
        )

    assert asyncio.run(ask()) == (
        MODULE.make(request),
        MODULE.make_set(change, now=NOW),
        MODULE.verify(MODULE.make(request), handle()),
    )


def test_engineering_token_is_made_and_read_back() -> None:
    digits = MODULE.make(ManagementRequest(handle(11, 4), 5, TID, 3, 0))
    assert MODULE.verify(digits, handle(11, 4)) == ClearTamper(TID, 3)


def test_verify_refuses_as_the_meter_would() -> None:
    digits = MODULE.make(credit(handle()))
    for key, fault in (
        (handle(body="9876543210"), Fault.CRC),
        (handle(key_revision=2), Fault.CRC),
        (handle(key_expiry=90), Fault.KEY_EXPIRED),
    ):
        with pytest.raises(TokenError) as refusal:
            MODULE.verify(digits, key)
        assert refusal.value.fault is fault
    with pytest.raises(KeyMissing):
        MODULE.verify(digits, handle(key_revision=9))


def test_verify_calls_credit_under_a_default_key_by_its_name() -> None:
    # No module makes such a token, so the codec below the rules does.
    rules = SoftwareModule([record(2, key_type=1)])
    default = handle(key_type=1)
    digits = digits_from(Credit(Resource.ELECTRICITY, TID, 1, 1), record(2, key_type=1).key.derive(default))
    with pytest.raises(TokenError) as refusal:
        rules.verify(digits, default)
    assert refusal.value.fault is Fault.DEFAULT_KEY_CREDIT


def test_allowed_codings_are_made() -> None:
    module = SoftwareModule([record(2), record(2, key_revision=2)], allowed=frozenset(Unsettled))
    assert len(module.make(credit(handle(), 4, rnd=9))) == 20
    assert len(module.make_set(KeyChangeRequest(handle(), handle(key_revision=2, tariff_index="42")), now=NOW)) == 2


def test_key_change_set_has_two_tokens_for_ea07_and_four_for_ea11() -> None:
    two = MODULE.make_set(KeyChangeRequest(handle(key_type=1), handle(key_revision=2, key_expiry=200)), now=NOW)
    first, second = (MODULE.verify(digits, handle(key_type=1)) for digits in two)
    assert isinstance(first, KeySection1) and isinstance(second, KeySection2)
    assert (first.key_revision, first.key_type, first.rollover) == (2, 2, False)
    assert first.expiry_high << 4 | second.expiry_low == 200

    old, new = handle(11, 4), handle(11, 4, key_revision=2, base_date=2035)
    sections = [MODULE.verify(digits, old) for digits in MODULE.make_set(KeyChangeRequest(old, new), now=NOW)]
    assert [type(section) for section in sections] == [KeySection1, KeySection2, KeySection3, KeySection4]
    assert isinstance(sections[0], KeySection1) and sections[0].rollover
    assert isinstance(sections[2], KeySection3) and isinstance(sections[3], KeySection4)
    assert sections[3].supply_group_high << 12 | sections[2].supply_group_low == int(HMAC_GROUP)


# fmt: off
BAD_CHANGES: Final[list[tuple[str, dict[str, Any], timedelta, Fault]]] = [
    ("another meter",          {"body": "9876543210"},                    0 * MINUTE, Fault.KEY_MISMATCH),
    ("another algorithm",      {"ea": 11, "dkga": 4},                     0 * MINUTE, Fault.KEY_MISMATCH),
    ("back to a default key",  {"key_type": 1},                           0 * MINUTE, Fault.KEY_TYPE),
    ("to a common key",        {"key_type": 3},                           0 * MINUTE, Fault.KEY_TYPE),
    ("base date goes back",    {"key_revision": 3, "base_date": 1993},    0 * MINUTE, Fault.KEY_MISMATCH),
    ("tariff index above 09",  {"tariff_index": "10"},                    0 * MINUTE, Fault.UNSETTLED),
    ("KEN beyond the key's",   {"key_revision": 4},                       0 * MINUTE, Fault.OUT_OF_RANGE),
    ("new key not active",     {"key_revision": 5},                      -1 * MINUTE, Fault.KEY_NOT_ACTIVE),
    ("new key no longer used", {"key_revision": 5},                    9999 * MINUTE, Fault.KEY_NO_LONGER_USED),
]
# fmt: on


@pytest.mark.parametrize(("new", "later", "fault"), [c[1:] for c in BAD_CHANGES], ids=[c[0] for c in BAD_CHANGES])
def test_key_change_that_must_not_be_is_refused_by_name(new: dict[str, Any], later: timedelta, fault: Fault) -> None:
    with pytest.raises(ModuleRefused) as refusal:
        MODULE.make_set(KeyChangeRequest(handle(), handle(**new)), now=NOW + later)
    assert refusal.value.fault is fault


def test_new_base_date_needs_a_new_decoder_key() -> None:
    # The same vending key on two base dates: DKGA02 makes one decoder key of both, DKGA04 two.
    des, hmac = record(2, base_date=1993), record(4, base_date=1993)
    module = SoftwareModule([des, replace(des, base_date=2014), hmac, replace(hmac, base_date=2014)])
    with pytest.raises(ModuleRefused) as refusal:
        module.make_set(KeyChangeRequest(handle(base_date=1993), handle()), now=NOW)
    assert refusal.value.fault is Fault.KEY_MISMATCH
    assert len(module.make_set(KeyChangeRequest(handle(7, 4, base_date=1993), handle(7, 4)), now=NOW)) == 2


def test_attributes_may_change_under_the_same_decoder_key() -> None:
    tokens = MODULE.make_set(KeyChangeRequest(handle(), handle(key_expiry=200)), now=NOW)
    first = MODULE.verify(tokens[0], handle())
    assert isinstance(first, KeySection1) and first.expiry_high == 200 >> 4


def test_expired_key_can_still_be_replaced() -> None:
    expired = handle(key_expiry=90)
    with pytest.raises(ModuleRefused):
        MODULE.make(credit(expired))
    assert len(MODULE.make_set(KeyChangeRequest(expired, handle(key_revision=2)), now=NOW)) == 2


def test_two_keys_of_one_name_are_refused() -> None:
    with pytest.raises(ModuleRefused) as refusal:
        SoftwareModule([record(2), record(2, key_expiry=9)])
    assert refusal.value.fault is Fault.DUPLICATE


def test_status_names_keys_by_check_value_and_says_what_real_meters_think_of_the_tables() -> None:
    status = MODULE.status()
    assert (status.name, status.table_set, status.real_meters_accept_ea07) == ("software", "sample", False)
    assert len(status.keys) == 10
    assert {len(key.kcv) for key in status.keys} == {6}
    other = TableSet("utility", SAMPLE.substitution_2, SAMPLE.substitution_1, SAMPLE.permutation)
    assert SoftwareModule([], tables=other).status().real_meters_accept_ea07


def test_other_tables_give_other_ea07_tokens_and_the_same_ea11_tokens() -> None:
    other = TableSet("utility", SAMPLE.substitution_2, SAMPLE.substitution_1, SAMPLE.permutation)
    module = SoftwareModule([record(2), record(4)], tables=other)
    assert module.make(credit(handle())) != MODULE.make(credit(handle()))
    assert module.make(credit(handle(11, 4))) == MODULE.make(credit(handle(11, 4)))


def test_silence_is_no_refusal() -> None:
    silence = ModuleSilent("no answer within 5 s")
    assert silence.fault is Fault.SILENT
    assert not isinstance(silence, ModuleRefused)


@pytest.mark.parametrize(
    "changes",
    [
        {"supply_group": "12345"},
        {"key_revision": 0},
        {"key_type": 0},
        {"key_type": 4},
        {"base_date": 2000},
        {"key_expiry": 256},
        {"active_from": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"issued_until": datetime(2026, 1, 1)},  # noqa: DTZ001
    ],
)
def test_record_with_a_wrong_attribute_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StsError):
        record(2, **changes)


def test_dates_of_a_key_count_from_its_first_whole_minute() -> None:
    active = SoftwareModule([record(2, active_from=NOW + timedelta(seconds=1))])
    with pytest.raises(ModuleRefused):
        active.make(credit(handle()))
    assert active.make(credit(handle(), at=TID + 1))
    assert SoftwareModule([record(2, issued_until=NOW)]).make(credit(handle()))
    assert NOW.tzinfo is UTC
