"""Payment callbacks over real sockets: believed ones are stored before they are answered, others leave a trace."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import sqlalchemy as sa

from channels.http.server import CallbackServer, Limits
from ledger import payment_tables, tables
from tests.gateway.payments.till import STRANGER, Till, open_till
from tests.simulation.mobile_money import SIGNED
from tests.simulation.shop import METER
from tests.simulation.utility import unknown_drn

PATH = "/payments/mpesa/0123456789abcdef"
PAID = {"receipt": "R1", "payer": STRANGER, "account": METER, "amount": 50_000}


@asynccontextmanager
async def _served(till: Till) -> AsyncIterator[str]:
    server = CallbackServer(
        "127.0.0.1", 0, till.payments.routes(), Limits(body_octets_max=2_048), on_refused=till.payments.refused
    )
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def _post(url: str, said: object, signature: str = SIGNED) -> tuple[int, dict[str, object]]:
    headers = {"X-Signature": signature, "Content-Type": "application/json"}
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    async with aiohttp.ClientSession() as client, client.post(url, data=body, headers=headers) as response:
        text = await response.text()
        return response.status, json.loads(text) if text.startswith("{") else {}


async def test_money_by_callback_is_stored_then_answered_and_vends_once(database_url: str) -> None:
    async with open_till(database_url) as till, _served(till) as base:
        for _ in range(2):
            assert await _post(base + PATH, PAID) == (200, {"ResultCode": 0, "ResultDesc": ""})
        assert await till.states() == ["VENDED"] and till.sent.keys() == ["sold"]
        assert await till.balance("clearing:mpesa") == -50_000


async def test_what_is_not_believed_vends_nothing_and_is_in_the_audit_log(database_url: str) -> None:
    async with open_till(database_url) as till, _served(till) as base:
        refused = [
            (PAID, "forged", 200),
            ({**PAID, "amount": 500.5}, SIGNED, 200),
            ({**PAID, "amount": "500"}, SIGNED, 200),
            (b'{"receipt": "R1", "receipt": "R2"}', SIGNED, 200),
            (b"not json", SIGNED, 200),
            ({**PAID, "more": "x" * 4_000}, SIGNED, 413),
        ]
        for said, signature, status in refused:
            got, answer = await _post(base + PATH, said, signature)
            assert got == status and answer.get("ResultCode", 1) == 1
        assert (await _post(base + "/payments/mpesa/fedcba9876543210", PAID))[0] == 404
        for wrong in ({"amount": 0}, {"amount": -50_000}, {"currency": "USD"}):
            assert (await _post(base + PATH, {**PAID, **wrong}))[0] == 200  # heard, and not believed
        assert await till.states() == [] and await till.rows(payment_tables.payment) == []
        events = await till.rows(payment_tables.payment_event)
        assert [row["outcome"] for row in events] == ["NOT_AN_AMOUNT", "NOT_AN_AMOUNT", "CURRENCY"]
        await till.payments.close()
        a = tables.audit.c
        rows = await till.counter.store.read(
            lambda connection: connection.execute(sa.select(a.subject, a.after).order_by(a.seq)).all()
        )
        why = {
            json.loads(row.after)["why"]: json.loads(row.after)["count"] for row in rows if "payment:" in row.subject
        }
        assert why["signature"] == 1 and why["not_an_amount"] == 2 and why["too_large"] == 1
        assert why["NOT_AN_AMOUNT"] == 2 and why["CURRENCY"] == 1 and sum(why.values()) == 9


async def test_a_validation_is_answered_by_the_rules_of_a_sale_and_writes_nothing(database_url: str) -> None:
    async with open_till(database_url) as till, _served(till) as base:
        cases = [
            (METER, 50_000, ""),
            ("0401 2345 676", 50_000, ""),
            (unknown_drn(1), 50_000, "METER_UNKNOWN"),
            ("rent", 50_000, "METER_UNKNOWN"),
            (METER, 1, "AMOUNT_MIN"),
        ]
        for account, amount, why in cases:
            said = {"validate": account, "payer": STRANGER, "amount": amount}
            status, answer = await _post(base + PATH, said)
            assert (status, answer) == (200, {"ResultCode": 1 if why else 0, "ResultDesc": why})
        assert await till.counter.count(payment_tables.payment) == await till.counter.count(tables.purchase) == 0
        assert await till.counter.count(tables.account, tables.account.c.kind == "prepaid") == 0


async def test_a_store_that_is_away_is_answered_so_that_the_source_calls_again(database_url: str) -> None:
    async with open_till(database_url) as till, _served(till) as base:
        store, till.payments._store = till.payments._store, _Away()  # type: ignore[assignment]
        assert (await _post(base + PATH, PAID))[0] == 503
        till.payments._store = store
        assert (await _post(base + PATH, PAID))[0] == 200 and await till.states() == ["VENDED"]


class _Away:
    async def submit(self, deed: object) -> None:
        raise ConnectionError("away")
