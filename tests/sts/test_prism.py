"""PrismModule against the simulator over real sockets: every method, asking again, sessions, connections, TLS.

Error codes and lies are in test_prism_faults.
"""

import asyncio
import logging
import ssl
from dataclasses import replace
from typing import Any, Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts.amounts import currency_up, field_up
from sts.errors import Fault, TokenError
from sts.meter import Meter
from sts.modules.contract import (
    CreditRequest,
    KeyChangeRequest,
    KeyMissing,
    ManagementRequest,
    ModuleRefused,
    ModuleSilent,
    SecurityModule,
    TokenRequest,
)
from sts.modules.pool import ModuleAway, ModuleFull, StillUnderWay
from sts.modules.prism.client import PrismModule
from sts.modules.prism.orders import message_id
from sts.modules.prism.settings import CurrencyUnit, PrismKey, TidBy
from sts.modules.prism.simulated import Account, Faults
from sts.modules.prism.simulator import PrismSimulator, SimulatorSettings, serve
from sts.tokens import REGISTER_ALL, ClearTamper, Credit, CurrencyCredit, MeterTest, Resource, SetMaximumPower, Token
from tests.sts.keys import NOW, handle
from tests.sts.prism import CERTIFICATES, INSIDE, PASSWORD, RECORDS, now, served, settings, simulator

TID: Final = 6_396_480  # 2026-03-01 00:00, minutes since 2014

REQUESTS: Final[list[TokenRequest]] = [
    CreditRequest(handle(), 0, TID, 5, field_up(256)),
    CreditRequest(handle(dkga=4), 1, TID + 7, 0, field_up(18_201_624)),
    CreditRequest(handle(11, 4), 2, TID + 1439, 15, field_up(180_220)),
    CreditRequest(handle(body="123456789012"), 3, 0, 5, 0),
    CreditRequest(handle(), 0, 0xFFFFFE, 5, field_up(1)),
    CreditRequest(handle(key_revision=2), 0, TID + 21, 5, field_up(1_000_000)),
    CreditRequest(handle(supply_group="000007", base_date=1993), 0, 16_000_002, 5, field_up(10)),
    ManagementRequest(handle(), 0, TID + 22, 5, field_up(9_200)),
    ManagementRequest(handle(), 1, TID + 23, 5, REGISTER_ALL),
    ManagementRequest(handle(), 2, TID + 24, 5, 12_345),
    ManagementRequest(handle(11, 4), 5, TID + 25, 5, 0),
    ManagementRequest(handle(), 6, TID + 26, 5, field_up(500)),
    ManagementRequest(handle(), 7, TID + 27, 5, 777),
    ManagementRequest(handle(), 10, TID + 28, 5, 64_535),
]


def _without_chance(token: Token) -> Token:
    return replace(cast(Any, token), rnd=0) if hasattr(token, "rnd") else token


@pytest.mark.parametrize("tid_by", TidBy)
async def test_every_token_says_what_was_asked_and_is_read_back(tid_by: TidBy) -> None:
    async with served(tid_by=tid_by) as (_, module):
        for request in REQUESTS:
            digits = await module.make_later(request)
            token = INSIDE.verify(digits, request.key)
            assert getattr(token, "tid", None) == request.tid
            wanted = INSIDE.verify(INSIDE.make(request), request.key)
            assert _without_chance(token) == _without_chance(wanted)
            assert await module.verify_later(digits, request.key) == _without_chance(token)


async def test_simulated_meter_takes_tokens_and_a_key_change() -> None:
    async with served() as (_, module):
        key, new = handle(11, 4), handle(11, 4, key_revision=2, tariff_index="07")
        change = await module.make_set_later(KeyChangeRequest(key, new), now=NOW)
        assert change == INSIDE.make_set(KeyChangeRequest(key, new), now=NOW)
        credit = await module.make_later(CreditRequest(new, 0, TID, 5, field_up(256)))
        meter = Meter(key, RECORDS[2].key.derive(key))
        for digits in (*reversed(change), credit):
            assert meter.enter(digits, NOW).result.is_accepted
        assert meter.key_revision == 2


