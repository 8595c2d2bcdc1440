"""A security module behind a Prism-style TokenApi, as `SecurityModule`. Shell: waits for the network.

How a token is made, each time the same way:

1. The request's message id is looked up with `fetchTokenResult`. An earlier attempt, of this process or one before it,
   may have made the token; then that is the answer. This costs one short call a token and is what makes asking again
   safe: the module draws the random nibble, so a second token would have other digits.
2. Only on ECacheMiss is the token asked for, under the same message id.
3. The answer is held against the request (`orders`). If any part differs, the token is thrown away: MODULE_MISMATCH.

If the module falls silent in step 2 the request is in doubt: it may still be in the module's queue, where step 1 does
not see it. So for `doubt_s` after that a cache miss is answered with StillUnderWay instead of asking again.

A session is opened when it is first needed and kept; EAuthentication.Token renews it once. A failed sign-in is not
tried again for `sign_in_rest_s`, so that a wrong password does not lock the account.
No token, password or session stands in a log, repr or exception; the module's own sentences are not repeated at all,
because they quote what was sent.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from sts import bits
from sts.decode import meter_test_digits, token_from
from sts.errors import Fault, TokenError
from sts.meterkey import MeterKey
from sts.modules.contract import (
    KeyChangeRequest,
    KeyMissing,
    ModuleRefused,
    ModuleSilent,
    ModuleStatus,
    TokenRequest,
)
from sts.modules.pool import ModuleAway, ModuleFull, StillUnderWay
from sts.modules.prism.codes import Code, Meaning, meaning_of, shown
from sts.modules.prism.link import Connection, NoAnswer, NotReached, tls_context
from sts.modules.prism.orders import Mismatch, Order, key_change_order, meter_config, token_order, verified
from sts.modules.prism.settings import PrismSettings
from sts.modules.prism.tokenapi import (
    API_VERSION,
    Call,
    FetchTokenResult,
    GetStatus,
    IssueMeterTestToken,
    MeterTestToken,
    NodeStatus,
    Ping,
    SessionOptions,
    SignedCall,
    SignInResult,
    SignInWithPassword,
    Token,
    VerifyResult,
    VerifyToken,
)
from sts.modules.prism.wire import Thrown
from sts.tokens import MeterTest
from sts.tokens import Token as StsToken

log = logging.getLogger(__name__)

DOUBTS_MAX: Final = 10_000
_ECHO: Final = "prepaid-gateway"


@dataclass(frozen=True, slots=True)
class PrismReport:
    """What a module says about itself, for a health page. Texts are the module's; show them, don't trust them."""

    nodes: tuple[NodeStatus, ...]
    tokens_per_s: float | None
    """The slowest node's own figure, if it gives one (`smpd.Tps`)."""
    clock_drift_s: float | None
    """The largest drift of a node's own clock, if it gives one."""
    alerts: tuple[str, ...]
    """Codes of the nodes' alerts."""
    vends_until: datetime | None = None
    """The day after which a node stops vending (`smcq.InhibitVendDateUtc`), the earliest of all nodes."""


class _Held:
    """A place in the pool, and the connection that stands in it."""

    __slots__ = ("connection", "is_fresh")

    def __init__(self, connection: Connection, is_fresh: bool) -> None:
        self.connection = connection
        self.is_fresh = is_fresh


