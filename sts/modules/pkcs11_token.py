"""A PKCS#11 token with the vending keys in it: library, log-in, PIN, and the objects that are vending keys. Shell.

Blocks: called from the thread of a module (`sts.modules.pkcs11`) or from the command line.

How a vending key lies in the token (`import_vending_key` writes it so, and nothing else is taken for one):

    CKA_CLASS     secret key, CKA_KEY_TYPE generic secret, on the token, private
    CKA_VALUE     the 20 bytes, then 12 zero bytes: SoftHSM asks for 32, and HMAC itself fills up with zeros
    CKA_SENSITIVE true, CKA_EXTRACTABLE false, CKA_DERIVE false (deriving could cut the key in readable pieces),
                  CKA_MODIFIABLE false, CKA_SIGN true, no other use
    CKA_LABEL     "sts-vk 123457 r1 t2 dkga04 b2014": supply group, key revision, key type, algorithm, base date
    CKA_ID        21 bytes: 01, key expiry number (1), check value (3), active from (8), issued until (8); moments are
                  signed seconds since 1970 UTC, most significant byte first, and 80 00 .. 00 where there is none

Objects with other labels are left alone. A label that begins with "sts-vk" and is malformed, a key that may be read, is
of another length, or does not give its check value: the token is refused whole, and nothing of it is used.

python-pkcs11 starts the library without a word on threads, by which PKCS#11 lets it expect one thread only; SoftHSM
then locks nothing, and two threads at once corrupt its memory (measured, decision 0010). So one lock guards each
library in this process.

Sources: PKCS#11 v2.40, base specification (secret key objects; C_Initialize; sessions and C_Login) and current
mechanisms (SHA-256 HMAC); decision 0010.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from threading import Lock, RLock
from typing import TYPE_CHECKING, Final, NoReturn

import pkcs11
from pkcs11 import exceptions as answers
from pkcs11.constants import Attribute, ObjectClass, TokenFlag
from pkcs11.mechanisms import KeyType, Mechanism
from pkcs11.types import Object, Session, SignMixin

from sts import numbers
from sts.derivation import KEY_BYTES
from sts.errors import Fault, StsError
from sts.modules.contract import KeyStatus, ModuleError, ModuleRefused, ModuleSilent
from sts.modules.records import KEYS_MAX, KeyName, VendingKeyRecord

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Cryptoki

TIMEOUT_S: Final = 5.0
"""How long a caller waits for the token, its turn included."""

STORED_BYTES: Final = 32
"""Length of a vending key in the token, zeros at its end included."""

PIN_LENGTH_MAX: Final = 255

_LABEL_PREFIX: Final = "sts-vk"
_LABEL: Final = re.compile(r"sts-vk ([0-9]{6}) r([1-9]) t([1-3]) dkga(0[24]) b([0-9]{4})", re.ASCII)
_ID: Final = struct.Struct(">BB3sqq")
_ID_VERSION: Final = 1
_NO_MOMENT: Final = -(1 << 63)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAC_BYTES: Final = 32

_DKGA02: Final = (
    "DKGA02: its last step takes the vending key itself, so no PKCS#11 token can keep such a key; "
    "an STS module or the sealed key store holds it"
)

# fmt: off
_PIN_ANSWERS: Final[Mapping[type[answers.PKCS11Error], str]] = {
    answers.PinIncorrect:         "it is wrong",
    answers.PinInvalid:           "it has characters that the token does not take",
    answers.PinLenRange:          "its length is not one that the token takes",
    answers.PinExpired:           "it has expired",
    answers.PinLocked:            "it is locked after too many wrong ones",
    answers.UserPinNotInitialized: "the token has none yet",
}
# fmt: on


_LACKS: Final = (
    answers.AttributeTypeInvalid,
    answers.FunctionNotSupported,
    answers.KeySizeRange,
    answers.KeyTypeInconsistent,
    answers.MechanismInvalid,
    answers.TemplateInconsistent,
)


_ALERTS: Final = (
    TokenFlag.USER_PIN_COUNT_LOW,
    TokenFlag.USER_PIN_FINAL_TRY,
    TokenFlag.USER_PIN_LOCKED,
    TokenFlag.USER_PIN_TO_BE_CHANGED,
    TokenFlag.ERROR_STATE,
)


class LibraryUnusable(ModuleError):
    """The PKCS#11 library cannot be loaded or started. Raised when a module or session is opened."""


class PinRefused(ModuleError):
    """The token refuses the PIN. Never try it again unasked: a token locks itself after a few wrong ones."""


class TokenAbsent(ModuleSilent):
    """There is no token of this label; it may come back."""