@pytest.mark.parametrize(
    ("key", "new"),
    [
        (handle(), handle(key_revision=2)),
        (handle(), handle(key_revision=2, tariff_index="09")),
        (handle(11, 4), handle(11, 4, key_revision=2)),
        (
            handle(supply_group="000007", base_date=1993),
            handle(supply_group="000007", key_revision=2, base_date=2014),
        ),
        (handle(supply_group="000009", key_type=1), handle()),
    ],
    ids=["revision", "tariff index", "four tokens", "base date", "default to unique"],
)
async def test_key_change_set_is_the_one_that_any_module_makes(key: Any, new: Any) -> None:
    async with served() as (_, module):
        assert await module.make_set_later(KeyChangeRequest(key, new), now=NOW) == INSIDE.make_set(
            KeyChangeRequest(key, new), now=NOW
        )


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (KeyChangeRequest(handle(), handle(body="9876543210")), Fault.KEY_MISMATCH),
        (KeyChangeRequest(handle(dkga=4), handle(11, 4)), Fault.KEY_MISMATCH),
        (KeyChangeRequest(handle(), handle(key_revision=2, key_expiry=100)), Fault.KEY_MISMATCH),
        (
            KeyChangeRequest(
                handle(supply_group="000007", key_revision=2), handle(supply_group="000007", base_date=1993)
            ),
            Fault.KEY_MISMATCH,
        ),
        (KeyChangeRequest(handle(), handle(key_revision=3)), Fault.KEY_MISSING),
        (KeyChangeRequest(handle(key_revision=3), handle()), Fault.KEY_MISSING),
        (CreditRequest(handle(supply_group="000009", key_type=1), 0, TID, 5, 1), Fault.DEFAULT_KEY_CREDIT),
        (ManagementRequest(handle(supply_group="000009", key_type=1), 5, TID, 5, 0), Fault.KEY_TYPE),
        (CreditRequest(handle(key_expiry=90), 0, TID, 5, 1), Fault.KEY_EXPIRED),
        (CreditRequest(handle(supply_group="555555"), 0, TID, 5, 1), Fault.KEY_MISSING),
        (CreditRequest(handle(), 4, TID, 0, 1), Fault.UNSETTLED),
    ],
)
async def test_what_must_not_be_asked_is_refused_without_asking(request_: Any, fault: Fault) -> None:
    async with served() as (server, module):
        with pytest.raises((ModuleRefused, KeyMissing)) as refusal:
            if isinstance(request_, KeyChangeRequest):
                await module.make_set_later(request_, now=NOW)
            else:
                await module.make_later(request_)
        assert refusal.value.fault is fault
        assert not server.calls


@pytest.mark.parametrize("unit", CurrencyUnit)
async def test_currency_is_asked_in_the_unit_that_the_setting_names(unit: CurrencyUnit) -> None:
    async with simulator(currency_unit=unit) as server:
        module = PrismModule(settings(server.port, currency_unit=unit))
        amount = currency_up(10_000_000)
        request = CreditRequest(handle(), 4, TID, amount.sign_exponent, amount.field)
        digits = await module.make_later(request)
        assert INSIDE.verify(digits, handle()) == CurrencyCredit(Resource.ELECTRICITY_CURRENCY, TID, amount)
        assert await module.verify_later(digits, handle()) == INSIDE.verify(digits, handle())
        await module.close()


async def test_meter_test_token_is_the_fixed_number() -> None:
    async with served() as (server, module):
        assert await module.meter_test_later(MeterTest.of("00")) == "56493153725450313471"
        assert await module.meter_test_later(MeterTest.of("0000")) == "02305843005052951967"
        before = sum(server.calls.values())
        assert await module.verify_later("5649 3153 7254 5031 3471", handle()) == MeterTest.of("00")
        assert sum(server.calls.values()) == before  # read here


@pytest.mark.parametrize(
    ("digits", "key", "fault"),
    [
        ("1234", handle(), Fault.FORMAT),
        ("9" * 20, handle(), Fault.FORMAT),
        ("00000000000000000000", handle(), Fault.CRC),
        (INSIDE.make(REQUESTS[0]), handle(body="9876543210"), Fault.CRC),
        (INSIDE.make(REQUESTS[0]), handle(key_expiry=90), Fault.KEY_EXPIRED),
        (INSIDE.make_set(KeyChangeRequest(handle(), handle(key_revision=2)), now=NOW)[0], handle(), Fault.UNSUPPORTED),
    ],
)
async def test_token_that_is_none_is_refused_by_name(digits: str, key: Any, fault: Fault) -> None:
    async with served() as (_, module):
        with pytest.raises(TokenError) as refusal:
            await module.verify_later(digits, key)
        assert refusal.value.fault is fault


