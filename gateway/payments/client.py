"""Asking providers over HTTP: time-outs, a limit of connections and of sizes, tokens; nothing is sent twice. Shell.

What comes of a question is one of three: `Reply`, whatever its status; `NotSent`, when no octet of it left; `NoAnswer`,
when it may have been heard. The words in them are ours or an exception's kind: no address, no header, no secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import tenacity

from channels.http.callback import NotReadable, json_of

_ANSWER_OCTETS_MAX: Final = 1_048_576
# A connection that has rested longer may have been closed at the other end, and a payment sent on it would be in doubt.
_KEEPALIVE_S: Final = 5.0
_TRIES: Final = 3


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """An answer was had. In no repr: bodies hold tokens and phone numbers."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """Its members. Raises NotReadable."""
        return json_of(self.body)

    def fields(self) -> dict[str, Any]:
        """Its members, none where it is no JSON object: for the errors of proxies."""
        try:
            return self.json()
        except NotReadable:
            return {}


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing was sent: the provider cannot know of it."""

    detail: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Sent, perhaps heard, and no answer that can be used."""

    detail: str


class Client:
    """Connections to one provider. They are taken up with the first question, and let go by `close`."""

    def __init__(self, base_url: str, *, timeout_s: float, connections_max: int) -> None:
        self._base = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._connections_max = connections_max
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections_max, keepalive_timeout=_KEEPALIVE_S),
                # `connect` includes the wait for a free connection: all of it passes before anything is sent.
                timeout=aiohttp.ClientTimeout(total=self._timeout_s, connect=self._timeout_s / 2),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Reply | NotSent | NoAnswer:
        """One question, sent once. Redirects are not followed: money is asked for where the settings say, or not."""
        try:
            async with self._open().request(
                method,
                self._base + path,
                headers=dict(headers or {}),
                params=dict(query) if query else None,
                json=dict(body) if body is not None else None,
                allow_redirects=False,
            ) as response:
                found = bytearray()
                async for piece in response.content.iter_chunked(65_536):
                    found += piece
                    if len(found) > _ANSWER_OCTETS_MAX:
                        return NoAnswer("an answer that is too large")
                return Reply(response.status, bytes(found))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return NotSent(type(error).__name__)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return NoAnswer(type(error).__name__)

    async def close(self) -> None:
        """Let the connections go."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class NoAccess(Exception):
    """No access token can be had; what was to be done with it has not been sent."""


@dataclass(frozen=True, slots=True, repr=False)
class Granted:
    """An access token and how long it holds."""

    token: str
    expires_in_s: float


Grant = Callable[[], Awaitable[Granted]]
"""Asks for a new token, once. Raises NoAccess where the provider refuses, NotYet where it may be asked again."""


class NotYet(Exception):
    """The provider did not answer; asking for a token again harms nothing."""


@dataclass(slots=True, repr=False)
class Access:
    """The access token, kept until shortly before its end, asked for by one task at a time."""

    grant: Grant
    pause_s: float = 0.5  # before the second try, twice that before the third
    _token: str = ""
    _until: float = 0.0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def token(self) -> str:
        """A token that holds. Raises NoAccess."""
        async with self._turn:
            now = asyncio.get_running_loop().time()
            if not self._token or now >= self._until:
                granted = await self._granted()
                # Nine tenths, and a minute at most before its end: a question takes time, too.
                self._until = now + max(granted.expires_in_s * 0.9, granted.expires_in_s - 60.0)
                self._token = granted.token
            return self._token

    def drop(self, token: str) -> None:
        """The provider refuses this token: the next question asks for another."""
        if self._token == token:
            self._token = ""

    async def try_out(self) -> str:
        """Get a token, for `prepaid check`; what to say of it. Raises NoAccess."""
        await self.token()
        return "gives an access token"

    async def _granted(self) -> Granted:
        tries = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_TRIES),
            wait=tenacity.wait_exponential(multiplier=self.pause_s),
            retry=tenacity.retry_if_exception_type(NotYet),
            reraise=True,
        )
        try:
            async for attempt in tries:
                with attempt:
                    return await self.grant()
        except NotYet as error:
            raise NoAccess(str(error)) from None
        raise AssertionError("tenacity ends with a result or an exception")


def granted_of(reply: Reply | NotSent | NoAnswer, token_name: str = "access_token") -> Granted:
    """The token of an OAuth answer. Raises NoAccess or NotYet, with no more of the answer than its status."""
    if not isinstance(reply, Reply):
        raise NotYet(f"no access token: {reply.detail}")
    if reply.status >= 500 or reply.status == 429:
        raise NotYet(f"no access token: HTTP {reply.status}")
    said = reply.fields()
    token, lasts = said.get(token_name), said.get("expires_in", 3600)
    if reply.status != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise NoAccess(f"no access token: HTTP {reply.status}")
    try:
        seconds = float(str(lasts))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400 * 31:
        seconds = 60.0
    return Granted(token, seconds)


async def ask_with_token(
    access: Access,
    send: Callable[[str], Awaitable[Reply | NotSent | NoAnswer]],
    is_refused: Callable[[Reply], bool],
) -> Reply | NotSent | NoAnswer:
    """Ask with an access token. One that is refused is had anew, once: what came with it was refused, too."""
    for is_last in (False, True):
        try:
            token = await access.token()
        except NoAccess as error:
            return NotSent(str(error))
        reply = await send(token)
        if is_last or not isinstance(reply, Reply) or not is_refused(reply):
            return reply
        access.drop(token)
    raise AssertionError("the second round returns")
