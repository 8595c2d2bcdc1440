"""Vending keys of DKGA04 in a hardware security module behind PKCS#11 (python-pkcs11). Shell: a thread, and waits.

A decoder key of DKGA04 is one HMAC-SHA-256 under the vending key. The token computes that HMAC inside (CKM_SHA256_HMAC)
and the vending key never comes out. The decoder key does: no PKCS#11 mechanism does STA or MISTY1, so tokens are
enciphered here, and decoder keys stand in a bounded cache of this process. One that leaks says nothing about the
vending key and serves one meter alone.

DKGA02 is refused, by name, when a key is imported and when a token's keys are read. Its last step XORs the vending key
itself into the result, so the key would have to be in this process in clear; and whoever sees one decoder key and may
ask for the DES of X has the vending key, as DK XOR E XOR X. Only an STS module, which keeps decoder keys inside too,
can protect such a key; the sealed key store at least keeps it from whoever reads the disk.

`sts.modules.pkcs11_token` says how keys lie in the token, and why one lock guards each library: therefore a module has
one session and at most one thread. More sessions would only wait for each other.
Source: decision 0010.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import BoundedSemaphore, Lock
from typing import Final, NoReturn

from pkcs11.exceptions import PKCS11Error

from sts.ciphers import DecoderKey
from sts.derivation import dkga04_message
from sts.errors import Fault, StsError
from sts.meterkey import MeterKey
from sts.modules import signing
from sts.modules.contract import (
    KeyChangeRequest,
    KeyMissing,
    ModuleError,
    ModuleRefused,
    ModuleSilent,
    ModuleStatus,
    TokenRequest,
    Unsettled,
    each,
)
from sts.modules.pkcs11_token import (
    TIMEOUT_S,
    LibraryUnusable,
    Pin,
    PinRefused,
    TokenAbsent,
    TokenLibrary,
    close_session,
    destroy_key,
    hmac_of,
    import_vending_key,
    label_of,
    library_at,
    list_keys,
    opened,
    read_keys,
    silence,
    token_alerts,
)
from sts.modules.signing import CACHE_SIZE, KEY_TYPE_CHANGES, ReadyKey
from sts.tables import SAMPLE, TableSet
from sts.tokens import Token

__all__ = [
    "LibraryUnusable",
    "Pin",
    "PinRefused",
    "Pkcs11Module",
    "TokenAbsent",
    "destroy_key",
    "import_vending_key",
    "label_of",
    "list_keys",
    "opened",
]

WAITING_MAX: Final = 256
"""More requests than this waiting for one token at once are answered with ModuleSilent."""


class _ReadyKeys:
    """A bounded number of decoder keys, least recently used dropped; for several threads. Its repr shows none."""

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._ready: Final[OrderedDict[MeterKey, ReadyKey]] = OrderedDict()
        self._lock: Final = Lock()

    def get(self, key: MeterKey) -> ReadyKey | None:
        """The decoder key of this handle, if it is kept."""
        with self._lock:
            ready = self._ready.get(key)
            if ready is not None:
                self._ready.move_to_end(key)
            return ready

    def put(self, key: MeterKey, ready: ReadyKey) -> None:
        """Keep it; with size 0, don't."""
        with self._lock:
            self._ready[key] = ready
            self._ready.move_to_end(key)
            while len(self._ready) > self._size:
                self._ready.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._ready.clear()


class _Connection:
    """A session with the keys found in it, and the decoder keys that came from them."""

    def __init__(self, library: TokenLibrary, token_label: str, pin: Pin, cache_size: int) -> None:
        self.login, self.session = library.session(token_label, pin)
        try:
            keys = read_keys(self.session)
        except (StsError, PKCS11Error):
            close_session(self.session)
            raise
        self.statuses: Final = {name: status for name, (status, _) in keys.items()}
        self.stored: Final = {name: stored for name, (_, stored) in keys.items()}
        self.cache: Final = _ReadyKeys(cache_size)
        self._is_closed = False

    def close(self, library: TokenLibrary) -> None:
        """Close the session, once, and not if its handle may mean another one by now."""
        if not self._is_closed and self.login.era == library.era:
            close_session(self.session)
        self._is_closed = True