class PrismModule:
    """Satisfies `SecurityModule`; only the `_later` methods may be called.

    Reads the certificate files when it is made: OSError or ssl.SSLError pass through.
    """

    def __init__(self, settings: PrismSettings) -> None:
        self._settings: Final = settings
        self._context: Final = tls_context(settings)
        self._idle: list[Connection] = []
        self._places: Final = asyncio.Semaphore(settings.connections_max)
        self._inside = 0
        self._session = ""
        self._signing_in: Final = asyncio.Lock()
        self._sign_in_after = float("-inf")
        self._under_way: set[str] = set()
        self._doubts: OrderedDict[str, float] = OrderedDict()  # message id -> loop time until which it may be under way
        self._calls = 0

    def __repr__(self) -> str:
        return f"<PrismModule {self._settings.name}>"

    @property
    def name(self) -> str:
        """The module's name in settings, metrics and the audit log."""
        return self._settings.name

    @property
    def answers_at_once(self) -> bool:
        """False: it is asked over the network."""
        return False

    def holds(self, key: MeterKey) -> bool:
        """Is the vending key among those that the settings say the module has?"""
        return self._settings.key_for(key) is not None

    def status(self) -> ModuleStatus:
        """What the settings say; `report_later` asks the module itself."""
        return ModuleStatus(
            name=self._settings.name,
            table_set=self._settings.table_set,
            real_meters_accept_ea07=self._settings.table_set != "sample",
            keys=tuple(self._settings.held[name].status for name in sorted(self._settings.held)),
        )

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """Not to be called: this module must be waited for."""
        _must_wait()

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        """Not to be called: this module must be waited for."""
        _must_wait()

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """Not to be called: this module must be waited for."""
        _must_wait()

    def verify(self, digits: str, key: MeterKey) -> StsToken:
        """Not to be called: this module must be waited for."""
        _must_wait()

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """The token of a request, 20 digits, the same however often it is asked.

        `now` is not used: the module holds the vending key's dates against its own clock.
        Raises ModuleRefused, KeyMissing, ModuleAway if nothing was made, ModuleSilent if that is unknown.
        """
        return (await self._make(token_order(request, self._settings)))[0]

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """The tokens of a key change: 2 for EA07, 4 for EA11, first section first. Errors as `make_later`."""
        return await self._make(key_change_order(request, self._settings))

    async def verify_later(self, digits: str, key: MeterKey) -> StsToken:
        """What a token says under this key. The random nibble is not told: it is 0 in the answer.

        A class 1 token is read here, without the module. Raises TokenError as the contract says, and UNSUPPORTED for
        a key-change section; KeyMissing, ModuleRefused; ModuleAway, for nothing is made.
        """
        plain = bits.plain(digits)
        token_class, _ = bits.split(plain)
        if token_class not in (0, 2):
            return token_from(plain, None)
        if not self.holds(key):
            raise KeyMissing(key)
        config = meter_config(key, self._settings)
        async with self._connection() as held:
            result: VerifyResult = await self._signed(
                held,
                lambda session: VerifyToken(
                    messageId=self._message_id(), accessToken=session, meterConfig=config, tokenDec=plain
                ),
                key,
            )
        code = meaning_of(result.validationResult)
        if code.meaning is Meaning.REFUSED:
            raise TokenError(code.fault, code.sentence)
        if code.meaning is not Meaning.VALID:
            self._log_code(result.validationResult, "verifyToken")
            raise ModuleAway(f"module {self.name}: {code.sentence}")
        if result.token is None:
            raise TokenError(Fault.UNSUPPORTED, "valid, but the module does not tell what it says")
        try:
            return verified(result.token, plain, key, self._settings)
        except Mismatch as mismatch:
            raise self._lied(mismatch, key) from None

    async def meter_test_later(self, test: MeterTest) -> str:
        """The 20 digits of a class 1 token. They are fixed numbers, so the answer is held against our own."""
        own = meter_test_digits(test.manufacturer, test.control)
        subclass = 0 if len(test.manufacturer) == 2 else 1
        async with self._connection() as held:
            answer: MeterTestToken = await self._signed(
                held,
                lambda session: IssueMeterTestToken(
                    messageId=self._message_id(),
                    accessToken=session,
                    subclass=subclass,
                    control=test.control,
                    mfrcode=int(test.manufacturer),
                ),
                None,
            )
        if answer.tokenDec != own:
            raise self._lied(Mismatch("meter test token"), None)
        return own

    async def ping_later(self) -> float:
        """Seconds that an echo takes; no session needed. Raises ModuleAway."""
        clock = asyncio.get_running_loop().time
        async with self._connection() as held:
            began = clock()
            echo = await self._plain(held, Ping(sleepMs=0, echo=_ECHO))
        if echo != _ECHO:
            raise ModuleAway(f"module {self.name}: the echo is not what was sent")
        return clock() - began

    async def report_later(self) -> PrismReport:
        """What the module says about itself; a clock far out and every alert are logged. Raises ModuleAway."""
        async with self._connection() as held:
            nodes: list[NodeStatus] = await self._signed(
                held, lambda session: GetStatus(messageId=self._message_id(), accessToken=session), None
            )
        drifts = _numbers(nodes, "RtcDriftSeconds")
        speeds = _numbers(nodes, "Tps")
        report = PrismReport(
            nodes=tuple(nodes),
            tokens_per_s=min(speeds, default=None),
            clock_drift_s=max(drifts, key=abs, default=None),
            alerts=tuple(shown(alert.eCode) for node in nodes for alert in node.alerts),
            vends_until=min(_instants(nodes, "InhibitVendDateUtc"), default=None),
        )
        if report.alerts:
            log.warning(
                "a security module has alerts", extra={"security_module": self.name, "codes": list(report.alerts)}
            )
        if report.clock_drift_s is not None and abs(report.clock_drift_s) > self._settings.clock_drift_max_s:
            log.warning(
                "a security module's clock is out",
                extra={"security_module": self.name, "drift_s": report.clock_drift_s},
            )
        return report

    async def close(self) -> None:
        """Close idle connections; those at work close when their call ends or is cancelled."""
        while self._idle:
            self._idle.pop().close()
        await asyncio.sleep(0)

    # --- a token ------------------------------------------------------------------------------------------------------

    async def _make(self, order: Order) -> tuple[str, ...]:
        name = order.message_id
        if name in self._under_way:
            raise StillUnderWay(f"module {self.name}: the same request is being asked already")
        self._under_way.add(name)
        try:
            async with self._connection() as held:
                tokens = await self._found(held, order)
                if tokens is None:
                    self._check_doubt(name)
                    tokens = await self._asked(held, order)
                self._doubts.pop(name, None)
        finally:
            self._under_way.discard(name)
        try:
            return order.digits(tokens)
        except Mismatch as mismatch:
            raise self._lied(mismatch, order.key) from None

    async def _found(self, held: _Held, order: Order) -> list[Token] | None:
        """What an earlier attempt made; None if the module carried out none."""
        try:
            tokens: list[Token] = await self._signed(
                held,
                lambda session: FetchTokenResult(
                    messageId=self._message_id(), accessToken=session, reqMessageId=order.message_id
                ),
                order.key,
            )
        except _NotMade:
            return None
        if order.message_id in self._doubts:
            log.info(
                "a token was found that a security module had made in silence", extra={"security_module": self.name}
            )
        return tokens

    def _check_doubt(self, name: str) -> None:
        doubted_until = self._doubts.pop(name, None)
        if doubted_until is not None and doubted_until > asyncio.get_running_loop().time():
            self._doubts[name] = doubted_until
            raise StillUnderWay(f"module {self.name}: an earlier call may still be on its way")

    async def _asked(self, held: _Held, order: Order) -> list[Token]:
        """Ask for the token; from the first byte sent until an answer is read the request is in doubt."""
        settings = self._settings
        doubted_until = asyncio.get_running_loop().time() + settings.answer_timeout_s + settings.doubt_s
        self._doubts[order.message_id] = doubted_until
        if len(self._doubts) > DOUBTS_MAX:
            self._doubts.popitem(last=False)
        try:
            tokens: list[Token] = await self._call_signed(held, order.call)
        except NoAnswer as silence:
            raise ModuleSilent(f"module {self.name}: {silence}") from None
        except ModuleAway:
            # The session was over, so nothing was made, and signing in again failed.
            self._doubts.pop(order.message_id, None)
            raise
        except Thrown as thrown:
            # An answer was read, so nothing is under way any more.
            self._doubts.pop(order.message_id, None)
            code = meaning_of(thrown.code)
            if code.meaning is not Meaning.UNKNOWN:
                self._raise(code, thrown.code, order.key, order.message_id)
            self._log_code(thrown.code, "issue")
            found = await self._found_after_failure(held, order)
            if found is None:
                raise ModuleAway(f"module {self.name}: {code.sentence}; no token was made") from None
            return found
        return tokens

    async def _found_after_failure(self, held: _Held, order: Order) -> list[Token] | None:
        try:
            return await self._found(held, order)
        except ModuleAway as silence:
            raise ModuleSilent(f"{silence.sentence}; whether a token was made is unknown") from None

    def _lied(self, mismatch: Mismatch, key: MeterKey | None) -> ModuleRefused:
        """An alarm, and the refusal that goes to the caller. The token is in neither."""
        log.critical(
            "a security module's answer is not what was asked; the token is not used",
            extra={
                "security_module": self.name,
                "meter": key.drn if key is not None else None,
                "part": mismatch.part,
                "expected": mismatch.expected,
                "got": mismatch.got,
            },
        )
        return ModuleRefused(
            Fault.MODULE_MISMATCH, f"module {self.name}: {mismatch.part} in its answer differs from what was asked"
        )

    # --- calls --------------------------------------------------------------------------------------------------------

    async def _signed(self, held: _Held, make: Callable[[str], SignedCall], key: MeterKey | None) -> Any:
        """A call in a session that changes nothing at the module, so that it may be asked again.

        Raises _NotMade, ModuleRefused, KeyMissing, ModuleAway.
        """
        try:
            try:
                return await self._call_signed(held, make)
            except NoAnswer:
                if held.is_fresh:
                    raise
                # A connection that was idle may have been cut long ago: only a new one tells.
                await self._renew(held)
                return await self._call_signed(held, make)
        except NoAnswer as silence:
            raise ModuleAway(f"module {self.name}: {silence}") from None
        except Thrown as thrown:
            self._raise(meaning_of(thrown.code), thrown.code, key)

    async def _call_signed(self, held: _Held, make: Callable[[str], SignedCall]) -> Any:
        """The call, after a sign-in if there is no session or the module says that it is over."""
        session = await self._signed_in(held, over="")
        try:
            return await self._call(held, make(session))
        except Thrown as thrown:
            if meaning_of(thrown.code).meaning is not Meaning.SIGN_IN:
                raise
        session = await self._signed_in(held, over=session)
        return await self._call(held, make(session))

    async def _signed_in(self, held: _Held, over: str) -> str:
        """A session other than the one that is over; one sign-in at a time. Raises NoAnswer, ModuleAway."""
        async with self._signing_in:
            if self._session and self._session != over:
                return self._session
            self._session = ""
            clock = asyncio.get_running_loop().time
            if clock() < self._sign_in_after:
                raise ModuleAway(f"module {self.name}: signing in failed lately and is not tried again yet")
            settings = self._settings
            try:
                result: SignInResult = await self._call(
                    held,
                    SignInWithPassword(
                        messageId=self._message_id(),
                        realm=settings.realm,
                        username=settings.username,
                        password=settings.password,
                        sessionOpts=SessionOptions(version=API_VERSION, culture="en"),
                    ),
                )
            except Thrown as thrown:
                code = meaning_of(thrown.code)
                self._log_code(thrown.code, "signInWithPassword")
                if thrown.code.startswith("ESignin"):
                    self._sign_in_after = clock() + settings.sign_in_rest_s
                raise ModuleAway(f"module {self.name}: {code.sentence}") from None
            except NoAnswer as silence:
                # Nothing but a sign-in was asked, and that makes no token.
                if held.is_fresh:
                    raise ModuleAway(f"module {self.name}: {silence}") from None
                raise
            self._session = result.accessToken
            return self._session

    async def _plain(self, held: _Held, call: Call) -> Any:
        try:
            return await self._call(held, call)
        except NoAnswer as silence:
            raise ModuleAway(f"module {self.name}: {silence}") from None
        except Thrown as thrown:
            self._raise(meaning_of(thrown.code), thrown.code, None)

    async def _call(self, held: _Held, call: Call) -> Any:
        result = await held.connection.call(call, self._settings.answer_timeout_s)
        held.is_fresh = True
        return result

    def _raise(self, code: Code, text: str, key: MeterKey | None, name: str | None = None) -> NoReturn:
        """The exception that a code stands for; nothing was made."""
        if code.meaning is Meaning.NOT_MADE and name is None:
            raise _NotMade
        if code.meaning is Meaning.MISSING and key is not None:
            raise KeyMissing(key) from None
        if code.meaning is Meaning.REFUSED:
            raise ModuleRefused(code.fault, f"module {self.name}: {code.sentence}") from None
        self._log_code(text, "call")
        raise ModuleAway(f"module {self.name}: {code.sentence}") from None

    def _log_code(self, text: str, method: str) -> None:
        log.warning(
            "a security module failed", extra={"security_module": self.name, "code": shown(text), "method": method}
        )

    def _message_id(self) -> str:
        """For calls whose result is never looked up; only the module's own log reads it."""
        self._calls += 1
        return f"x{self._calls}"

    # --- connections --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Held]:
        """A connection for one caller at a time: an idle one, or a new one. Raises ModuleFull, ModuleAway."""
        settings = self._settings
        if self._inside >= settings.connections_max + settings.waiting_max:
            raise ModuleFull(f"module {self.name}: {self._inside} requests wait already")
        self._inside += 1
        try:
            async with self._places:
                held = await self._take()
                try:
                    yield held
                finally:
                    self._give_back(held.connection)
        finally:
            self._inside -= 1

    async def _take(self) -> _Held:
        oldest = asyncio.get_running_loop().time() - self._settings.idle_max_s
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and connection.used_at >= oldest:
                return _Held(connection, is_fresh=False)
            connection.close()
        return _Held(await self._open(), is_fresh=True)

    async def _renew(self, held: _Held) -> None:
        held.connection.close()
        held.connection = await self._open()
        held.is_fresh = True

    async def _open(self) -> Connection:
        try:
            return await Connection.open(self._settings, self._context)
        except NotReached as reason:
            raise ModuleAway(f"module {self.name}: {reason}") from None

    def _give_back(self, connection: Connection) -> None:
        if connection.is_usable:
            connection.used_at = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()


class _NotMade(Exception):
    """No result under a message id."""


def _must_wait() -> NoReturn:
    raise AssertionError("this module must be waited for: its _later methods are for that")


def _numbers(nodes: Sequence[NodeStatus], name: str) -> list[float]:
    """The values of a fact, in every node that gives it as a number; names have a part before a dot."""
    found = []
    for node in nodes:
        for key, text in node.info.items():
            if key.rpartition(".")[2] == name:
                try:
                    found.append(float(text))
                except ValueError:
                    log.warning("a fact of a security module is no number", extra={"fact": name})
    return found


def _instants(nodes: Sequence[NodeStatus], name: str) -> list[datetime]:
    """The instants of a fact, in UTC where it names no zone, in every node that gives it as a date in ISO 8601."""
    found = []
    for node in nodes:
        for key, text in node.info.items():
            if key.rpartition(".")[2] == name and text.strip():
                try:
                    moment = datetime.fromisoformat(text.strip())
                except ValueError:
                    log.warning("a fact of a security module is no date", extra={"fact": name})
                    continue
                found.append(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
    return found
