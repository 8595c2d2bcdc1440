"""Operators: signing in, being locked out, roles, and the duties that must be in different hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from ledger import audit, operators, tables
from ledger.audit import Origin, Verified
from ledger.operators import Cost, Operator, OperatorFault, OperatorRefused, Role
from ledger.store import Store, migrate, open_store

NOW = datetime(2026, 6, 5, 8, 15, tzinfo=UTC)
CHEAP = Cost(log2_n=4)
SALT = bytes(range(16))
RIGHT, WRONG = "correct horse battery", "incorrect horse"

ADMIN = Operator("adm.lee", "Lee Administrator", frozenset({Role.ADMIN}), "en", None)
TOM = Operator("sec.tom", "Tom Key custodian", frozenset({Role.KEY_CUSTODIAN}), "en", None)
IDA = Operator("sec.ida", "Ida Key custodian", frozenset({Role.KEY_CUSTODIAN}), "en", None)
EVE = Operator("sec.eve", "Eve Key custodian", frozenset({Role.KEY_CUSTODIAN}), "en", None)
ANN = Operator("op.ann", "Ann Cashier", frozenset({Role.VENDOR}), "sw", "ST001")


def _origin(who: str = "adm.lee") -> Origin:
    return Origin(who, NOW, "terminal lee@office", "test")


def _add(
    connection: sa.Connection, new: Operator, by: Operator | None = ADMIN, beside: Operator | None = None
) -> Operator:
    return operators.add(
        connection, new, RIGHT, SALT, by=by, origin=_origin(by.login if by else "terminal"), beside=beside, cost=CHEAP
    )


@pytest_asyncio.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """A database with an administrator, a cashier and one key custodian."""
    await migrate(database_url)
    store = await open_store(database_url)
    try:
        await store.transact(lambda connection: _add(connection, ADMIN, by=None))
        await store.transact(lambda connection: _add(connection, ANN))
        await store.transact(lambda connection: _add(connection, TOM))
        yield store
    finally:
        assert isinstance(await store.read(audit.verify), Verified)
        await store.close()


async def _sign_in(store: Store, login: str, password: str, now: datetime = NOW) -> Operator | OperatorRefused:
    return await store.transact(lambda connection: operators.sign_in(connection, login, password, now, "here"))


async def _fault(store: Store, login: str, password: str, now: datetime = NOW) -> OperatorFault | None:
    answer = await _sign_in(store, login, password, now)
    return answer.fault if isinstance(answer, OperatorRefused) else None


async def _refused(store: Store, work: Any) -> OperatorFault:
    with pytest.raises(OperatorRefused) as refusal:
        await store.transact(work)
    return refusal.value.fault


async def _deeds(store: Store) -> list[tuple[str, str, str]]:
    rows = await store.read(lambda connection: audit.latest(connection, 100))
    return [(row.who, row.deed, row.subject) for row in rows]


async def test_the_right_password_signs_in_and_a_wrong_one_does_not(store: Store) -> None:
    assert await _sign_in(store, "op.ann", RIGHT) == ANN
    assert await _fault(store, "op.ann", WRONG) is OperatorFault.WRONG
    assert await _fault(store, "op.ann", "") is OperatorFault.WRONG
    assert await _fault(store, "op.ann", RIGHT + " ") is OperatorFault.WRONG
    assert await _fault(store, "op.ann", "x" * 1_000_000) is OperatorFault.WRONG


async def test_an_unknown_login_and_a_wrong_password_are_refused_in_the_same_words(store: Store) -> None:
    unknown, wrong = await _sign_in(store, "nobody", RIGHT), await _sign_in(store, "op.ann", WRONG)
    assert isinstance(unknown, OperatorRefused) and isinstance(wrong, OperatorRefused)
    assert (unknown.fault, unknown.sentence) == (wrong.fault, wrong.sentence)


async def test_letters_that_look_alike_are_alike(store: Store) -> None:
    await store.transact(
        lambda connection: operators.set_password(
            connection, "op.ann", "mot de passe caf\u00e9", SALT, by=ADMIN, origin=_origin(), cost=CHEAP
        )
    )
    assert await _fault(store, "op.ann", "mot de passe cafe\u0301") is None


async def test_five_wrong_passwords_lock_the_operator_out_for_a_time(store: Store) -> None:
    for _ in range(operators.TRIES_MAX):
        assert await _fault(store, "op.ann", WRONG) is OperatorFault.WRONG
    assert await _fault(store, "op.ann", RIGHT) is OperatorFault.LOCKED
    just_before = NOW + operators.LOCKED_FOR - timedelta(microseconds=1)
    assert await _fault(store, "op.ann", RIGHT, just_before) is OperatorFault.LOCKED
    assert await _fault(store, "op.ann", RIGHT, NOW + operators.LOCKED_FOR) is None
    assert ("op.ann", "operators.locked", "op.ann") in await _deeds(store)


async def test_a_right_password_in_between_starts_the_count_anew(store: Store) -> None:
    for _ in range(3):
        for _ in range(operators.TRIES_MAX - 1):
            assert await _fault(store, "op.ann", WRONG) is OperatorFault.WRONG
        assert await _fault(store, "op.ann", RIGHT) is None


async def test_the_count_starts_anew_after_a_lock_out(store: Store) -> None:
    later = NOW + operators.LOCKED_FOR
    for _ in range(operators.TRIES_MAX):
        await _fault(store, "op.ann", WRONG)
    assert await _fault(store, "op.ann", WRONG, later) is OperatorFault.WRONG
    assert await _fault(store, "op.ann", RIGHT, later) is None


async def test_attempts_under_way_at_once_do_not_get_round_the_lock_out(store: Store) -> None:
    tried = await store.read(lambda connection: operators.attempt(connection, "op.ann"))
    settling = [
        store.transact(lambda connection: operators.settle(connection, tried, False, NOW, "here"))
        for _ in range(operators.TRIES_MAX)
    ]
    await asyncio.gather(*settling)
    late = await store.transact(lambda connection: operators.settle(connection, tried, True, NOW, "here"))
    assert isinstance(late, OperatorRefused) and late.fault is OperatorFault.LOCKED


async def test_a_password_that_was_changed_meanwhile_no_longer_signs_in(store: Store) -> None:
    tried = await store.read(lambda connection: operators.attempt(connection, "op.ann"))
    await store.transact(
        lambda connection: operators.set_password(
            connection, "op.ann", "a new password", bytes(16), by=ANN, origin=_origin("op.ann"), cost=CHEAP
        )
    )
    late = await store.transact(lambda connection: operators.settle(connection, tried, True, NOW, "here"))
    assert isinstance(late, OperatorRefused) and late.fault is OperatorFault.WRONG


async def test_a_disabled_operator_does_not_sign_in_until_enabled(store: Store) -> None:
    def disable(disabled: bool) -> Any:
        return lambda connection: operators.set_disabled(connection, "op.ann", disabled, by=ADMIN, origin=_origin())

    await store.transact(disable(True))
    assert await _fault(store, "op.ann", RIGHT) is OperatorFault.DISABLED
    assert await _fault(store, "op.ann", WRONG) is OperatorFault.WRONG  # who cannot prove it is not told
    await store.transact(disable(False))
    assert await _fault(store, "op.ann", RIGHT) is None
    assert [deed for _, deed, _ in await _deeds(store)][-2:] == ["operators.disabled", "operators.enabled"]


async def test_the_first_operator_is_added_by_whoever_is_there_and_only_as_administrator(database_url: str) -> None:
    await migrate(database_url)
    store = await open_store(database_url)
    assert await _refused(store, lambda connection: _add(connection, TOM, by=None)) is OperatorFault.FIRST_ADMIN
    await store.transact(lambda connection: _add(connection, ADMIN, by=None))
    second = replace(ADMIN, login="adm.two")
    assert await _refused(store, lambda connection: _add(connection, second, by=None)) is OperatorFault.ROLE_MISSING
    (row,) = await store.read(lambda connection: audit.latest(connection, 10))
    assert (row.who, row.deed, '"first":true' in row.after) == ("terminal", "operators.added", True)
    await store.close()


async def test_two_first_operators_at_once_leave_one(database_url: str) -> None:
    await migrate(database_url)
    stores = [await open_store(database_url) for _ in range(2)]

    async def first(number: int) -> Operator:
        new = replace(ADMIN, login=f"adm.{number}")
        return await stores[number].transact(lambda connection: _add(connection, new, by=None))

    answers = await asyncio.gather(first(0), first(1), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Operator", "OperatorRefused"]
    for store in stores:
        await store.close()


async def test_two_administrators_who_disable_each_other_at_once_leave_one(database_url: str) -> None:
    await migrate(database_url)
    stores = [await open_store(database_url) for _ in range(2)]
    two = replace(ADMIN, login="adm.two")
    await stores[0].transact(lambda connection: _add(connection, ADMIN, by=None))
    await stores[0].transact(lambda connection: _add(connection, two))

    async def disable(store: Store, by: Operator, login: str) -> None:
        await store.transact(
            lambda connection: operators.set_disabled(connection, login, True, by=by, origin=_origin(by.login))
        )

    answers = await asyncio.gather(
        disable(stores[0], ADMIN, "adm.two"), disable(stores[1], two, "adm.lee"), return_exceptions=True
    )
    assert [type(answer).__name__ for answer in answers if answer is not None] == ["OperatorRefused"]
    for store in stores:
        await store.close()


# fmt: off
NOT_ADDED: list[tuple[str, Operator, Operator, OperatorFault]] = [
    ("by a cashier",          replace(ANN, login="op.new"), ANN, OperatorFault.ROLE_MISSING),
    ("by a custodian",        replace(ANN, login="op.new"), TOM, OperatorFault.ROLE_MISSING),
    ("by a disabled one",     replace(ANN, login="op.new"), replace(ADMIN, is_disabled=True), OperatorFault.DISABLED),
    ("a login twice",         ANN, ADMIN, OperatorFault.EXISTS),
    ("a login with capitals", replace(ANN, login="Op.New"), ADMIN, OperatorFault.FORM),
    ("a login with a slash",  replace(ANN, login="a/b"), ADMIN, OperatorFault.FORM),
    ("an empty login",        replace(ANN, login=""), ADMIN, OperatorFault.FORM),
    ("a name of two lines",   replace(ANN, login="op.new", name="a\nb"), ADMIN, OperatorFault.FORM),
    ("no name",               replace(ANN, login="op.new", name=" "), ADMIN, OperatorFault.FORM),
    ("no language",           replace(ANN, login="op.new", language=""), ADMIN, OperatorFault.FORM),
    ("no role",               replace(ANN, login="op.new", roles=frozenset()), ADMIN, OperatorFault.ROLES),
    ("sells and administers", replace(ANN, login="op.new", roles=frozenset({Role.ADMIN, Role.VENDOR})), ADMIN,
     OperatorFault.ROLES),
    ("keys and administers",  replace(ANN, login="op.new", roles=frozenset({Role.ADMIN, Role.KEY_CUSTODIAN})), ADMIN,
     OperatorFault.ROLES),
    ("audits and sells",      replace(ANN, login="op.new", roles=frozenset({Role.AUDITOR, Role.VENDOR})), ADMIN,
     OperatorFault.ROLES),
]
# fmt: on


async def test_an_operator_who_must_not_be_is_refused_by_name(store: Store) -> None:
    for label, new, by, fault in NOT_ADDED:

        def add(connection: sa.Connection, new: Operator = new, by: Operator = by) -> Operator:
            return _add(connection, new, by)

        assert await _refused(store, add) is fault, label
        assert len(await store.read(operators.everybody)) == 3, label
    assert len(await _deeds(store)) == 3


@pytest.mark.parametrize("password", ["", "short", "x" * 201, "aaaaaaaaaaaa", "op.new.operator"])
def test_a_weak_password_is_refused(password: str) -> None:
    with pytest.raises(OperatorRefused) as refusal:
        operators.check_password(password, "op.new.operator")
    assert refusal.value.fault is OperatorFault.PASSWORD
    assert not password or password not in str(refusal.value).split()


async def test_no_administrator_alone_makes_or_takes_over_a_custodian_once_there_are_two(store: Store) -> None:
    await store.transact(lambda connection: _add(connection, IDA))  # the second one still without help
    assert await _refused(store, lambda connection: _add(connection, EVE)) is OperatorFault.SECOND
    assert await _refused(store, lambda connection: _add(connection, EVE, beside=ADMIN)) is OperatorFault.SAME_PERSON
    assert await _refused(store, lambda connection: _add(connection, EVE, beside=ANN)) is OperatorFault.ROLE_MISSING

    def take_over(beside: Operator | None) -> Any:
        return lambda connection: operators.set_password(
            connection, "sec.tom", "a new password", SALT, by=ADMIN, origin=_origin(), beside=beside, cost=CHEAP
        )

    assert await _refused(store, take_over(None)) is OperatorFault.SECOND
    assert await _refused(store, take_over(TOM)) is OperatorFault.SAME_PERSON
    await store.transact(
        lambda connection: operators.set_disabled(connection, "sec.ida", True, by=ADMIN, origin=_origin())
    )
    assert await _refused(store, take_over(None)) is OperatorFault.SECOND
    await store.transact(take_over(IDA))
    await store.transact(lambda connection: _add(connection, EVE, beside=TOM))


async def test_one_may_set_ones_own_password_and_nobody_elses(store: Store) -> None:
    def change(login: str, by: Operator) -> Any:
        return lambda connection: operators.set_password(
            connection, login, "another password", SALT, by=by, origin=_origin(by.login), cost=CHEAP
        )

    await store.transact(change("op.ann", ANN))
    assert await _fault(store, "op.ann", "another password") is None
    assert await _refused(store, change("sec.tom", ANN)) is OperatorFault.ROLE_MISSING
    assert await _refused(store, change("nobody", ADMIN)) is OperatorFault.UNKNOWN


async def test_the_last_administrator_cannot_be_disabled(store: Store) -> None:
    def disable(login: str) -> Any:
        return lambda connection: operators.set_disabled(connection, login, True, by=ADMIN, origin=_origin())

    assert await _refused(store, disable("adm.lee")) is OperatorFault.LAST_ADMIN
    await store.transact(lambda connection: _add(connection, replace(ADMIN, login="adm.two")))
    await store.transact(disable("adm.lee"))
    assert await _refused(store, disable("adm.two")) is OperatorFault.LAST_ADMIN
    assert await _refused(store, disable("nobody")) is OperatorFault.UNKNOWN


def test_duties_apart_are_two_people_with_the_role() -> None:
    assert operators.require_two(TOM, IDA, Role.KEY_CUSTODIAN, "x") == IDA
    for first, second, fault in (
        (TOM, None, OperatorFault.SECOND),
        (TOM, TOM, OperatorFault.SAME_PERSON),
        (TOM, ADMIN, OperatorFault.ROLE_MISSING),
        (ADMIN, TOM, OperatorFault.ROLE_MISSING),
        (TOM, replace(IDA, is_disabled=True), OperatorFault.DISABLED),
    ):
        with pytest.raises(OperatorRefused) as refusal:
            operators.require_two(first, second, Role.KEY_CUSTODIAN, "x")
        assert refusal.value.fault is fault


def test_roles_are_read_by_name() -> None:
    assert operators.roles_from(["vendor", " SUPERVISOR "]) == {Role.VENDOR, Role.SUPERVISOR}
    with pytest.raises(OperatorRefused, match="no role KING"):
        operators.roles_from(["vendor", "king"])


async def test_no_password_and_no_hash_is_in_the_log_or_in_an_operator(store: Store) -> None:
    stored = await store.read(lambda connection: list(connection.execute(sa.select(tables.operator.c.password))))
    rows = await store.read(lambda connection: audit.latest(connection, 100))
    shown = f"{rows} {await store.read(operators.everybody)}"
    shown += repr(await store.read(lambda connection: operators.attempt(connection, "op.ann")))
    assert RIGHT not in shown and all(row[0] not in shown and row[0].split()[3] not in shown for row in stored)


def test_the_default_cost_is_what_it_says() -> None:
    text = operators.password_hash(RIGHT, SALT)
    assert text.startswith("scrypt ln=15,r=8,p=1 000102") and operators.Attempt("x", text, True).fits(RIGHT)
    assert not operators.Attempt("x", text, False).fits(RIGHT)
    assert not operators.Attempt("x", "rubbish", True).fits(RIGHT)
    with pytest.raises(ValueError, match="16 octets"):
        operators.password_hash(RIGHT, b"short")