class Pin:
    """The user PIN of a token. Its repr shows none of it, and it cannot be pickled.

    Refuses FORMAT for an empty one, for more than 255 characters, and for line ends and others that no key types.
    """

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        if not 1 <= len(text) <= PIN_LENGTH_MAX or not text.isprintable():
            raise ModuleRefused(Fault.FORMAT, f"PIN: 1 to {PIN_LENGTH_MAX} printable characters expected")
        self.__text: Final = text

    def secret_text(self) -> str:
        """The PIN itself, for the log-in; for nothing else."""
        return self.__text

    def same_as(self, other: Pin) -> bool:
        """Is this the same PIN? Takes the same time either way."""
        return compare_digest(self.__text.encode(), other.__text.encode())

    def __repr__(self) -> str:
        return "<Pin, hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PIN cannot be pickled or copied")


class Login:
    """A log-in to one token, good for every session of this process, until a log-out or a new era of the library."""

    __slots__ = ("era", "pin", "session")

    def __init__(self, session: Session, pin: Pin, era: int) -> None:
        self.session: Final = session
        self.pin: Final = pin
        self.era: Final = era


class TokenLibrary:
    """One PKCS#11 library in this process, with its lock and log-ins, which all who use it share.

    A log-in and a log-out hold for all sessions of a process on the token. So one session per token does nothing but
    stay logged in, and those that work are opened without a PIN: closing them logs nobody out.
    """

    def __init__(self, cryptoki: Cryptoki) -> None:
        self.cryptoki: Final = cryptoki
        self.era = 0
        self.logins: Final[dict[str, Login]] = {}
        self._lock: Final = RLock()

    @contextmanager
    def entered(self, timeout_s: float) -> Iterator[None]:
        """The right to call the library; ModuleSilent if another call does not come back in time."""
        if not self._lock.acquire(timeout=timeout_s):
            raise ModuleSilent(f"the PKCS#11 library has been busy with another call for {timeout_s} s")
        try:
            yield
        finally:
            self._lock.release()

    def session(self, token_label: str, pin: Pin, *, rw: bool = False) -> tuple[Login, Session]:
        """A new session, logged in as user. Errors of PKCS#11 that have no name here pass through."""
        token = self._token(token_label)
        login = self.logins.get(token_label)
        if login is None:
            login = self.logins[token_label] = Login(_logged_in(token, pin), pin, self.era)
        elif not login.pin.same_as(pin):
            raise PinRefused(Fault.KEYSTORE, "PIN of the token: it is not the one this process is logged in with")
        return login, token.open(rw=rw)

    def _token(self, token_label: str) -> pkcs11.Token:
        try:
            try:
                return self.cryptoki.get_token(token_label=token_label)
            except answers.NoSuchToken:
                self.logins.pop(token_label, None)
                if self.logins:
                    raise  # other tokens are in use: their modules should not log in anew with each try of this one
                self.start_anew()
                return self.cryptoki.get_token(token_label=token_label)
        except answers.NoSuchToken:
            raise TokenAbsent(f"no token with the label {token_label!r}") from None
        except answers.MultipleTokensReturned:
            raise ModuleRefused(Fault.DUPLICATE, f"more than one token has the label {token_label!r}") from None

    def log_out(self, token_label: str) -> None:
        """End the log-in to a token, if there is one; modules that need it log in anew, without an error."""
        login = self.logins.pop(token_label, None)
        if login is not None:
            close_session(login.session)

    def start_anew(self) -> None:
        """Finalize and initialize: SoftHSM, for one, finds a token that was away only so. Every handle is void then."""
        self.era += 1
        self.logins.clear()
        try:
            self.cryptoki.finalize()
        except answers.PKCS11Error:
            pass  # it is to be started anew because something is wrong with it
        self.cryptoki.initialize()


_libraries: Final[dict[str, TokenLibrary]] = {}
_libraries_lock: Final = Lock()


def library_at(path: str) -> TokenLibrary:
    """The library at this path, loaded once for the process; raises LibraryUnusable."""
    with _libraries_lock:
        if path not in _libraries:
            try:
                _libraries[path] = TokenLibrary(pkcs11.lib(path))
            except answers.PKCS11Error as error:
                # What the system's loader says names files only.
                raise LibraryUnusable(Fault.UNSUPPORTED, f"PKCS#11 library: {_words_of(error)}") from None
        return _libraries[path]


