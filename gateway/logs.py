"""Log lines as JSON or text, with tokens, keys, PINs, cards and phone numbers masked. Shell: writes to a stream.

Code logs an event in words and its values as fields: `log.info("purchase vended", extra={"purchase": id})`. It does
not log secrets; the masks here are the last line of defence, over the message, its arguments, the fields and the
text of exceptions. Whatever is masked because of its looks counts as a fault of the code that logged it.

What looks like what:
- 20 or more digits, with up to three spaces or dashes between any two: a meter's token. So are 20 digits in equal
  groups (five of 4, say) with commas, quotes, brackets and the like between them: a list as text. A space counts in its
  escaped forms too (\\xa0, \\u202f, %20), as Python's repr, JSON and URLs write it.
- 16 or more hexadecimal digits in a row, or 32 and more in pairs with spaces or colons: a key. UUIDs are shown.
  So are octets as numbers, 8 and more with commas between them.
- 13 to 19 digits with a right check digit, alone or in fours: a card.
- 10 to 15 digits, alone or grouped as people group them (0711 013 579), or a plus and 8 and more: a phone number; the
  first 5 and last 2 digits stay. 11 digits with a right check digit are a meter number and stay, so one phone number of
  11 digits in ten does too: phone numbers belong in the fields named below, where nothing is guessed. Behind such a
  name in a text, 7 digits and more are a phone number, however grouped.
- pin=…, password: … and their like: a secret. So is what stands between user and host in an address.
Every pattern is tried at most a bounded number of characters ahead, so the time is linear in the text.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from types import TracebackType
from typing import Any, Final, TextIO
from uuid import UUID

from config.settings import LogSettings

MASK: Final = "***"

# A line longer than this helps nobody and may be somebody's attempt to fill the disk.
EVENT_MAX: Final = 4_000
TRACE_MAX: Final = 20_000
FIELDS_MAX: Final = 50
DEPTH_MAX: Final = 4

# Names of fields, by their last word or words: shown never, as a phone number always, with meter numbers in full.
_SECRET_FIELD: Final = re.compile(
    r"(^|_)(pin|password|passphrase|secret|token|tokens|pan|card|cvv|otp|track2|authorization"
    r"|(master|vending|decoder|api|zone|zmk|session)_key)$"
)
_PHONE_FIELD: Final = re.compile(
    r"(^|_)(sender|recipient|caller|msisdns?|(tele)?phones?|tel|mobile|(source|destination|dest)_addr)$"
)
_METER_FIELD: Final = re.compile(r"(^|_)(meter|meter_number|drn)$")

# A sign as repr, JSON (also within JSON) and URLs write it.
_ESCAPED: Final = r"(?: \\{1,8} (?: x[0-9A-Fa-f]{2} | u[0-9A-Fa-f]{4} | [tnrfv] ) | %[0-9A-Fa-f]{2} )"
# Spaces and dashes of every width, and the direction marks that stand between groups in right-to-left texts.
_GAP: Final = rf"(?: [\s\u200e\u200f\u2010-\u2015\u2066-\u2069\-] | {_ESCAPED} )"
# One of the signs that stand between the entries of a list, however it is written. No two alternatives begin alike,
# here and above, so that there is one way to read a text.
_SIGN: Final = rf"(?: {_ESCAPED} | \\{{1,8}}[\"'] | [^\w\\%] )"
_EQUAL_GROUPS: Final = " | ".join(
    rf"\d{{{size}}} (?: {_SIGN}{{1,12}} \d{{{size}}} ){{{20 // size - 1},}}" for size in (1, 2, 4, 5, 10)
)
_OCTET: Final = r"(?: 0x[0-9A-Fa-f]{1,2} | \d{1,3} )"
_PHONE_NAME: Final = (
    r"(?: sender | recipient | caller | msisdns? | (?: tele )? phones? | tel | mobile"
    r" | (?: source | destination | dest )_addr )"
)

_LOOKS: Final = re.compile(
    rf"""
      (?P<uuid>   (?<![0-9A-Za-z]) [0-9A-Fa-f]{{8}} (?:-[0-9A-Fa-f]{{4}}){{3}} -[0-9A-Fa-f]{{12}} (?![0-9A-Za-z]) )
    | (?P<token>  \d (?: {_GAP}{{0,3}} \d ){{19,}} | (?<!\d) (?: {_EQUAL_GROUPS} ) (?!\d) )
    | (?P<list>   (?<![0-9A-Za-z.]) {_OCTET} (?: \s{{0,10}} , \s{{0,10}} {_OCTET} ){{7,}} (?! [0-9A-Za-z] | \.\d ) )
    | (?P<named>  (?<![0-9A-Za-z]) (?P<name> (?i:{_PHONE_NAME}) {_SIGN}{{1,8}} (?: (?i:number|no) {_SIGN}{{1,8}} )? )
                  (?P<digits> \d (?: (?: {_GAP} | [().\/] ){{0,3}} \d ){{6,}} ) )
    | (?P<hex>    [0-9A-Fa-f]{{16,}} | (?<![0-9A-Za-z]) [0-9A-Fa-f]{{2}} (?: [ :]? [0-9A-Fa-f]{{2}} ){{15,}} )
    | (?P<card>   (?<!\d) \d{{4}} (?: {_GAP} \d{{4}} ){{2,3}} (?: {_GAP} \d{{1,3}} )? (?!\d)
                | (?<!\d) \d{{4}} {_GAP} \d{{6}} {_GAP} \d{{5}} (?!\d) )
    | (?P<phone>  \+ \d (?: {_GAP}? \d ){{7,18}} (?! {_GAP}? \d )
                | (?<!\d) (?: \d{{4}} {_GAP} \d{{3}} {_GAP} \d{{3,4}} | \d{{3}} {_GAP} \d{{3}} {_GAP} \d{{4}}
                            | \d{{3}} (?: {_GAP} \d{{3}} ){{3}} ) (?!\d) )
    | (?P<run>    (?<!\d) (?<!\d\.) \d{{10,19}} (?!\d) )
    | (?P<octets> \b b ' (?: [^'\\] | \\. )* ' | \b b " (?: [^"\\] | \\. )* " )
    """,
    re.VERBOSE,
)
_NOT_DIGITS: Final = re.compile(rf"{_ESCAPED} | \D", re.VERBOSE)

# The password between user and host, up to the last "@" in reach: passwords hold that sign too.
_IN_ADDRESS: Final = re.compile(r"""(:// [^\s:/@"'<>]{0,100} :) ([^\s"'<>]{1,200}) (?=@)""", re.VERBOSE)

# A secret by its name, as in a query, a dictionary or a customer's text; the name and the sign between stay.
_NAMED: Final = re.compile(
    r"""(?ix) (?<![a-z0-9])
      ( (?: pin | password | passwd | passphrase | secret | (?: api | master | vending )[_-]?key | cvv2? | otp )
        ["']? \s{0,3} [=:] \s{0,3} (?: ["'] | Secret\( )?
      | pin \s{1,3} (?=\d) )
      ( [^\s"',;&)]+ )
    """
)


def mask(text: str) -> str:
    """The text with everything that looks like a secret or a phone number masked."""
    return _mask(text)[0]


def mask_phone(number: str) -> str:
    """A phone number with its first 5 and last 2 digits; a short one not at all."""
    plus, digits = ("+", number[1:]) if number.startswith("+") else ("", number)
    digits = re.sub(r"(?<=\d)[\s().-]{1,3}(?=\d)", "", digits)
    if not digits.isdigit() or len(digits) < 10:
        return MASK
    return f"{plus}{digits[:5]}{'*' * (len(digits) - 7)}{digits[-2:]}"


def _mask(text: str) -> tuple[str, bool]:
    """The masked text, and whether a secret was in it; a phone number alone is not one."""
    found = False

    def by_name(match: re.Match[str]) -> str:
        nonlocal found
        # Asterisks that an earlier mask left are no secret.
        found = found or match[2].strip("*") != ""
        return match[1] + MASK

    def by_looks(match: re.Match[str]) -> str:
        nonlocal found
        kind, shown = match.lastgroup, match[0]
        if kind == "uuid":
            return shown
        digits = _NOT_DIGITS.sub("", match["digits"] or shown)
        is_card = len(digits) >= 13 and _check_digit_fits(digits)
        if kind == "named" and len(digits) <= 15:  # no phone number has more (E.164)
            return match["name"] + mask_phone(digits)
        if kind == "phone":
            return mask_phone("+" * shown.startswith("+") + digits)
        if kind == "run" and not is_card:
            return shown if len(digits) == 11 and _check_digit_fits(digits) else mask_phone(digits)
        if kind == "card" and not is_card:
            return shown
        found = True
        if kind == "named":
            return match["name"] + MASK
        return f"b'{MASK}'" if kind == "octets" else MASK

    return _LOOKS.sub(by_looks, _NAMED.sub(by_name, _IN_ADDRESS.sub(by_name, text))), found


def _check_digit_fits(digits: str) -> bool:
    """Luhn's sum, as on cards and meters (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, character in enumerate(reversed(digits)):
        value = int(character) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


class _Line:
    """One record made fit to be shown. `found` tells whether a secret had to be masked by its looks."""

    def __init__(self, record: logging.LogRecord, trace: str) -> None:
        self.found = False
        self.time = (
            datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
        self.level = record.levelname
        self.logger = record.name
        self.event = _cut(self.text(_message(record)), EVENT_MAX)
        extra = [(name, value) for name, value in record.__dict__.items() if name not in _OWN_NAMES]
        self.fields = {self.text(name): self.value(name, value, 0) for name, value in extra[:FIELDS_MAX]}
        self.error = _cut(self.text(trace), TRACE_MAX)

    def text(self, text: str) -> str:
        masked, found = _mask(text)
        self.found = self.found or found
        return masked

    def value(self, name: str, value: object, depth: int) -> Any:
        """A field's value as JSON can say it, masked by its name and by its looks."""
        name = name.lower()
        if value is None or isinstance(value, bool):
            return value
        if _SECRET_FIELD.search(name):
            return MASK
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} octets>"
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if depth >= DEPTH_MAX:
                return "…"
            if isinstance(value, Mapping):
                pairs = list(value.items())[:FIELDS_MAX]
                return {self.text(str(key)): self.value(str(key), item, depth + 1) for key, item in pairs}
            items = list(value)[:FIELDS_MAX]
            return MASK if self._is_secret_in_pieces(items) else [self.value(name, item, depth + 1) for item in items]
        text = str(value.value) if isinstance(value, Enum) else str(value)
        if _PHONE_FIELD.search(name):
            return mask_phone(text)
        if isinstance(value, UUID) or (isinstance(value, str) and _is_meter_number(name, text)):
            return text
        if isinstance(value, float):
            return value  # its digits are no secret's: 17 at most, and most of them behind the point
        if isinstance(value, int) and not isinstance(value, Enum):
            return value if abs(value) < 10**15 else self.text(text)  # amounts, counts and durations are no phones
        return _cut(self.text(text), EVENT_MAX)

    def _is_secret_in_pieces(self, items: list[object]) -> bool:
        """Whether entries that are harmless one by one make a token or a key together."""
        if not all(isinstance(item, str | int) and not isinstance(item, bool | Enum) for item in items):
            return False
        is_secret = _mask(", ".join(map(str, items)))[1] and not any(_mask(str(item))[1] for item in items)
        self.found = self.found or is_secret
        return is_secret