async def test_module_satisfies_the_contract_and_must_be_waited_for() -> None:
    module = PrismModule(settings(1))
    assert isinstance(module, SecurityModule) and not module.answers_at_once and module.name == "prism"
    assert module.holds(handle()) and not module.holds(handle(key_revision=7))
    assert [key.kcv for key in module.status().keys] == [
        key.kcv for key in sorted(INSIDE.status().keys, key=lambda key: (key.supply_group, key.key_revision))
    ]
    assert module.status().real_meters_accept_ea07
    for ask in (
        lambda: module.make(REQUESTS[0]),
        lambda: module.make_many(REQUESTS),
        lambda: module.make_set(KeyChangeRequest(handle(), handle(key_revision=2)), now=NOW),
        lambda: module.verify("0" * 20, handle()),
    ):
        with pytest.raises(AssertionError):
            ask()


# --- asking again -----------------------------------------------------------------------------------------------------


async def test_asked_again_the_token_is_the_same_and_made_once() -> None:
    async with served() as (server, module):
        first = [await module.make_later(request) for request in REQUESTS[:4]]
        made = server.made.total()
        again = PrismModule(settings(server.port))  # another process: nothing remembered
        assert [await again.make_later(request) for request in REQUESTS[:4]] == first
        assert server.made.total() == made == 4
        await again.close()


@pytest.mark.parametrize("in_silence", [False, True], ids=["connection cut", "no answer"])
async def test_answer_that_was_lost_is_found_and_not_made_again(in_silence: bool) -> None:
    faults = Faults(answers_lost=1, lost_in_silence=in_silence)
    async with served(faults, answer_timeout_s=0.3) as (server, module):
        with pytest.raises(ModuleSilent) as silence:
            await module.make_later(REQUESTS[0])
        assert not isinstance(silence.value, ModuleAway)
        digits = await module.make_later(REQUESTS[0])
        assert isinstance(INSIDE.verify(digits, handle()), Credit)
        assert server.made.total() == 1
        assert server.calls["issueCreditToken"] == 1


async def test_key_change_set_that_was_lost_is_found() -> None:
    request = KeyChangeRequest(handle(), handle(key_revision=2))
    async with served(Faults(answers_lost=1)) as (server, module):
        with pytest.raises(ModuleSilent):
            await module.make_set_later(request, now=NOW)
        assert await module.make_set_later(request, now=NOW) == INSIDE.make_set(request, now=NOW)
        assert server.made.total() == 1


async def test_request_still_in_the_modules_queue_is_not_asked_a_second_time() -> None:
    # The module needs a second for a token and the client waits 0.2 s: the first call is carried out after the client
    # gave up. Asked for again in between, it would make a second token, with a TID moved on.
    async with served(Faults(tokens_per_s=1), answer_timeout_s=0.2, doubt_s=2.0) as (server, module):
        with pytest.raises(ModuleSilent):
            await module.make_later(REQUESTS[0])
        with pytest.raises(StillUnderWay):
            await module.make_later(REQUESTS[0])
        await asyncio.sleep(1.1)
        digits = await module.make_later(REQUESTS[0])
        assert INSIDE.verify(digits, handle()).tid == TID  # type: ignore[union-attr]
        assert server.made.total() == 1


async def test_request_that_never_arrived_is_asked_again_when_the_doubt_is_over() -> None:
    async with served(answer_timeout_s=0.3, doubt_s=0.3) as (server, module):
        await module.ping_later()
        await module.verify_later(INSIDE.make(REQUESTS[0]), handle())
        server.faults.answers_lost = 1
        server.faults.forgets_results = True
        with pytest.raises(ModuleSilent):
            await module.make_later(REQUESTS[0])
        with pytest.raises(StillUnderWay):
            await module.make_later(REQUESTS[0])
        await asyncio.sleep(0.65)
        # A module that forgot what it made moves the TID on: that token is not the one that was stored.
        with pytest.raises(ModuleRefused) as refusal:
            await module.make_later(REQUESTS[0])
        assert refusal.value.fault is Fault.MODULE_MISMATCH


