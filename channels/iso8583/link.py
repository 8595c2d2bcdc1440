"""A bank's TCP links: accepted or dialled, plain or TLS, several of them one logical session. Shell.

What is said on a link is decided by `session.py`; what a request comes to, by the owner. An answer goes out on the link
its request came by or, if that is gone, on another of the same bank; if there is none it is not sent, and the bank's
repeat fetches it. A link that has proved nothing yet (no sign-on) counts among the half-open ones: of these there are
few, they have little time, and the oldest makes room for the next, so that they never keep a bank's own links out.
Nothing of a message is logged.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol, cast

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from channels.iso8583.answers import NOTHING, Said
from channels.iso8583.codes import Outcome
from channels.iso8583.errors import EncodeError, KeyRefused
from channels.iso8583.keymodule import KeyModule
from channels.iso8583.link_settings import LinkObserver, LinkSettings, LinkStands, is_in
from channels.iso8583.profile import Network, Profile
from channels.iso8583.session import (
    Broken,
    Came,
    Declined,
    Echoed,
    KeyOffered,
    Moment,
    Refused,
    Session,
    SignedOff,
    SignedOn,
)
from ledger.reasons import Reason

log = logging.getLogger(__name__)

_BUFFER_HIGH: Final = 256 * 1024
_BACKLOG: Final = 100
_LEAVE_S: Final = 3.0  # so long a link that shall end waits for answers that are under way


class Owner(Protocol):
    """Who decides what comes by the links of a bank. Called from the loop, and must not wait."""

    def came(self, link: Connection, came: Came) -> None:
        """A request that is to be answered."""
        ...

    def key_offered(self, link: Connection, offered: KeyOffered) -> None:
        """A new key that is to be kept, then taken."""
        ...


class Connection(asyncio.Protocol):
    """One TCP connection and its session."""

    def __init__(self, links: BankLinks, is_dialled: bool) -> None:
        self._links: Final = links
        self._loop: Final = asyncio.get_running_loop()
        self.is_dialled: Final = is_dialled
        self.name = ""
        self.session: Session | None = None
        self.is_proven = False
        self.ended: Final[asyncio.Future[str]] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sign_on: asyncio.TimerHandle | None = None
        self._slow: asyncio.TimerHandle | None = None
        self._securing: asyncio.Task[None] | None = None
        self._early = b""
        self._why = ""
        self._leaving = ""
        self._asked: dict[Network, list[asyncio.Future[str]]] = {}

    @property
    def is_open(self) -> bool:
        """Whether an answer could be written now."""
        return self._transport is not None and not self._transport.is_closing() and self.session is not None

    # --- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        why = self._links.joins(self)
        if why:
            self.close(why)
            return
        tls = None if self.is_dialled else self._links.settings.tls_listen
        if tls is None:
            self._begin()
            return
        # The address and the number of links were looked at first: a handshake costs far more than they do.
        self._transport.pause_reading()
        self._securing = self._loop.create_task(self._secure(tls))

    async def _secure(self, tls: ssl.SSLContext) -> None:
        assert self._transport is not None
        try:
            secured = await self._loop.start_tls(
                self._transport,
                self,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._links.settings.connect_s,
            )
        except (OSError, TimeoutError) as fault:  # ssl.SSLError is an OSError
            self._finish(f"no TLS, {type(fault).__name__}")
            return
        if secured is None or self.ended.done():
            self._finish("closed while TLS was made")
            return
        self._transport = secured
        self._begin()

    def _begin(self) -> None:
        """The link is open, and secure where it shall be."""
        assert self._transport is not None
        links = self._links
        wrong = _wrong_peer(self._transport, links.settings.peer_names)
        if wrong:
            self.close(wrong)
            return
        self._transport.set_write_buffer_limits(high=_BUFFER_HIGH)
        self.session = links.new_session()
        self.session.start(links.moment())
        self._sign_on = self._loop.call_later(links.settings.sign_on_s, self._is_not_proven)
        links.begun(self)
        self.flush()
        if self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        if self.session is None:
            self._early += data  # with the last octets of a TLS handshake: at most what one read gives
            return
        events = self.session.receive(data, self._links.moment())
        self.flush()
        for event in events:
            self._heard(event)
        self._set_timer()

    def pause_writing(self) -> None:
        """The peer does not read its answers: no more is read of it, and it has little time."""
        assert self._transport is not None
        self._transport.pause_reading()
        self._slow = self._loop.call_later(self._links.settings.write_s, self.abort, "peer does not read")

    def resume_writing(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(self._why or (f"lost, {type(exc).__name__}" if exc is not None else "closed by the peer"))

    # --- what its owner does ------------------------------------------------------------------------------------------

    def answer(self, came: Came, why: Reason | Outcome, said: Said) -> None:
        """Write an answer. Raises EncodeError for what the dialect cannot say."""
        assert self.session is not None
        self.session.answer(came, why, said)
        self.flush()
        if self._leaving and not self.session.unanswered:
            self.close(self._leaving)

    def flush(self) -> None:
        """Write what there is, and look when the session wants to be asked again."""
        if self.session is None or self._transport is None:
            return
        output = self.session.take_output()
        if output and not self._transport.is_closing():
            self._transport.write(output)
        self._set_timer()

    async def ask(self, network: Network, within_s: float) -> str:
        """Send a message of network management, as an operator wishes: ANSWERED, DECLINED with its code, NO_ANSWER,
        LOST, or NOT_KNOWN to this bank."""
        if self.session is None or not self.is_open:
            return "LOST"
        waiter: asyncio.Future[str] = self._loop.create_future()
        self._asked.setdefault(network, []).append(waiter)
        try:
            if not self.session.ask(network, self._links.moment()):
                return "NOT_KNOWN"
            self.flush()
            async with asyncio.timeout(within_s):
                return await waiter
        except TimeoutError:
            return "NO_ANSWER"
        finally:
            self._asked[network].remove(waiter)

    def _tell(self, network: Network, what: str) -> None:
        for waiter in self._asked.get(network, ()):
            if not waiter.done():
                waiter.set_result(what)

    def leave(self, why: str) -> None:
        """Take no more business, sign off where that is ours to do, and end with the last answer that is owed."""
        if self.session is None or self._leaving:
            return
        self._leaving = why
        self.session.stop(self._links.moment())
        self.flush()
        if not self.session.unanswered:
            self.close(why)
        else:
            self._loop.call_later(_LEAVE_S, self.close, why)

    def close(self, why: str) -> None:
        """Close the link once what was written is sent; a peer that does not read has `write_s` for it."""
        self._why = self._why or why
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            if self._slow is None:
                self._slow = self._loop.call_later(self._links.settings.write_s, self.abort, why)

    def abort(self, why: str) -> None:
        """Close the link now."""
        self._why = self._why or why
        if self._transport is not None:
            self._transport.abort()

    def address(self) -> str:
        """The peer's address."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if name else ""

    # --- inside -------------------------------------------------------------------------------------------------------

    def _heard(self, event: object) -> None:
        links = self._links
        match event:
            case Came():
                links.proven(self)
                links.owner.came(self, event)
            case KeyOffered():
                links.proven(self)
                links.owner.key_offered(self, event)
            case SignedOn():
                log.info("bank %s: link %s: signed on", links.settings.name, self.name)
                links.proven(self)
                links.signed(True)
                self._tell(Network.SIGN_ON, "ANSWERED")
            case Echoed():
                self._tell(Network.ECHO, "ANSWERED")
            case SignedOff():
                log.info("bank %s: link %s: signed off", links.settings.name, self.name)
                links.signed(False)
                self._tell(Network.SIGN_OFF, "ANSWERED")
            case Declined():
                self._tell(event.network, f"DECLINED {event.code}" if event.code.isalnum() else "DECLINED")
                log.warning(
                    "bank %s: link %s: %s was declined, code %s",
                    links.settings.name,
                    self.name,
                    event.network,
                    event.code if event.code.isalnum() else "?",
                )
            case Refused():
                links.observer.refused(links.settings.name, event.error.fault.value)
                log.warning(
                    "bank %s: link %s: a message was refused%s: %s",
                    links.settings.name,
                    self.name,
                    "" if event.is_answered else ", and not answered",
                    event.error,
                )
            case Broken():
                log.warning("bank %s: link %s: given up: %s", links.settings.name, self.name, event.why)
                self.close(event.why)

    def _tick(self) -> None:
        self._timer = None
        if self.session is None:
            return
        for event in self.session.tick(self._links.moment()):
            self._heard(event)
        self.flush()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.session.next_deadline() if self.session is not None and not self.ended.done() else None
        if due is not None:
            self._timer = self._loop.call_at(due, self._tick)

    def _is_not_proven(self) -> None:
        if not self.is_proven:
            self.close("no sign-on in time")

    def _finish(self, why: str) -> None:
        for timer in (self._timer, self._sign_on, self._slow):
            if timer is not None:
                timer.cancel()
        for network in self._asked:
            self._tell(network, "LOST")
        if not self.ended.done():
            self.ended.set_result(why)
            self._links.left(self, why)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()