def _is_meter_number(name: str, text: str) -> bool:
    return bool(_METER_FIELD.search(name)) and text.isdigit() and len(text) in (11, 13)


def _message(record: logging.LogRecord) -> str:
    """The event in words, with octets among its arguments replaced by their number."""
    arguments: Any = record.args
    if isinstance(arguments, Mapping):
        arguments = {name: _without_octets(value) for name, value in arguments.items()}
    elif arguments:
        arguments = tuple(_without_octets(value) for value in arguments)
    try:
        return str(record.msg) % arguments if arguments else str(record.msg)
    except Exception:  # whatever an argument's own text may raise: a log line never stops a purchase
        return f"{record.msg} (its arguments do not fit)"


def _without_octets(value: object) -> object:
    return f"<{len(value)} octets>" if isinstance(value, bytes | bytearray | memoryview) else value


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"


_OWN_NAMES: Final = frozenset(
    (*logging.LogRecord("", 0, "", 0, "", None, None).__dict__, "message", "asctime", "taskName", "color_message")
)


class MaskingFormatter(logging.Formatter):
    """Makes a `_Line` of each record; the two forms differ in how they write it."""

    def __init__(self, on_masked: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._on_masked = on_masked

    def format(self, record: logging.LogRecord) -> str:
        # Not the record's cached `exc_text`: another handler may have put it there, and it is not masked.
        trace = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        if record.stack_info:
            trace = f"{trace}\n{record.stack_info}".strip()
        line = _Line(record, trace)
        if line.found and self._on_masked is not None:
            self._on_masked()
        return self.written(line)

    def written(self, line: _Line) -> str:
        raise NotImplementedError


class JsonFormatter(MaskingFormatter):
    """A JSON object a line: time, level, logger, event, fields, and error if there was one."""

    def written(self, line: _Line) -> str:
        entry: dict[str, Any] = {"time": line.time, "level": line.level, "logger": line.logger, "event": line.event}
        if line.fields:
            entry["fields"] = line.fields
        if line.error:
            entry["error"] = line.error
        return json.dumps(entry, default=str)


class TextFormatter(MaskingFormatter):
    """For people: one line, then the exception. Control characters are escaped, so that a text cannot forge a line."""

    def written(self, line: _Line) -> str:
        fields = "".join(f" {name}={_printable(str(value))}" for name, value in line.fields.items())
        first = f"{line.time} {line.level:<7} {line.logger}: {_printable(line.event)}{fields}"
        return f"{first}\n{line.error}" if line.error else first


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that setting up twice replaces it; a fault of its own shows nothing of the record."""

    def handleError(self, record: logging.LogRecord) -> None:
        kind = sys.exc_info()[0]
        # Where the stream itself is gone there is nobody left to tell, and selling goes on.
        with suppress(OSError, ValueError):
            self.stream.write(
                f"a log line of {record.name} could not be written: {kind.__name__ if kind else 'unknown'}\n"
            )


def set_up(settings: LogSettings, stream: TextIO | None = None, on_masked: Callable[[], None] | None = None) -> None:
    """Send all logging to `stream` (stderr) in the form asked for.

    `on_masked` is called once for each line in which a secret was masked by its looks. May be called again. From here
    on exceptions that nobody caught are lines of the log too, those of other threads among them.
    """
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter(on_masked) if settings.format == "json" else TextFormatter(on_masked))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level)
    # One line for each request of the metrics collector says nothing, nor does the looking up of a schema's version.
    for chatty in ("aiohttp.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def on_loop_fault(loop: object, context: Mapping[str, Any]) -> None:
    """Log what an event loop has nobody else to tell: the exception of a task or callback that nobody awaits.

    For `loop.set_exception_handler`. Without the text forms of tasks and futures, which show what they hold.
    """
    error = context.get("exception")
    name = getattr(context.get("task") or context.get("future"), "get_name", str)()
    logging.getLogger("gateway").error(
        "%s", context.get("message", "an unforeseen event"), exc_info=error, extra={"task": name} if name else None
    )


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("gateway").critical("the program ends by a fault of its own", exc_info=(kind, error, trace))


def _uncaught_in_thread(uncaught: threading.ExceptHookArgs) -> None:
    if uncaught.exc_value is None or issubclass(uncaught.exc_type, SystemExit):
        return
    name = uncaught.thread.name if uncaught.thread is not None else "unknown"
    logging.getLogger("gateway").critical(
        "a thread ends by a fault of its own",
        exc_info=(uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback),
        extra={"in_thread": name},
    )
