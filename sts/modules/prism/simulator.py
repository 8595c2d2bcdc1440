"""A TokenApi server over a software module, with faults on purpose: for tests, trials and training. Shell: waits.

It speaks the real wire, over TLS or, on loopback, plain; what it answers is in `simulated`, and how it fails too: the
attributes of `PrismSimulator.faults` may be changed while it runs. Whoever has its password can have tokens made; it
is no security module.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from sts.modules.prism.settings import CurrencyUnit, is_loopback
from sts.modules.prism.simulated import Account, Faults, SimulatedModule
from sts.modules.prism.tokenapi import ApiException, Call, IssueCreditToken, IssueKeyChangeTokens, IssueMseToken, Ping
from sts.modules.prism.wire import FRAME_BYTES_MAX, BadFrame, decode_call, encode_rejection, encode_reply
from sts.modules.software import SoftwareModule

log = logging.getLogger(__name__)

_PING_MS_MAX: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Where to listen, and who may sign in.

    `certificate_file` and `key_file` (PEM) for TLS; without them plain TCP, on loopback only (ValueError elsewhere).
    Port 0 takes a free one. `currency_unit` is what transferAmount counts for subclasses 4 to 7.
    """

    host: str = "127.0.0.1"
    port: int = 0
    account: Account
    certificate_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    currency_unit: CurrencyUnit = CurrencyUnit.HUNDRED_THOUSANDTH

    def __post_init__(self) -> None:
        if self.certificate_file is None and not is_loopback(self.host):
            raise ValueError("simulator: a certificate expected, or a loopback address")


class _HangUp(Exception):
    """Ends a call by closing the connection."""


class PrismSimulator:
    """The server. `async with` it, or call `start` and `stop`; then `port` is where it listens.

    `now` reads the clock that the module would have inside. `made` counts tokens by meter number, `calls` calls by
    method, `reentered` connections on which a second call came before the first was answered.
    """

    def __init__(
        self,
        module: SoftwareModule,
        settings: SimulatorSettings,
        *,
        now: Callable[[], datetime],
        faults: Faults | None = None,
    ) -> None:
        self.faults: Final = faults or Faults()
        self.calls: Counter[str] = Counter()
        self.reentered = 0
        self.connections = 0
        self.connections_most = 0
        self.connections_opened = 0
        self.port = 0
        self._settings: Final = settings
        self._now: Final = now
        self._module: Final = SimulatedModule(module, settings.account, settings.currency_unit, self.faults)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._one_at_a_time: Final = asyncio.Lock()
        self._next_at = float("-inf")

    @property
    def made(self) -> Counter[str]:
        """Tokens and key-change sets made, by meter number."""
        return self._module.made

    def end_sessions(self) -> None:
        """Every session is over: the next call in one gets EAuthentication.Token."""
        self._module.end_sessions()

    async def __aenter__(self) -> "PrismSimulator":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; an OSError or ssl.SSLError passes through."""
        settings = self._settings
        context = None
        if settings.certificate_file is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(settings.certificate_file, settings.key_file)
            if settings.client_ca_file is not None:
                context.load_verify_locations(settings.client_ca_file)
                context.verify_mode = ssl.CERT_REQUIRED
        self._server = await asyncio.start_server(
            self._converse, settings.host, settings.port, ssl=context, limit=FRAME_BYTES_MAX
        )
        self.port = self._server.sockets[0].getsockname()[1]
        log.warning("a security module simulator listens; it is no security module", extra={"port": self.port})

    async def stop(self) -> None:
        """Close every connection, answered or not."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.connections_opened += 1
        self.connections_most = max(self.connections_most, self.connections)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                if length > FRAME_BYTES_MAX:
                    break
                answer = await self._answered(await reader.readexactly(length), reader)
                writer.write(len(answer).to_bytes(4, "big") + answer)
                await writer.drain()
        except (OSError, EOFError, BadFrame, _HangUp):
            pass
        except asyncio.CancelledError:
            # Only `stop` cancels. Ending normally keeps asyncio's own callback from logging a trace.
            pass
        finally:
            self.connections -= 1
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answered(self, frame: bytes, reader: asyncio.StreamReader) -> bytes:
        """The answer to a frame. The call is carried out to its end even if the client leaves, as a module would."""
        answering = asyncio.create_task(self._answer(frame))
        self._tasks.add(answering)
        answering.add_done_callback(self._done)
        early = asyncio.create_task(reader.read(1))
        await asyncio.wait({answering, early}, return_when=asyncio.FIRST_COMPLETED)
        if not early.done():
            early.cancel()
        came = (await asyncio.gather(early, return_exceptions=True))[0]
        if isinstance(came, bytes) and came:
            self.reentered += 1
            raise _HangUp
        if came == b"":
            raise EOFError
        return await answering

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, _HangUp):
            log.debug("a call ended with an error", extra={"error": type(error).__name__})

    async def _answer(self, frame: bytes) -> bytes:
        message = decode_call(frame)
        call, faults = message.call, self.faults
        self.calls[call.method] += 1
        if faults.hangs_up:
            raise _HangUp
        if faults.silent:
            await _for_ever()
        if faults.delay_s:
            await asyncio.sleep(faults.delay_s)
        if faults.noise is not None:
            return faults.noise
        if faults.rejects:
            return encode_rejection(call.method, message.sequence)
        return encode_reply(type(call), message.sequence, await self._result(call))

    async def _result(self, call: Call) -> Any:
        if isinstance(call, Ping):
            await asyncio.sleep(min(max(call.sleepMs, 0), _PING_MS_MAX) / 1000)
            return call.echo
        refusal = self._module.admit(call)
        if refusal is not None:
            return refusal
        if not isinstance(call, IssueCreditToken | IssueMseToken | IssueKeyChangeTokens):
            return self._module.answer(call, self._now())
        faults = self.faults
        async with self._one_at_a_time:
            if faults.tokens_per_s is not None:
                clock = asyncio.get_running_loop().time
                self._next_at = max(self._next_at, clock()) + 1 / faults.tokens_per_s
                await asyncio.sleep(self._next_at - clock())
            result = self._module.answer(call, self._now())
        if faults.answers_lost and not isinstance(result, ApiException):
            faults.answers_lost -= 1
            if faults.lost_in_silence:
                await _for_ever()
            raise _HangUp
        return result


async def serve(
    module: SoftwareModule,
    settings: SimulatorSettings,
    *,
    now: Callable[[], datetime],
    faults: Faults | None = None,
    started: Callable[[PrismSimulator], Awaitable[None]] | None = None,
) -> NoReturn:
    """Run a simulator until cancelled. `started` is awaited once it listens."""
    async with PrismSimulator(module, settings, now=now, faults=faults) as simulator:
        if started is not None:
            await started(simulator)
        await _for_ever()


async def _for_ever() -> NoReturn:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a future that nobody holds was set")
