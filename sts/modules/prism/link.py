"""One connection to a TokenApi server: TLS, frames, one call at a time. Shell: waits for the network.

A connection on which anything went wrong is closed and never used again: an answer that comes late must not be taken
for the answer to a later call. A cancelled call counts as gone wrong.
"""

import asyncio
import ssl
from typing import Any, Final

from sts.modules.prism.settings import PrismSettings, is_loopback
from sts.modules.prism.tokenapi import Call
from sts.modules.prism.wire import FRAME_BYTES_MAX, BadFrame, Rejected, Thrown, decode_reply, encode_call

_LENGTH_BYTES: Final = 4
_SEQUENCE_MAX: Final = 0x7FFFFFFF


class NotReached(Exception):
    """No connection: nothing was asked. The text says why, in the system's words, without secrets."""


class NoAnswer(Exception):
    """Asked, and no answer that could be read came in time."""


def tls_context(settings: PrismSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with certificate and host name checks; None for plain TCP on loopback. Reads the files named.

    An OSError or ssl.SSLError of a file that is missing or no certificate passes through.
    """
    if settings.plain_on_loopback:
        return None
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.client_certificate_file is not None:
        context.load_cert_chain(settings.client_certificate_file, settings.client_key_file)
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    return context


class Connection:
    """An open connection. `used_at` is for the pool that keeps it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader: Final = reader
        self._writer: Final = writer
        self._sequence = 0
        self._busy = False
        self._closed = False
        self.calls = 0
        self.used_at = 0.0

    @classmethod
    async def open(cls, settings: PrismSettings, context: ssl.SSLContext | None) -> "Connection":
        """Connect, shake hands, check the certificate; raises NotReached."""
        secure: dict[str, Any] = {}
        if context is not None:
            secure = {"ssl": context, "server_hostname": settings.server_name or settings.host}
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                reader, writer = await asyncio.open_connection(
                    settings.host, settings.port, limit=FRAME_BYTES_MAX, **secure
                )
        except TimeoutError:
            raise NotReached("no connection in time") from None
        except ssl.SSLCertVerificationError as refusal:
            raise NotReached(f"the certificate was refused: {refusal.verify_message}") from None
        except OSError as error:
            raise NotReached(f"no connection: {type(error).__name__}") from None
        if context is None and not is_loopback(str(writer.get_extra_info("peername")[0])):
            writer.transport.abort()
            raise NotReached("plain TCP: the name led out of this machine")
        return cls(reader, writer)

    @property
    def is_usable(self) -> bool:
        """Open on both sides, as far as is known without asking."""
        return not (self._closed or self._reader.at_eof() or self._writer.is_closing())

    async def call(self, call: Call, timeout_s: float) -> Any:
        """The result of a call, as `call.result` says.

        Raises Thrown with the module's error code, after which the connection is still good, and NoAnswer.
        """
        assert not self._busy, "a connection is not re-entrant"
        self._busy = True
        self._sequence = self._sequence % _SEQUENCE_MAX + 1
        try:
            frame = encode_call(call, self._sequence)
            async with asyncio.timeout(timeout_s):
                self._writer.write(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)
                await self._writer.drain()
                answer = await self._frame()
            result = decode_reply(type(call), self._sequence, answer)
        except Thrown:
            self._busy = False
            self.calls += 1
            raise
        except (TimeoutError, OSError, EOFError, BadFrame, Rejected) as error:
            self.close()
            raise NoAnswer(f"{call.method}: {_words(error)}") from None
        except BaseException:
            # Cancelled, or a bug: either way nobody knows what the other side still sends.
            self.close()
            raise
        self._busy = False
        self.calls += 1
        return result

    def close(self) -> None:
        """Close at once; what is under way is lost."""
        self._closed = True
        self._writer.transport.abort()

    async def _frame(self) -> bytes:
        length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
        if length > FRAME_BYTES_MAX:
            raise BadFrame("an answer longer than any there is")
        return await self._reader.readexactly(length)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) if isinstance(error, BadFrame | Rejected) else "the connection broke"