def _logged_in(token: pkcs11.Token, pin: Pin) -> Session:
    try:
        return token.open(user_pin=pin.secret_text())
    except answers.UserAlreadyLoggedIn:
        return token.open()  # by other code of this process
    except tuple(_PIN_ANSWERS) as refusal:
        raise PinRefused(Fault.KEYSTORE, f"PIN of the token: {_PIN_ANSWERS[type(refusal)]}") from None


def close_session(session: Session) -> None:
    """Close it, with its log-in if it has one; no error if that cannot be."""
    try:
        session.close()
    except answers.PKCS11Error:
        pass  # gone already, with its token or its log-in


def token_alerts(library: TokenLibrary, token_label: str) -> tuple[str, ...]:
    """The flags of a token that somebody should see to. With the library entered; raises TokenAbsent."""
    try:
        flags = library.cryptoki.get_token(token_label=token_label).flags
    except answers.NoSuchToken:
        raise TokenAbsent(f"no token with the label {token_label!r}") from None
    return tuple(str(flag.name) for flag in _ALERTS if flag in flags)


# --- vending keys in the token ----------------------------------------------------------------------------------------


@contextmanager
def opened(library: str, token_label: str, pin: Pin, *, timeout_s: float = TIMEOUT_S) -> Iterator[Session]:
    """A session that may write, for the three functions below. Blocks, and holds the library until it ends.

    Raises LibraryUnusable, TokenAbsent, PinRefused, ModuleRefused as DUPLICATE for two tokens of one label, and
    ModuleSilent for other trouble, also inside the `with`.
    """
    held = library_at(library)
    with held.entered(timeout_s), silence():
        was_logged_in = token_label in held.logins
        _, session = held.session(token_label, pin, rw=True)
        try:
            yield session
        finally:
            close_session(session)
            if not was_logged_in:
                held.log_out(token_label)


def import_vending_key(session: Session, record: VendingKeyRecord) -> KeyStatus:
    """Put a vending key into the token, unreadable from then on, and check that the token computes with it.

    Refuses UNSUPPORTED for DKGA02, FORMAT for dates with parts of a second, DUPLICATE for a key of the same name,
    KEY_CHECK_VALUE and KEYSTORE if the token keeps something else than it was given; the object is removed then.
    """
    if record.dkga != 4:
        raise ModuleRefused(Fault.UNSUPPORTED, _DKGA02)
    key_id = _id_of(record.status)
    with silence():
        if _labelled(session, record.name):
            raise ModuleRefused(Fault.DUPLICATE, f"the token holds a key {label_of(record.name)} already")
        stored = session.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.MODIFIABLE: False,
                Attribute.SIGN: True,
                Attribute.VERIFY: False,
                Attribute.ENCRYPT: False,
                Attribute.DECRYPT: False,
                Attribute.WRAP: False,
                Attribute.UNWRAP: False,
                Attribute.DERIVE: False,
                Attribute.LABEL: label_of(record.name),
                Attribute.ID: key_id,
                Attribute.VALUE: record.key.secret_bytes().ljust(STORED_BYTES, b"\0"),
            }
        )
        try:
            return _checked(stored)
        except (StsError, answers.PKCS11Error):
            stored.destroy()
            raise


def list_keys(session: Session) -> tuple[KeyStatus, ...]:
    """The vending keys in the token, each checked, sorted by name; refuses the whole token as the module does."""
    with silence():
        held = read_keys(session)
        return tuple(held[name][0] for name in sorted(held))


def destroy_key(session: Session, name: KeyName) -> None:
    """Remove a vending key from the token, for good, also one that no longer passes its checks.

    Refuses KEY_MISSING if there is none of this name.
    """
    with silence():
        found = _labelled(session, name)
        if not found:
            raise ModuleRefused(Fault.KEY_MISSING, f"the token holds no key {label_of(name)}")
        for stored in found:
            stored.destroy()


def label_of(name: KeyName) -> str:
    """The label of a vending key's object."""
    supply_group, key_revision, key_type, dkga, base_date = name
    return f"{_LABEL_PREFIX} {supply_group} r{key_revision} t{key_type} dkga{dkga:02d} b{base_date}"


def _labelled(session: Session, name: KeyName) -> list[Object]:
    return list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: label_of(name)}))


def read_keys(session: Session) -> dict[KeyName, tuple[KeyStatus, SignMixin]]:
    """The vending keys in the token, each checked, with the objects that compute; refuses the token as a whole."""
    held: dict[KeyName, tuple[KeyStatus, SignMixin]] = {}
    for stored in list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})):
        if not _label_in(stored).startswith(_LABEL_PREFIX):
            continue
        status = _checked(stored)
        name = (status.supply_group, status.key_revision, status.key_type, status.dkga, status.base_date)
        if name in held:
            raise ModuleRefused(Fault.DUPLICATE, f"the token holds two keys {label_of(name)}")
        if len(held) == KEYS_MAX:
            raise ModuleRefused(Fault.OUT_OF_RANGE, f"at most {KEYS_MAX} vending keys expected in a token")
        assert isinstance(stored, SignMixin)
        held[name] = status, stored
    return held