async def test_same_request_twice_at_a_time_is_asked_once() -> None:
    async with served(Faults(delay_s=0.05), connections_max=4) as (server, module):
        answers = await asyncio.gather(*(module.make_later(REQUESTS[0]) for _ in range(4)), return_exceptions=True)
        assert sum(isinstance(answer, str) for answer in answers) == 1
        assert sum(isinstance(answer, StillUnderWay) for answer in answers) == 3
        assert server.made.total() == 1


async def test_same_request_whose_look_up_is_slow_does_not_overtake_the_first() -> None:
    async with served(connections_max=2) as (server, module):
        await module.make_later(REQUESTS[1])
        original, looked_up = server._answer, 0

        async def second_is_slow(frame: bytes) -> bytes:
            nonlocal looked_up
            answer = await original(frame)
            if b"fetchTokenResult" in frame:
                looked_up += 1
                await asyncio.sleep(0.1 if looked_up == 2 else 0)
            return answer

        server._answer = second_is_slow  # type: ignore[method-assign]
        answers = await asyncio.gather(*(module.make_later(REQUESTS[0]) for _ in range(2)), return_exceptions=True)
        assert sorted(type(answer).__name__ for answer in answers) == ["StillUnderWay", "str"]
        assert server.made.total() == 2


async def test_cancelled_call_leaves_no_late_answer_for_the_next() -> None:
    async with served(Faults(tokens_per_s=5)) as (server, module):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await module.make_later(REQUESTS[0])
        digits = await module.make_later(REQUESTS[1])
        assert INSIDE.verify(digits, REQUESTS[1].key).tid == REQUESTS[1].tid  # type: ignore[union-attr]
        found = await module.make_later(REQUESTS[0])
        assert INSIDE.verify(found, handle()).tid == TID  # type: ignore[union-attr]
        assert server.made.total() == 2


async def test_module_that_would_change_keys_on_its_own_is_told_not_to() -> None:
    # Group 123456 has revision 2 as well; a module may put a key change to it before the token.
    async with served() as (server, module):
        await module.make_later(REQUESTS[0])
        assert server.made.total() == 1


@given(st.data())
def test_message_id_has_the_shape_and_differs_with_every_input(data: st.DataObject) -> None:
    request = CreditRequest(
        handle(),
        data.draw(st.integers(0, 7)),
        data.draw(st.integers(0, 2**24 - 1).filter(lambda tid: tid % 1440 != 1)),
        data.draw(st.integers(0, 15)),
        data.draw(st.integers(0, 65535)),
    )
    name = message_id("c", request)
    assert len(name) <= 40 and name.isalnum() and name == message_id("c", replace(request))
    others = [
        replace(request, subclass=(request.subclass + 1) % 8),
        replace(request, rnd=(request.rnd + 1) % 16),
        replace(request, amount_field=(request.amount_field + 1) % 65536),
        replace(request, key=handle(key_revision=2)),
        replace(request, key=handle(tariff_index="02")),
        replace(request, key=handle(body="9876543210")),
    ]
    assert len({name, *(message_id("c", other) for other in others)}) == 7


# --- sessions and connections -----------------------------------------------------------------------------------------


async def test_session_is_kept_and_renewed_when_the_module_ends_it() -> None:
    async with served() as (server, module):
        for request in REQUESTS[:3]:
            await module.make_later(request)
        assert server.calls["signInWithPassword"] == 1
        server.end_sessions()
        await module.make_later(REQUESTS[3])
        assert server.calls["signInWithPassword"] == 2
        server.faults.calls_in_session = 1
        for request in REQUESTS[4:8]:
            await module.make_later(request)
        assert server.made.total() == 8


async def test_wrong_password_is_not_tried_again_and_again() -> None:
    async with served(password="wrong") as (server, module):
        for request in REQUESTS[:5]:
            with pytest.raises(ModuleAway):
                await module.make_later(request)
        assert server.calls["signInWithPassword"] == 1