class Pkcs11Module:
    """A SecurityModule whose vending keys of DKGA04 stay inside a PKCS#11 token.

    The constructor loads the library, logs in and reads the keys: it blocks, so call it before the loop runs or in a
    thread. It raises LibraryUnusable, TokenAbsent, PinRefused, ModuleRefused if the token's keys are not as they must
    be, and ModuleSilent for other trouble with the token.

    `library`: path of the PKCS#11 library; `token_label`: exactly one token has it.
    `answers_at_once`: True lets the synchronous methods call the token in the caller's thread, for a token that
    answers in microseconds (SoftHSM, a card in the machine); they then also raise ModuleSilent. False, for tokens
    behind a network: only the `_later` methods may be called, and they call it in a thread.
    `timeout_s`: how long a request waits for its turn and the answer; `waiting_max`: how many may wait at once.
    Others as of SoftwareModule. With `cache_size` 0 nothing is made without the token; otherwise cached decoder keys
    go on serving their meters while it is away.

    After an error of the token the request ends as ModuleSilent and the session is dropped; the next request logs in
    anew and reads the keys again. A PIN refused then is not tried again: each further request ends as ModuleSilent
    until the program starts anew.
    """

    def __init__(
        self,
        library: str,
        token_label: str,
        pin: Pin,
        *,
        tables: TableSet = SAMPLE,
        name: str = "pkcs11",
        cache_size: int = CACHE_SIZE,
        allowed: frozenset[Unsettled] = frozenset(),
        key_type_changes: frozenset[tuple[int, int]] = KEY_TYPE_CHANGES,
        answers_at_once: bool = False,
        timeout_s: float = TIMEOUT_S,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._name: Final = name
        self._tables: Final = tables
        self._allowed: Final = allowed
        self._key_type_changes: Final = key_type_changes
        self._cache_size: Final = cache_size
        self._answers_at_once: Final = answers_at_once
        self._timeout_s: Final = timeout_s
        self._waiting_max: Final = waiting_max
        self._library: Final = library_at(library)
        self._token_label: Final = token_label
        self.__pin: Final = pin
        self._pin_refused = False
        with self._library.entered(timeout_s), silence():
            self._connection = self._connect()
        self._is_open = True
        self._places: Final = BoundedSemaphore(waiting_max)
        self._thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sts-{name}")

    def __repr__(self) -> str:
        return f"<Pkcs11Module {self._name}, {len(self._connection.statuses)} vending keys>"

    @property
    def name(self) -> str:
        """The module's name in settings, metrics and the audit log."""
        return self._name

    @property
    def answers_at_once(self) -> bool:
        """As the constructor was told."""
        return self._answers_at_once

    def holds(self, key: MeterKey) -> bool:
        """Did the token hold the vending key of this decoder key when its keys were last read? Does not wait."""
        return signing.name_for(key) in self._connection.statuses

    def status(self) -> ModuleStatus:
        """Table set and keys by check value, sorted, as last read from the token. Does not wait."""
        statuses = self._connection.statuses
        return ModuleStatus(
            name=self._name,
            table_set=self._tables.name,
            real_meters_accept_ea07=not self._tables.is_sample,
            keys=tuple(statuses[name] for name in sorted(statuses)),
        )

    def make(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As of SoftwareModule, in the same order of checks; also raises ModuleSilent. Only if `answers_at_once`."""
        assert self._answers_at_once, "a module that does not answer at once: make_later expected"
        if request.key.key_type < 2:
            raise signing.no_tokens_under(request)
        return signing.token_digits(request, self._ready(request.key), self._allowed, now)

    def make_many(
        self, requests: Sequence[TokenRequest], *, now: datetime | None = None
    ) -> list[str | ModuleRefused | KeyMissing]:
        """A token, or the error `make` would have raised, for each request; ModuleSilent ends all of them."""
        return each(lambda request: self.make(request, now=now), requests)

    def make_set(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As of SoftwareModule; also raises ModuleSilent. Only if `answers_at_once`."""
        assert self._answers_at_once, "a module that does not answer at once: make_set_later expected"
        signing.check_change(request, self._allowed, self._key_type_changes)
        return signing.change_digits(request, self._ready(request.key), self._ready(request.new), now)

    def verify(self, digits: str, key: MeterKey) -> Token:
        """As of SoftwareModule; also raises ModuleSilent. Only if `answers_at_once`."""
        assert self._answers_at_once, "a module that does not answer at once: verify_later expected"
        return signing.token_read(digits, key, self._ready(key))

    async def make_later(self, request: TokenRequest, *, now: datetime | None = None) -> str:
        """As `make`, with any setting; the token is asked in a thread, and only for a key that is not cached."""
        if request.key.key_type < 2:
            raise signing.no_tokens_under(request)
        return signing.token_digits(request, await self._ready_later(request.key), self._allowed, now)

    async def make_set_later(self, request: KeyChangeRequest, *, now: datetime) -> tuple[str, ...]:
        """As `make_set`, with any setting."""
        signing.check_change(request, self._allowed, self._key_type_changes)
        present = await self._ready_later(request.key)
        return signing.change_digits(request, present, await self._ready_later(request.new), now)

    async def verify_later(self, digits: str, key: MeterKey) -> Token:
        """As `verify`, with any setting."""
        return signing.token_read(digits, key, await self._ready_later(key))

    def reload(self) -> None:
        """Start the library anew, log in and read the keys again, with an empty cache. Blocks.

        For keys imported or destroyed since, a PIN set right, and a token that came back while another of the same
        library was in use. Raises as the constructor; the keys read before stay in use then.
        """
        with self._library.entered(self._timeout_s), silence():
            self._pin_refused = False
            self._library.start_anew()
            self._connection = self._connect()

    def alerts(self) -> tuple[str, ...]:
        """What the token says is wrong with it or with its PIN, by the names of PKCS#11. Blocks.

        PKCS#11 knows no authorisation that ends; the keys' own dates stand in `status`. Raises ModuleSilent.
        """
        with self._library.entered(self._timeout_s), silence():
            return token_alerts(self._library, self._token_label)

    def close(self) -> None:
        """Log out and end the thread; requests that wait end as cancelled, later ones as ModuleSilent. Blocks."""
        self._is_open = False
        self._thread.shutdown(wait=False, cancel_futures=True)
        with self._library.entered(self._timeout_s):
            self._drop()
            self._connection.cache.clear()

    # --- inside -----------------------------------------------------------------------------------------------

    def _ready(self, key: MeterKey) -> ReadyKey:
        return self._found(key) or self._derive(key)

    async def _ready_later(self, key: MeterKey) -> ReadyKey:
        ready = self._found(key)
        if ready is not None:
            return ready
        if self._answers_at_once:
            return self._derive(key)
        if not self._places.acquire(blocking=False):
            raise ModuleSilent(f"{self._waiting_max} requests wait for the token already")
        try:
            answer = self._thread.submit(self._derive, key)
        except RuntimeError:
            self._places.release()
            raise ModuleSilent("the module is closed") from None
        # The place is free when the call ends, not when its caller stops waiting: a token that hangs fills them all,
        # and then requests are answered at once.
        answer.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            raise ModuleSilent(f"no answer of the token within {self._timeout_s} s") from None

    def _found(self, key: MeterKey) -> ReadyKey | None:
        """The decoder key if it is cached, None if the token must be asked."""
        connection = self._connection
        if signing.name_for(key) not in connection.statuses:
            raise KeyMissing(key)
        if key.key_type == 3:
            raise ModuleRefused(Fault.UNSETTLED, "key type 3 with DKGA04: no open source confirms its PAN")
        return connection.cache.get(key)

    def _derive(self, key: MeterKey) -> ReadyKey:
        """One HMAC in the token: the derivation of DKGA04. Blocks."""
        name = signing.name_for(key)
        with self._library.entered(self._timeout_s):
            connection = self._connected()
            stored = connection.stored.get(name)
            if stored is None:
                raise KeyMissing(key)
            try:
                with silence():
                    mac = hmac_of(stored, dkga04_message(key))
            except ModuleError as trouble:
                # A refusal too: the key answered when it was read, so it is the token that has changed.
                self._drop()
                raise ModuleSilent(trouble.sentence) from None
        decoder_key = DecoderKey.from_bytes(key.ea, mac[: key.decoder_key_bits // 8], self._tables)
        ready = ReadyKey(decoder_key, connection.statuses[name])
        connection.cache.put(key, ready)
        return ready

    def _connected(self) -> _Connection:
        """The connection, made anew if it was dropped or became void. With the library entered."""
        if not self._is_open:
            raise ModuleSilent("the module is closed")
        if self._is_current():
            return self._connection
        if self._pin_refused:
            raise ModuleSilent("the token refused the PIN when it came back; it is not tried again")
        self._drop()
        try:
            with silence():
                self._connection = self._connect()
        except PinRefused as refusal:
            self._pin_refused = True
            raise ModuleSilent(refusal.sentence) from None
        except ModuleSilent:
            raise
        except ModuleError as refusal:
            raise ModuleSilent(refusal.sentence) from None
        return self._connection

    def _connect(self) -> _Connection:
        try:
            return _Connection(self._library, self._token_label, self.__pin, self._cache_size)
        except PKCS11Error:
            self._library.start_anew()
        try:
            return _Connection(self._library, self._token_label, self.__pin, self._cache_size)
        except PKCS11Error:
            # Whoever comes next must not take a log-in for granted that may be dead: it would see a token without keys.
            self._library.log_out(self._token_label)
            raise

    def _drop(self) -> None:
        """Close the session, and end its log-in if that is still the one in force."""
        self._connection.close(self._library)
        if self._is_current():
            self._library.log_out(self._token_label)

    def _is_current(self) -> bool:
        return self._library.logins.get(self._token_label) is self._connection.login

    def __reduce__(self) -> NoReturn:
        raise TypeError("a module cannot be pickled or copied")
