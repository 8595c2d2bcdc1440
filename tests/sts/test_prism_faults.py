"""Every way in which a module fails, and what the caller is told: error codes, lies, noise; and no secret anywhere.

The first table covers every code of the interface; a test holds it against `CODES`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts.errors import Fault, StsError, TokenError
from sts.modules.contract import (
    CreditRequest,
    KeyChangeRequest,
    KeyMissing,
    ManagementRequest,
    ModuleRefused,
    ModuleSilent,
)
from sts.modules.pool import ModuleAway
from sts.modules.prism.client import PrismModule
from sts.modules.prism.codes import CODES, Meaning, meaning_of, shown
from sts.modules.prism.simulated import Faults, Lie
from sts.tokens import MeterTest
from tests.sts.keys import NOW, handle
from tests.sts.prism import INSIDE, KEYS, PASSWORD, served, settings

REQUEST: Final = CreditRequest(handle(), 0, 6_396_480, 5, 256)
ENGINEERING: Final = ManagementRequest(handle(), 0, 6_396_490, 5, 100)
CHANGE: Final = KeyChangeRequest(handle(), handle(key_revision=2))

# fmt: off
# What a caller is told if the issue call itself throws the code. Nothing was made: the simulator refuses before.
ISSUE: Final[list[tuple[str, type[StsError], Fault]]] = [
    ("EAuthentication.Permission", ModuleAway,    Fault.SILENT),
    ("EAuthentication.Token",      ModuleAway,    Fault.SILENT),
    ("ECacheMiss",                 ModuleAway,    Fault.SILENT),
    ("EKeystore.NotFound",         KeyMissing,    Fault.KEY_MISSING),
    ("EParamRange",                ModuleRefused, Fault.OUT_OF_RANGE),
    ("EPrefRange",                 ModuleRefused, Fault.OUT_OF_RANGE),
    ("EService",                   ModuleAway,    Fault.SILENT),
    ("EService.Disabled",          ModuleAway,    Fault.SILENT),
    ("ESignin.Authentication",     ModuleAway,    Fault.SILENT),
    ("ESignin.Permission",         ModuleAway,    Fault.SILENT),
    ("ESignin.Realm",              ModuleAway,    Fault.SILENT),
    ("ESignin.Subject",            ModuleAway,    Fault.SILENT),
    ("ESignin.Version",            ModuleAway,    Fault.SILENT),
    ("ESm",                        ModuleAway,    Fault.SILENT),
    ("ESts.DrnOrPan",              ModuleRefused, Fault.FORMAT),
    ("ESts.DrnOrPan.CheckDigit",   ModuleRefused, Fault.CHECK_DIGIT),
    ("ESts.IdRecord",              ModuleRefused, Fault.FORMAT),
    ("ESts.IdRecord.Expired",      ModuleRefused, Fault.OUT_OF_RANGE),
    ("ESts.VkBeforeBdt",           ModuleRefused, Fault.BEFORE_BASE_DATE),
    ("ESts.VkExpired",             ModuleRefused, Fault.KEY_EXPIRED),
    ("EVerify.Ok",                 ModuleAway,    Fault.SILENT),
    ("EVerify.Crc",                ModuleRefused, Fault.CRC),
    ("EVerify.DdtkCredit",         ModuleRefused, Fault.DEFAULT_KEY_CREDIT),
    ("EVerify.KeyExpired",         ModuleRefused, Fault.KEY_EXPIRED),
    ("ESts.DrnOrPan.Newer",        ModuleRefused, Fault.FORMAT),
    ("ENewer.Thing",               ModuleAway,    Fault.SILENT),
    ("",                           ModuleAway,    Fault.SILENT),
]
# fmt: on


def test_the_table_covers_every_code() -> None:
    assert {code for code, _, _ in ISSUE} >= set(CODES)


@pytest.mark.parametrize(("code", "kind", "fault"), ISSUE, ids=[code or "no code" for code, _, _ in ISSUE])
async def test_code_of_an_issue_call_becomes(code: str, kind: type[StsError], fault: Fault) -> None:
    async with served() as (server, module):
        asks: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
            ("issueCreditToken", lambda: module.make_later(REQUEST)),
            ("issueMseToken", lambda: module.make_later(ENGINEERING)),
            ("issueKeyChangeTokens", lambda: module.make_set_later(CHANGE, now=NOW)),
        ]
        for method, ask in asks:
            server.faults.errors = {method: code}
            with pytest.raises(kind) as error:
                await ask()
            assert error.value.fault is fault
        assert server.made.total() == 0
        server.faults.errors = {}
        # The module is well again, and so is the request: nothing is left in doubt.
        await module.make_later(REQUEST)


@pytest.mark.parametrize("code", ["EService", "ESm", "EService.Disabled", "ENewer", "EAuthentication.Permission"])
@pytest.mark.parametrize("method", ["fetchTokenResult", "signInWithPassword"])
async def test_failure_before_a_token_is_asked_for_leaves_no_doubt(method: str, code: str) -> None:
    async with served() as (server, module):
        server.faults.errors = {method: code}
        with pytest.raises(ModuleAway):
            await module.make_later(REQUEST)
        assert server.calls["issueCreditToken"] == 0


async def test_failure_in_the_middle_is_unknown_while_the_module_cannot_be_asked() -> None:
    async with served() as (server, module):
        server.faults.errors = {"issueCreditToken": "EService"}
        original = server._module.admit

        def admit(call: Any) -> Any:
            refusal = original(call)
            if call.method == "issueCreditToken":
                server.faults.errors["fetchTokenResult"] = "EService"
            return refusal

        server._module.admit = admit  # type: ignore[method-assign]
        with pytest.raises(ModuleSilent) as silence:
            await module.make_later(REQUEST)
        assert not isinstance(silence.value, ModuleAway)


async def test_module_out_of_service_is_away_and_comes_back() -> None:
    async with served(Faults(out_of_service=True)) as (server, module):
        asks: list[Callable[[], Awaitable[Any]]] = [
            lambda: module.make_later(REQUEST),
            lambda: module.make_set_later(CHANGE, now=NOW),
            lambda: module.verify_later("0" * 20, handle()),
            lambda: module.meter_test_later(MeterTest.of("00")),
            module.report_later,
        ]
        for ask in asks:
            with pytest.raises(ModuleAway):
                await ask()
        assert await module.ping_later() < 1
        server.faults.out_of_service = False
        await module.make_later(REQUEST)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("EVerify.Crc", Fault.CRC),
        ("EVerify.DdtkCredit", Fault.DEFAULT_KEY_CREDIT),
        ("EVerify.KeyExpired", Fault.KEY_EXPIRED),
    ],
)
async def test_verify_result_becomes(code: str, fault: Fault) -> None:
    # As a result it is about the token; thrown, it is the module's refusal.
    assert meaning_of(code).meaning is Meaning.REFUSED and meaning_of(code).fault is fault
    async with served(Faults(errors={"verifyToken": code})) as (_, module):
        with pytest.raises(ModuleRefused) as refusal:
            await module.verify_later("0" * 20, handle())
        assert refusal.value.fault is fault


async def test_credit_under_a_default_key_is_refused_when_it_is_read() -> None:
    key = handle(supply_group="000009", key_type=1)
    async with served() as (_, module):
        change = await module.make_set_later(KeyChangeRequest(key, handle()), now=NOW)
        assert len(change) == 2
        with pytest.raises(TokenError):
            await module.verify_later("0" * 20, key)


# --- lies -------------------------------------------------------------------------------------------------------------


ABOUT_KEY_CHANGES: Final = (Lie.NEW_EXPIRY, Lie.NEW_REVISION, Lie.ROLLOVER, Lie.NO_ADVICE)


@pytest.mark.parametrize("lie", [lie for lie in Lie if lie not in ABOUT_KEY_CHANGES])
async def test_lying_module_is_found_out_and_its_token_not_used(lie: Lie, caplog: pytest.LogCaptureFixture) -> None:
    async with served(Faults(lie=lie)) as (server, module):
        for request in (REQUEST, ENGINEERING):
            with pytest.raises(ModuleRefused) as refusal:
                await module.make_later(request)
            assert refusal.value.fault is Fault.MODULE_MISMATCH
            # Asked again the same lie comes from the module's memory, and is found out again.
            with pytest.raises(ModuleRefused):
                await module.make_later(request)
        alarms = [entry for entry in caplog.records if entry.levelno == logging.CRITICAL]
        assert len(alarms) == 4
        assert server.made.total() == 2
        _assert_no_secret(caplog, [str(refusal.value)], server)


@pytest.mark.parametrize("lie", [lie for lie in Lie if lie not in (Lie.AMOUNT, Lie.TID, Lie.RESERVED_TID)])
async def test_lie_about_a_key_change_is_found_out(lie: Lie) -> None:
    async with served(Faults(lie=lie)) as (_, module):
        with pytest.raises(ModuleRefused) as refusal:
            await module.make_set_later(CHANGE, now=NOW)
        assert refusal.value.fault is Fault.MODULE_MISMATCH


@pytest.mark.parametrize(
    "lie",
    [Lie.METER, Lie.ISSUER, Lie.SUPPLY_GROUP, Lie.KEY_REVISION, Lie.TARIFF_INDEX, Lie.CHECK_VALUE, Lie.OTHER_DIGITS],
)
async def test_lie_about_a_token_that_is_verified_is_found_out(lie: Lie) -> None:
    async with served() as (server, module):
        digits = await module.make_later(REQUEST)
        server.faults.lie = lie
        with pytest.raises(ModuleRefused) as refusal:
            await module.verify_later(digits, handle())
        assert refusal.value.fault is Fault.MODULE_MISMATCH


async def test_lie_about_a_meter_test_is_found_out() -> None:
    async with served(Faults(lie=Lie.OTHER_DIGITS)) as (_, module):
        with pytest.raises(ModuleRefused) as refusal:
            await module.meter_test_later(MeterTest.of("00"))
        assert refusal.value.fault is Fault.MODULE_MISMATCH


async def test_key_with_another_check_value_is_found_out() -> None:
    wrong = tuple(type(key)(key.supply_group, key.key_revision, kcv="0000ff") for key in KEYS[:1])
    async with served(keys=wrong) as (_, module):
        with pytest.raises(ModuleRefused) as refusal:
            await module.make_later(REQUEST)
        assert refusal.value.fault is Fault.MODULE_MISMATCH


async def test_module_that_uses_its_own_clock_is_found_out() -> None:
    async with served(Faults(ignores_external_clock=True, clock_drift_s=2450)) as (_, module):
        with pytest.raises(ModuleRefused) as refusal:
            await module.make_later(REQUEST)
        assert refusal.value.fault is Fault.MODULE_MISMATCH


async def test_clock_of_the_module_does_not_matter_while_it_is_told_the_time() -> None:
    async with served(Faults(clock_drift_s=-86_400)) as (_, module):
        assert INSIDE.verify(await module.make_later(REQUEST), handle()).tid == REQUEST.tid  # type: ignore[union-attr]


# --- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        Faults(hangs_up=True),
        Faults(silent=True),
        Faults(rejects=True),
        Faults(noise=b""),
        Faults(noise=b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Faults(noise=bytes(300)),
        Faults(noise=b"\x80\x01\x00\x02\x00\x00\x00\x10fetchTokenResult\x00\x00\x00\x01\x00"),
        Faults(noise=bytes(1 << 20)),
    ],
    ids=["hangs up", "silent", "rejects", "empty", "HTTP", "zeros", "no result", "a great frame"],
)
async def test_unreadable_module_is_away_and_the_next_connection_is_new(faults: Faults) -> None:
    async with served(faults, answer_timeout_s=0.2) as (server, module):
        with pytest.raises(ModuleAway):
            await module.make_later(REQUEST)
        server.faults.hangs_up = server.faults.silent = server.faults.rejects = False
        server.faults.noise = None
        assert isinstance(await module.make_later(REQUEST), str)


async def test_frame_longer_than_any_is_not_read() -> None:
    ended = asyncio.Event()

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(b"\x7f\xff\xff\xff" + bytes(1000))
        with suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
        ended.set()

    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        module = PrismModule(settings(server.sockets[0].getsockname()[1]))
        with pytest.raises(ModuleAway, match="longer than any"):
            await module.ping_later()
        await ended.wait()
        await asyncio.sleep(0)


@given(st.text(max_size=60))
def test_any_text_may_come_as_a_code(code: str) -> None:
    assert meaning_of(code).meaning in Meaning
    assert shown(code) in (code, "unreadable")
    assert not any(character.isdigit() for character in shown(code))


# --- secrets ----------------------------------------------------------------------------------------------------------


def _assert_no_secret(caplog: pytest.LogCaptureFixture, texts: list[str], server: Any) -> None:
    tokens = [token.tokenDec for tokens in server._module._results.values() for token in tokens]
    seen = "\n".join([*texts, *(str(vars(entry)) for entry in caplog.records)])
    for secret in (PASSWORD, "session-1", *tokens):
        assert secret not in seen


async def test_no_secret_stands_in_a_log_an_exception_or_a_repr(caplog: pytest.LogCaptureFixture) -> None:
    texts: list[str] = []
    with caplog.at_level(logging.DEBUG):
        async with served(answer_timeout_s=0.3) as (server, module):
            texts += [repr(module), repr(settings(1)), repr(vars(module)["_settings"])]
            digits = await module.make_later(REQUEST)
            failures: list[dict[str, Any]] = [
                {"errors": {"verifyToken": "ESm"}},
                {"errors": {"fetchTokenResult": "EAuthentication.Token"}},
                {"errors": {"signInWithPassword": "ESignin.Authentication", "fetchTokenResult": "EParamRange"}},
                {"hangs_up": True},
                {"lie": Lie.TID},
            ]
            for failure in failures:
                for name, content in failure.items():
                    setattr(server.faults, name, content)
                for ask in (
                    lambda: module.make_later(ENGINEERING),
                    lambda: module.make_later(REQUEST),
                    lambda: module.verify_later(digits, handle()),
                ):
                    try:
                        await ask()
                    except StsError as error:
                        texts += [str(error), repr(error), str(error.__context__), str(error.__cause__)]
                server.faults.errors, server.faults.hangs_up, server.faults.lie = {}, False, None
    assert len(texts) > 20
    _assert_no_secret(caplog, texts, server)