async def test_connections_are_bounded_used_by_one_call_at_a_time_and_kept() -> None:
    async with served(Faults(delay_s=0.005), connections_max=3) as (server, module):
        keys = [handle(body=f"{number:010d}") for number in range(40)]
        digits = await asyncio.gather(*(module.make_later(CreditRequest(key, 0, TID, 5, 100)) for key in keys))
        for key, text in zip(keys, digits, strict=True):
            assert INSIDE.verify(text, key).tid == TID  # type: ignore[union-attr]
        assert server.reentered == 0
        assert server.connections == server.connections_most == 3


async def test_queue_is_bounded() -> None:
    async with served(Faults(delay_s=0.05), waiting_max=2) as (_, module):
        keys = [handle(body=f"{number:010d}") for number in range(6)]
        answers = await asyncio.gather(
            *(module.make_later(CreditRequest(key, 0, TID, 5, 100)) for key in keys), return_exceptions=True
        )
        assert sum(isinstance(answer, str) for answer in answers) == 3
        assert sum(isinstance(answer, ModuleFull) for answer in answers) == 3


async def test_connection_that_was_cut_while_idle_is_replaced() -> None:
    async with served() as (server, module):
        await module.make_later(REQUESTS[0])
        port = server.port
        await server.stop()
        with pytest.raises(ModuleAway):
            await module.make_later(REQUESTS[1])
        async with simulator(port=port) as other:
            await module.make_later(REQUESTS[1])
            assert other.made.total() == 1
        await server.start()  # so that the block can stop it


async def test_idle_connection_is_not_used_when_it_is_old() -> None:
    async with served(idle_max_s=0.05) as (server, module):
        await module.ping_later()
        await asyncio.sleep(0.1)
        await module.ping_later()
        assert server.calls["ping"] == server.connections_opened == 2


async def test_connection_that_was_cut_unseen_is_replaced_within_the_call() -> None:
    async with served() as (server, module):
        await module.ping_later()
        original = server._answer

        async def nothing_once(frame: bytes) -> bytes:
            server._answer = original  # type: ignore[method-assign]
            raise EOFError

        server._answer = nothing_once  # type: ignore[method-assign]
        await module.make_later(REQUESTS[0])
        assert server.connections_opened == 2


async def test_silent_module_is_given_up_in_time_and_nothing_was_made() -> None:
    async with served(Faults(silent=True), answer_timeout_s=0.1) as (server, module):
        clock = asyncio.get_running_loop().time
        began = clock()
        with pytest.raises(ModuleAway):
            await module.make_later(REQUESTS[0])
        assert clock() - began < 1
        server.faults.silent = False
        await module.make_later(REQUESTS[0])


async def test_module_that_is_not_there_is_away() -> None:
    async with simulator() as server:
        port = server.port
    with pytest.raises(ModuleAway):
        await PrismModule(settings(port)).make_later(REQUESTS[0])