def _checked(stored: Object) -> KeyStatus:
    """What label and ID of an object say, if it is as a vending key must be and gives its check value.

    Refuses FORMAT, UNSUPPORTED for DKGA02, KEYSTORE for a key that may be read, KEY_LENGTH, KEY_CHECK_VALUE.
    """
    label = _label_in(stored)
    found = _LABEL.fullmatch(label)
    if found is None:
        raise ModuleRefused(
            Fault.FORMAT,
            f"label {label[:60]!r} in the token: expected as 'sts-vk 123457 r1 t2 dkga04 b2014'",
        )
    if found[4] == "02":
        raise ModuleRefused(Fault.UNSUPPORTED, f"key {label} in the token: {_DKGA02}")
    if not stored[Attribute.SENSITIVE] or stored[Attribute.EXTRACTABLE] or stored[Attribute.DERIVE]:
        raise ModuleRefused(Fault.KEYSTORE, f"key {label} in the token: sensitive and not extractable expected")
    if stored[Attribute.VALUE_LEN] not in (KEY_BYTES[4], STORED_BYTES):
        raise ModuleRefused(Fault.KEY_LENGTH, f"key {label} in the token: {KEY_BYTES[4]} bytes and zeros expected")
    try:
        version, key_expiry, kcv, active_from, issued_until = _ID.unpack(stored[Attribute.ID])
        if version != _ID_VERSION:
            raise ValueError
        status = KeyStatus(
            supply_group=found[1],
            key_revision=int(found[2]),
            key_type=int(found[3]),
            dkga=int(found[4]),
            base_date=numbers.base_date_of(int(found[5])),
            key_expiry=key_expiry,
            kcv=kcv.hex(),
            active_from=_moment_of(active_from),
            issued_until=_moment_of(issued_until),
        )
    except (struct.error, ValueError, OverflowError, StsError):
        raise ModuleRefused(Fault.FORMAT, f"key {label} in the token: its ID or base date is malformed") from None
    if not isinstance(stored, SignMixin) or hmac_of(stored, bytes(8))[:3] != kcv:
        raise ModuleRefused(Fault.KEY_CHECK_VALUE, f"key {label} in the token: it does not give its check value")
    return status


def _label_in(stored: Object) -> str:
    try:
        return str(stored[Attribute.LABEL])
    except UnicodeDecodeError:
        return ""  # some other program's


def hmac_of(stored: SignMixin, message: bytes) -> bytes:
    """HMAC-SHA-256 of a message under a key in the token, 32 bytes, computed there."""
    mac = stored.sign(message, mechanism=Mechanism.SHA256_HMAC, buffer_size=_MAC_BYTES)
    if len(mac) != _MAC_BYTES:
        raise ModuleSilent(f"HMAC: {_MAC_BYTES} bytes expected from the token, got {len(mac)}")
    return mac


def _id_of(status: KeyStatus) -> bytes:
    return _ID.pack(
        _ID_VERSION,
        status.key_expiry,
        bytes.fromhex(status.kcv),
        _seconds_of(status.active_from),
        _seconds_of(status.issued_until),
    )


def _seconds_of(moment: datetime | None) -> int:
    if moment is None:
        return _NO_MOMENT
    if moment.microsecond:
        raise ModuleRefused(Fault.FORMAT, "dates of a vending key in a token: whole seconds expected")
    return (moment - _EPOCH) // timedelta(seconds=1)


def _moment_of(seconds: int) -> datetime | None:
    return None if seconds == _NO_MOMENT else _EPOCH + timedelta(seconds=seconds)


@contextmanager
def silence() -> Iterator[None]:
    """Errors of PKCS#11 as ModuleSilent, but those that no repetition mends as ModuleRefused (UNSUPPORTED)."""
    try:
        yield
    except _LACKS as error:
        raise ModuleRefused(Fault.UNSUPPORTED, f"the token lacks what is needed: {_words_of(error)}") from None
    except answers.PKCS11Error as error:
        raise ModuleSilent(f"the token says {_words_of(error)}") from None


def _words_of(error: answers.PKCS11Error) -> str:
    # The base class stands for codes that python-pkcs11 has no name for; its text is then that code.
    return str(error) if type(error) is answers.PKCS11Error else type(error).__name__