def _wrong_peer(transport: asyncio.Transport, names: frozenset[str]) -> str:
    """Why the peer's certificate is none that is agreed; empty if it is, or nothing was agreed."""
    if not names:
        return ""
    certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
    found = {value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"}
    found |= {value for _, value in certificate.get("subjectAltName", ())}
    return "" if found & names else "another certificate"


class BankLinks:
    """All links of one bank."""

    def __init__(
        self,
        profile: Profile,
        settings: LinkSettings,
        owner: Owner,
        *,
        keys: KeyModule | None,
        now: Callable[[], datetime],
        local: Callable[[datetime], datetime],
        random: Callable[[], float],
        observer: LinkObserver | None = None,
        leased: bool = False,
    ) -> None:
        self.profile: Final = profile
        self.settings: Final = settings
        self.owner: Final = owner
        self.keys: Final = keys
        self.observer: Final = observer or LinkObserver()
        self.dialled: Final = [
            DialledLink(self, f"bank:{settings.name}.{number}", host, port, random, leased=leased)
            for number, (host, port) in enumerate(settings.dial, 1)
        ]
        self._now: Final = now
        self._local: Final = local
        self._stan = int(now().timestamp()) % 1_000_000
        self._connections: list[Connection] = []
        self._server: asyncio.Server | None = None
        self._is_signed_on = False
        self._is_stopping = False
        self.is_drained = False

    @property
    def connections(self) -> list[Connection]:
        """Those that are open, the oldest first."""
        return list(self._connections)

    def is_signed_on(self) -> bool:
        """Whether business may come by some link."""
        return any(each.is_open and each.session is not None and each.session.is_signed_on for each in self.connections)

    def stands(self) -> list[LinkStands]:
        """How each link stands."""
        return [
            LinkStands(each.name, each.is_open, each.session.is_signed_on, each.session.unanswered)
            for each in self._connections
            if each.session is not None
        ]

    def port(self) -> int:
        """The port where links are accepted; of interest where the settings say 0."""
        assert self._server is not None, "it listens"
        return int(self._server.sockets[0].getsockname()[1])

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, if it shall."""
        if self.settings.listen is not None:
            host, port = self.settings.listen
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: Connection(self, is_dialled=False), host, port, backlog=_BACKLOG, reuse_address=True
            )
            log.info("bank %s: listens on port %d", self.settings.name, self.port())

    async def run(self) -> None:
        """Dial what is to be dialled, for ever."""
        async with asyncio.TaskGroup() as group:
            for link in self.dialled:
                group.create_task(link.run(), name=link.name)
            group.create_task(asyncio.Event().wait(), name=f"{self.settings.name}-links")

    def drain(self) -> None:
        """Have every link leave, and take none until `undrain`."""
        if not self.is_drained:
            log.warning("bank %s: its links are drained, as an operator wants", self.settings.name)
            self.is_drained = True
            for connection in self.connections:
                connection.leave("drained")

    def undrain(self) -> None:
        """Take links again."""
        self.is_drained = False

    def say_goodbye(self) -> None:
        """Accept no more links and no more business; sign off where that is ours to do. Answers owed still go out."""
        self._is_stopping = True
        if self._server is not None:
            self._server.close()
        for link in self.dialled:
            link.stop()
        for connection in self.connections:
            if connection.session is not None:
                connection.session.stop(self.moment())
                connection.flush()

    async def close(self) -> None:
        """Close every link, and wait for that."""
        for connection in self.connections:
            connection.close("stopped")
        ended = [connection.ended for connection in self.connections]
        if ended:
            _, late = await asyncio.wait(ended, timeout=self.settings.write_s / 2)
            if late:
                for connection in self.connections:
                    connection.abort("stopped")
                await asyncio.wait(late, timeout=1)

    # --- answers ------------------------------------------------------------------------------------------------------

    def answer(self, origin: Connection, came: Came, why: Reason | Outcome, said: Said = NOTHING) -> bool:
        """Write an answer on the link its request came by, or another; False if there is none. Raises EncodeError."""
        others = [each for each in self.connections if each is not origin and each.is_proven]
        for connection in [origin, *others]:
            if connection.is_open:
                connection.answer(came, why, said)
                return True
        return False

    def refuse(self, origin: Connection, came: Came, why: Reason | Outcome) -> None:
        """Answer with a code alone, if that can be done."""
        try:
            self.answer(origin, came, why)
        except (EncodeError, KeyRefused) as error:
            log.error("bank %s: an answer cannot be written: %s", self.settings.name, error)

    # --- told by connections ------------------------------------------------------------------------------------------

    def moment(self) -> Moment:
        """Now, as sessions want it."""
        now = self._now()
        return Moment(asyncio.get_running_loop().time(), now, self._local(now))

    def new_session(self) -> Session:
        """The session of a new link."""
        settings = self.settings
        session = Session(
            self.profile, self.moment(), self._next_stan, self.keys, settings.own, settings.unanswered_max
        )
        if self.profile.link.sign_on == "institution" and self._is_signed_on:
            session.is_signed_on = True
        return session

    def _next_stan(self) -> int:
        self._stan = self._stan % 999_999 + 1
        return self._stan

    def joins(self, connection: Connection) -> str:
        """Why a new connection is none of ours; empty if it may stay."""
        settings, address = self.settings, connection.address()
        if self._is_stopping:
            return "stopped"
        if self.is_drained:
            return "drained"
        if not connection.is_dialled and settings.networks and not is_in(address, settings.networks):
            log.warning("bank %s: a link from another address is refused", settings.name, extra={"address": address})
            self.observer.closed(settings.name, "address")
            return "another address"
        if sum(each.is_proven for each in self._connections) >= settings.links_max:
            log.warning("bank %s: one link too many is refused", settings.name)
            self.observer.closed(settings.name, "too many")
            return "too many links"
        taken = {each.name for each in self._connections}
        connection.name = next(name for name in map(str, range(1, len(taken) + 2)) if name not in taken)
        half_open = [each for each in self._connections if not each.is_proven and not each.is_dialled]
        self._connections.append(connection)
        if len(half_open) >= settings.half_open_max:
            self.observer.closed(settings.name, "half open")
            half_open[0].abort("too many links without a sign-on")
        return ""

    def begun(self, connection: Connection) -> None:
        """A connection may talk."""
        log.info("bank %s: link %s: open", self.settings.name, connection.name)
        if connection.session is not None and connection.session.is_signed_on and connection.is_dialled:
            self.proven(connection)  # whoever answers at this address is the bank

    def proven(self, connection: Connection) -> None:
        """A connection has said something that the bank would say."""
        if connection.is_proven:
            return
        if sum(each.is_proven for each in self._connections) >= self.settings.links_max:
            self.observer.closed(self.settings.name, "too many")
            connection.close("too many links")
            return
        connection.is_proven = True

    def signed(self, on: bool) -> None:
        """One link signed on or off: where that holds for all, the others follow."""
        if self.profile.link.sign_on != "institution":
            return
        self._is_signed_on = on
        for each in self._connections:
            if each.session is not None:
                each.session.is_signed_on = on

    def left(self, connection: Connection, why: str) -> None:
        """A connection is no more."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.observer.closed(self.settings.name, "ended")
            log.info("bank %s: link %s: ended: %s", self.settings.name, connection.name, why)


class _Trouble(Exception):
    """A link that could not be had, or did not last."""


class DialledLink:
    """A link that we dial, and dial again. Where several nodes share it, only while it is permitted."""

    def __init__(
        self, links: BankLinks, name: str, host: str, port: int, random: Callable[[], float], *, leased: bool
    ) -> None:
        self.name: Final = name
        self._links: Final = links
        self._host: Final = host
        self._port: Final = port
        self._random: Final = random
        self._permitted = asyncio.Event()
        self._permit_end: asyncio.TimerHandle | None = None
        self._connection: Connection | None = None
        self._is_stopping = False
        if not leased:
            self._permitted.set()

    @property
    def is_away(self) -> bool:
        """Whether it has no connection, and will make none before it is permitted to."""
        return not self._permitted.is_set() and self._connection is None

    def permit(self, until: float | None = None) -> None:
        """Be open, until this time of the loop's clock at the latest; None: for ever. Again to prolong it."""
        loop = asyncio.get_running_loop()
        if self._permit_end is not None:
            self._permit_end.cancel()
            self._permit_end = None
        if until is not None:
            if until <= loop.time():
                self.forbid()
                return
            self._permit_end = loop.call_at(until, self.forbid)
        self._permitted.set()

    def forbid(self) -> None:
        """Be closed: another node has this link."""
        if self._permit_end is not None:
            self._permit_end.cancel()
            self._permit_end = None
        self._permitted.clear()
        self._leave("stands down")

    def let_send(self, may_send: bool) -> None:
        """An operator's wish for links of text messages; a bank's link only answers."""

    def stop(self) -> None:
        """Dial no more."""
        self._is_stopping = True

    def _leave(self, why: str) -> None:
        if self._connection is not None:
            self._connection.leave(why)

    async def run(self) -> None:
        """Be open, for ever; back off from the shortest to the longest pause of the profile while that fails."""
        rules = self._links.profile.link
        retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            wait=self._back_off,
            retry=retry_if_exception_type(_Trouble),
            before_sleep=self._log_trouble,
        )
        while not self._is_stopping:
            await self._permitted.wait()
            await retrying(self._have_link)
            await asyncio.sleep(rules.redial_min_s * (0.5 + self._random() / 2))

    def _back_off(self, state: RetryCallState) -> float:
        rules = self._links.profile.link
        pause = min(rules.redial_max_s, rules.redial_min_s * 2.0 ** min(state.attempt_number - 1, 30))
        return pause * (0.5 + self._random() / 2)

    def _log_trouble(self, state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome is not None else None
        pause = state.next_action.sleep if state.next_action is not None else 0.0
        log.warning("bank %s: link %s: %s; again in %.1f s", self._links.settings.name, self.name, fault, pause)

    async def _have_link(self) -> None:
        """Connect, and stay until the link ends; _Trouble unless it lasted or had to end."""
        settings, loop = self._links.settings, asyncio.get_running_loop()
        if not self._permitted.is_set() or self._is_stopping:
            return
        tls = settings.tls_dial
        connection = Connection(self._links, is_dialled=True)
        self._connection = connection
        try:
            try:
                async with asyncio.timeout(settings.connect_s):
                    await loop.create_connection(
                        lambda: connection,
                        self._host,
                        self._port,
                        ssl=tls,
                        server_hostname=(settings.tls_server_name or self._host) if tls is not None else None,
                    )
            except (OSError, TimeoutError) as fault:
                raise _Trouble(f"no connection, {type(fault).__name__}") from None
            if not self._permitted.is_set():
                self._leave("stands down")
            began = loop.time()
            why = await connection.ended
        finally:
            self._connection = None
            connection.abort("cancelled")
        if self._permitted.is_set() and not self._is_stopping:
            if loop.time() - began < self._links.profile.link.redial_max_s:
                raise _Trouble(f"ended, {why}")