async def test_report_tells_speed_drift_and_alerts(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(tokens_per_s=3, clock_drift_s=-2450, alerts=["ESm", "6007 2712 3456 7890 1234"])
    async with served(faults) as (_, module):
        with caplog.at_level(logging.WARNING, "sts"):
            report = await module.report_later()
        assert (report.tokens_per_s, report.clock_drift_s) == (3, -2450)
        assert report.alerts == ("ESm", "unreadable")
        assert {"a security module has alerts", "a security module's clock is out"} <= set(caplog.messages)
        assert await module.ping_later() < 1


async def test_slow_module_makes_three_tokens_a_second_and_the_loop_goes_on() -> None:
    async with served(Faults(tokens_per_s=3), connections_max=2) as (_, module):
        clock = asyncio.get_running_loop().time
        began, beats = clock(), 0
        keys = [handle(body=f"{number:010d}") for number in range(3)]
        work = asyncio.gather(*(module.make_later(CreditRequest(key, 0, TID, 5, 100)) for key in keys))
        while not work.done():
            await asyncio.sleep(0.01)
            beats += 1
        assert len(set(await work)) == 3
        assert 0.9 < clock() - began < 2
        assert beats > 40


# --- TLS --------------------------------------------------------------------------------------------------------------


def _secure(server: PrismSimulator, **changes: Any) -> PrismModule:
    facts = dict(host="localhost", plain_on_loopback=False, ca_file=CERTIFICATES / "authority.pem")
    return PrismModule(settings(server.port, **{**facts, **changes}))


def _behind(name: str, **changes: Any) -> PrismSimulator:
    return simulator(
        certificate_file=CERTIFICATES / f"{name}.pem", key_file=CERTIFICATES / f"{name}-key.pem", **changes
    )


async def test_tokens_come_over_tls() -> None:
    async with _behind("module") as server:
        for host in ("localhost", "127.0.0.1"):
            module = _secure(server, host=host)
            assert isinstance(INSIDE.verify(await module.make_later(REQUESTS[0]), handle()), Credit)
            await module.close()


@pytest.mark.parametrize(
    ("certificate", "changes"),
    [
        ("module", {"ca_file": CERTIFICATES / "stranger.pem"}),
        ("module", {"ca_file": None}),
        ("elsewhere", {}),
        ("module", {"server_name": "module.example"}),
    ],
    ids=["another authority", "the system's authorities", "another host", "another name expected"],
)
async def test_certificate_that_is_wrong_is_refused(certificate: str, changes: dict[str, Any]) -> None:
    async with _behind(certificate) as server:
        with pytest.raises(ModuleAway, match="certificate was refused"):
            await _secure(server, **changes).make_later(REQUESTS[0])
        assert not server.calls


async def test_name_in_the_certificate_may_be_told() -> None:
    async with _behind("elsewhere") as server:
        module = _secure(server, server_name="module.example")
        assert await module.ping_later() < 1
        await module.close()


async def test_module_that_wants_a_clients_certificate_gets_it() -> None:
    async with _behind("module", client_ca_file=CERTIFICATES / "authority.pem") as server:
        module = _secure(
            server,
            client_certificate_file=CERTIFICATES / "client.pem",
            client_key_file=CERTIFICATES / "client-key.pem",
        )
        assert await module.ping_later() < 1
        await module.close()
        with pytest.raises(ModuleAway):
            await _secure(server).ping_later()


async def test_plain_server_is_no_tls_server_and_the_other_way_round() -> None:
    async with simulator() as server:
        with pytest.raises(ModuleAway):
            await _secure(server, connect_timeout_s=0.3).ping_later()
    async with _behind("module") as server:
        with pytest.raises(ModuleAway):
            await PrismModule(settings(server.port, answer_timeout_s=0.3)).ping_later()


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "module.example"},
        {"host": "192.0.2.1"},
        {"host": "localhost.example"},
        {"port": 0},
        {"keys": (PrismKey("123456", 1), PrismKey("123456", 1, dkga=4))},
        {"connections_max": 0},
        {"answer_timeout_s": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModuleRefused):
        settings(**{"port": 1, **changes})


@pytest.mark.parametrize(
    "make", [lambda: PrismKey("123456", 1, kcv="xyz"), lambda: PrismKey("123456", 1, counts_from_minutes_east=900)]
)
def test_key_that_cannot_be_is_refused(make: Any) -> None:
    with pytest.raises(ModuleRefused):
        make()


def test_files_that_are_no_certificates_are_refused_at_once() -> None:
    with pytest.raises((OSError, ssl.SSLError)):
        PrismModule(settings(1, plain_on_loopback=False, ca_file=CERTIFICATES / "README.md"))


def test_simulator_without_tls_stays_on_loopback() -> None:
    with pytest.raises(ValueError, match="loopback"):
        simulator(host="0.0.0.0")


async def test_simulator_serves_until_it_is_cancelled() -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def started(server: PrismSimulator) -> None:
        port.set_result(server.port)

    task = asyncio.create_task(
        serve(INSIDE, SimulatorSettings(account=Account(password=PASSWORD)), now=now, started=started)
    )
    module = PrismModule(settings(await port))
    assert isinstance(INSIDE.verify(await module.make_later(REQUESTS[-4]), handle(11, 4)), ClearTamper)
    assert isinstance(INSIDE.verify(await module.make_later(REQUESTS[7]), handle()), SetMaximumPower)
    await module.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
