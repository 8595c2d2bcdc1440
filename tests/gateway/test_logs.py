"""What a log line shows, and what it never shows.

Covers: tokens, keys, cards, PINs, phones and what must stay readable beside them; both forms of a line; faults while
logging; linear time.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import load
from config.settings import LogSettings
from gateway.logs import EVENT_MAX, JsonFormatter, TextFormatter, mask, mask_phone, on_loop_fault, set_up
from ledger.reasons import Reason

TOKEN = "12345678901234567890"
GROUPED = "1234 5678 9012 3456 7890"

# fmt: off
MASKED = [
    # tokens
    (f"token {TOKEN}.", "token ***."),
    (f"token {GROUPED}", "token ***"),
    (f"token {GROUPED.replace(' ', '-')}", "token ***"),
    (f"token {GROUPED.replace(' ', chr(0xA0))}", "token ***"),
    (f"token {GROUPED.replace(' ', chr(0x202F))}", "token ***"),
    (f"token {GROUPED.replace(' ', ' - ')}!", "token ***!"),
    (f"token {GROUPED.replace(' ', chr(0x2066) + ' ')}", "token ***"),
    ("token 12345 67890 12345 67890", "token ***"),
    (f"+{TOKEN}", "+***"),
    (f"+{GROUPED}", "+***"),
    (f"x{TOKEN}y", "x***y"),
    (f"9{TOKEN}", "***"),
    ("token ١٢٣٤ ٥٦٧٨ ٩٠١٢ ٣٤٥٦ ٧٨٩٠", "token ***"),
    # tokens as repr, JSON, JSON within JSON, and URLs write their spaces
    (f"token {GROUPED.replace(' ', chr(0xA0))!r}", "token '***'"),
    ("token '0310\\xa05906\\xa07890\\xa01234\\xa05678'", "token '***'"),
    ("token 0310\\u00a05906\\u00a07890\\u00a01234\\u00a05678", "token ***"),
    ("token 0310\\\\u202f5906\\\\u202f7890\\\\u202f1234\\\\u202f5678", "token ***"),
    ("token 0310\\u2066 5906\\u2066 7890\\u2066 1234\\u2066 5678", "token ***"),
    ("token 0310\\t5906\\n7890\\t1234\\t5678", "token ***"),
    ("token 0310\\xc2\\xa05906\\xc2\\xa07890\\xc2\\xa01234\\xc2\\xa05678", "token ***"),
    ("token 0310%C2%A05906%C2%A07890%C2%A01234%C2%A05678", "token ***"),
    ("token 0310%205906%207890%201234%205678", "token ***"),
    # tokens in pieces
    (f"token {GROUPED.replace(' ', ',')}", "token ***"),
    (f"token {GROUPED.replace(' ', ', ')}.", "token ***."),
    (f"token {GROUPED.replace(' ', ' | ')}", "token ***"),
    (f"token {GROUPED.split()}", "token ['***']"),
    (f"token {tuple(GROUPED.split())}", "token ('***')"),
    (f"token {json.dumps(GROUPED.split())}", 'token ["***"]'),
    (f"token {json.dumps(json.dumps(GROUPED.split()))}", 'token "[\\"***\\"]"'),
    (f"token {json.dumps(GROUPED.split(), indent=4)}", 'token [\n    "***"\n]'),
    (f"token {list(TOKEN)}", "token ['***']"),
    (f"token {re.findall('..', TOKEN)}", "token ['***']"),
    (f"token {re.findall('.....', TOKEN)}", "token ['***']"),
    (f"token {re.findall('..........', TOKEN)}", "token ['***']"),
    # octets as numbers
    (f"octets {list(TOKEN.encode())}", "octets [***]"),
    (f"octets {tuple(range(200, 208))}", "octets (***)"),
    (f"octets {json.dumps(list(range(8)), indent=8)}", "octets [\n        ***\n]"),
    ("octets [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]", "octets [***]"),
    # keys
    ("key 0123456789abcdef", "key ***"),
    ("key 0123456789ABCDEF0123456789ABCDEF01234567", "key ***"),
    ("key 01 23 45 67 89 ab cd ef 01 23 45 67 89 ab cd ef", "key ***"),
    ("key 01:23:45:67:89:ab:cd:ef:01:23:45:67:89:ab:cd:ef", "key ***"),
    ("0123456789abcdef0123456789abcdef", "***"),
    ("01890a5d-ac96-774b-bcce-b302099a80570123456789012345", "01890a5d-ac96-774b-bcce-***"),  # a UUID ends after 12
    (r"got b'\x00\x01' and b'it\'s'", "got b'***' and b'***'"),
    # cards
    ("card 4111111111111111", "card ***"),
    ("card 4111 1111 1111 1111", "card ***"),
    ("card 4111-1111-1111-1111", "card ***"),
    ("card 378282246310005", "card ***"),
    ("card 3782 822463 10005", "card ***"),
    # PINs and their like
    ("pin=1234", "pin=***"),
    ("PIN: 1234", "PIN: ***"),
    ('{"pin": "1234", "a": 1}', '{"pin": "***", "a": 1}'),
    ("wallet_pin=1234&x=1", "wallet_pin=***&x=1"),
    ("BUY 04012345676 500 PIN 1234", "BUY 04012345676 500 PIN ***"),
    ("password='hunter2'", "password='***'"),
    ("api-key: hunter2", "api-key: ***"),
    # passwords in addresses
    ("postgresql://user:hunter2@host/d", "postgresql://user:***@host/d"),
    ("postgresql+asyncpg://user:p@ss:w/rd@host:5432/d", "postgresql+asyncpg://user:***@host:5432/d"),
    ("redis://:hunter2@host", "redis://:***@host"),
    ("url='postgresql://u:hunter2@h/d'", "url='postgresql://u:***@h/d'"),
    # phones in contexts that name them
    ("msisdn=711013579", "msisdn=***"),
    ("phone: 0711 013 579", "phone: 07110***79"),
    ("sender 711-013-579 wrote", "sender *** wrote"),
    ("{'msisdn': '254 711 013 579'}", "{'msisdn': '25471*****79'}"),
    ('{"recipient": "+254 (711) 013-579"}', '{"recipient": "+25471*****79"}'),
    ('{\\"customer_phone\\": \\"711013579\\"}', '{\\"customer_phone\\": \\"***\\"}'),
    ("Phone number 711013579", "Phone number ***"),
    ("phone no. 0711.013.579", "phone no. 07110***79"),
    ("mobile 254\\xa0711\\xa0013\\xa0579", "mobile 25471*****79"),
    ("sender 27821234567", "sender 27821****67"),             # fits a meter's check digit
    (f"phone {GROUPED}", "phone ***"),
    ("phone 4111 1111 1111 1111", "phone ***"),
    # phones
    ("from 254 711 013 579", "from 25471*****79"),
    ("from 0711 013 579", "from 07110***79"),
    ("from 0711-013-5790", "from 07110****90"),
    ("from 711 013 5790", "from 71101***90"),
    ("from +254\u00a0711\u00a0013\u00a0579", "from +25471*****79"),
    ("from 254711013579", "from 25471*****79"),
    ("from +254 711 013 579", "from +25471*****79"),
    ("from +25471101357", "from +25471****57"),
    ("from 27821234566", "from 27821****66"),
    ("from 0711013579", "from 07110***79"),
    ("sms:254711013579:17", "sms:25471*****79:17"),
]

SHOWN = [
    "meter 04012345676",
    "purchase 01890a5d-ac96-774b-bcce-b302099a8057",
    "failed 01890a5d-ac96-774b-bcce-b302099a8057",
    "purchase 12345678-1234-1234-1234-123456789012",
    "2026-06-03 12:05:01.123456 UTC",
    "2026-06-03T12:05:01.123456+00:00",
    "took 0.1234567890123 s",
    "amount 250000 minor, 123456789 balance",
    "shipping: fast, spinning=1",
    "order 1234 5678 9012",
    "127.0.0.1:5432",
    "pinned to 17",
    "phones: 1500 of 20000 loaded",
    "sender 01890a5d-ac96-774b-bcce-b302099a8057",
    "postgresql://user@host:5432/prepaid",
    "http://127.0.0.1:8080/metrics",
    "groups 600801, 600802, 600803",
    "years 2024, 2025, 2026",
    "retries [1, 2, 4, 8, 16]",
    "took 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5 s",
    "2026-06-03 12:05:01,123 to 2026-06-04",
    "at 12:05:01, 12:05:02, 12:05:03",
    "",
]
# fmt: on


@pytest.mark.parametrize(("text", "expected"), MASKED)
def test_what_looks_like_a_secret_or_a_phone_is_masked(text: str, expected: str) -> None:
    assert mask(text) == expected
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize("text", SHOWN)
def test_what_operators_need_stays_readable(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("254711013579", "25471*****79"),
        ("+254711013579", "+25471*****79"),
        ("254 711 013 579", "25471*****79"),
        ("711013579", "***"),  # two digits of nine hide nobody
        ("40404", "***"),
        ("UTILITY", "***"),
    ],
)
def test_a_phone_number_keeps_its_first_five_and_last_two_digits(number: str, expected: str) -> None:
    assert mask_phone(number) == expected


# --- whatever the text ------------------------------------------------------------------------------------------------

_digits = st.text(st.sampled_from("0123456789"), min_size=20, max_size=45)
_gap = st.sampled_from(["", " ", "\u00a0", "\u202f", "-", "\u2011", "\t"])


@st.composite
def _tokens(draw: st.DrawFn) -> str:
    """20 and more digits, with at most one gap between any two."""
    gaps = draw(st.sampled_from(["none", "fours", "any"]))
    text = ""
    for place, digit in enumerate(draw(_digits)):
        between = gaps == "any" or (gaps == "fours" and place % 4 == 0)
        text += (draw(_gap) if between and place else "") + digit
    return text


@given(st.lists(st.one_of(st.text(), _tokens(), st.text("+-0123456789abcdefx b'\\. :", max_size=40)), max_size=6))
def test_no_run_of_twenty_digits_survives(parts: list[str]) -> None:
    for text in ("".join(parts), " ".join(parts)):
        masked = mask(text)
        assert not re.search(r"\d{20}", masked)
        assert not re.search(r"(?<![0-9A-Za-z-])\d{4}([ \u00a0\u202f-]\d{4}){4}(?![0-9A-Za-z-])", masked)


@given(_tokens(), st.text(), st.text())
def test_no_more_than_seven_digits_of_a_token_survive(token: str, before: str, after: str) -> None:
    digits = re.sub(r"\D", "", token)
    masked = mask(f"{before} {token} {after}")
    assert not any(digits[i : i + 8] in masked for i in range(len(digits) - 7)) or any(
        digits[i : i + 8] in before + after for i in range(len(digits) - 7)
    )


_between = st.sampled_from(
    [
        " ",
        "\u00a0",
        "\\xa0",
        "\\\\xa0",
        "\\u202f",
        "\\u200e ",
        "%C2%A0",
        ",",
        ", ",
        "', '",
        '", "',
        '\\", \\"',
        '",\n    "',
        " | ",
    ]
)


@given(st.text(st.sampled_from("0123456789"), min_size=20, max_size=20), _between, st.text(), st.text())
def test_no_group_of_a_token_survives_whatever_stands_between_the_groups(
    digits: str, between: str, before: str, after: str
) -> None:
    token = between.join(re.findall("....", digits))
    masked = mask(f"{before} [{token}] {after}")
    assert token not in masked
    assert masked.count("***") >= 1
    # What is left of the token is at most what a phone number keeps.
    left = re.sub(r"\D", "", mask(f"[{token}]"))
    assert left == ""


@given(st.lists(st.integers(0, 255), min_size=8, max_size=40), st.sampled_from(["{!r}", "key {} of"]))
def test_no_list_of_octets_survives(octets: list[int], form: str) -> None:
    assert not re.search(r"\d", mask(form.format(octets)))


@given(st.text(st.characters(exclude_characters="\"'<>@/:", exclude_categories=["Z", "C"]), min_size=1, max_size=100))
def test_no_password_survives_in_an_address(password: str) -> None:
    assert mask(f"at postgresql://user:{password}@host/d now") == "at postgresql://user:***@host/d now"


@given(
    st.sampled_from(["sender", "msisdn=", "phone: ", "'recipient': '", "customer_phone "]),
    st.lists(st.text(st.sampled_from("0123456789"), min_size=3, max_size=4), min_size=3, max_size=3),
    st.sampled_from(["", " ", "-", "\u00a0", "\\xa0", ") "]),
)
def test_at_most_seven_digits_of_a_phone_survive_behind_its_name(name: str, groups: list[str], between: str) -> None:
    name = name if name[-1] != "r" else f"{name} "
    assert len(re.findall(r"\d", mask(f"{name}{between.join(groups)}."))) <= 7


@pytest.mark.parametrize(
    "part",
    ["1", "1 ", "12 ", "a1", "a", "+1", "pin=", "pin ", "b'", "b'\\", "01-", "1111 ", "f:"]
    + [
        "1,",
        "1111,",
        "1111\\",
        "1\\xa0",
        "1\\",
        "\\",
        '1\\"',
        "11, ",
        "1111',  '",
        "0x1,",
        "://a:",
        "://:",
        "phone ",
        "phone 1",
    ]
    + ["phone 1 ", "sender", "1%20", "%", "1(", "123 456 ", "+1 ", "\\\\\\x", "phone\\", "phone number ", "1, 1111, "],
)
def test_masking_takes_linear_time(part: str) -> None:
    started = time.perf_counter()
    mask(part * (500_000 // len(part)))
    # About a tenth of this is needed; a quadratic pattern would take minutes.
    assert time.perf_counter() - started < 5


# --- lines ------------------------------------------------------------------------------------------------------------


class _Lines:
    """A logger set up by the product, and what it wrote."""

    def __init__(self, form: Literal["json", "text"]) -> None:
        self.stream = io.StringIO()
        self.masked = 0
        logging.getLogger().handlers.clear()  # pytest's own would raise where ours must not
        set_up(LogSettings(level="DEBUG", format=form), self.stream, self._count)
        self.log = logging.getLogger("gateway.test")

    def _count(self) -> None:
        self.masked += 1

    def one(self) -> Any:
        (line,) = self.stream.getvalue().splitlines()
        return json.loads(line)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    root.setLevel(level)


@pytest.fixture
def lines() -> _Lines:
    return _Lines("json")


def test_a_line_is_an_object_with_time_level_logger_event_and_fields(lines: _Lines) -> None:
    purchase = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    record = logging.LogRecord("gateway.vend", logging.INFO, __file__, 1, "purchase %s", ("vended",), None)
    record.created = 1_780_488_301.25
    record.__dict__ |= {"purchase": purchase, "amount_minor": 250_000, "rate": Decimal("1.5"), "late": False}
    record.__dict__ |= {"reason": Reason.BUSY, "seconds": 0.25, "none": None, "parts": (1, "x")}
    assert json.loads(JsonFormatter().format(record)) == {
        "time": "2026-06-03T12:05:01.250Z",
        "level": "INFO",
        "logger": "gateway.vend",
        "event": "purchase vended",
        "fields": {
            "purchase": str(purchase),
            "amount_minor": 250_000,
            "rate": "1.5",
            "late": False,
            "reason": "BUSY",
            "seconds": 0.25,
            "none": None,
            "parts": [1, "x"],
        },
    }


# fmt: off
@pytest.mark.parametrize(("name", "value", "shown"), [
    ("pin", "1234", "***"),
    ("new_pin", 1234, "***"),
    ("Token", "x", "***"),
    ("tokens", ["x"], "***"),
    ("master_key", b"x", "***"),
    ("note", b"\x00" * 16, "<16 octets>"),
    ("note", TOKEN, "***"),
    ("note", int(TOKEN), "***"),
    ("note", 4111111111111111, "***"),
    ("note", 254711013579, 254711013579),               # amounts in minor units have as many digits
    ("note", {"deep": [f"a {TOKEN}"], "pin": 1}, {"deep": ["a ***"], "pin": "***"}),
    ("note", {TOKEN: 1}, {"***": 1}),
    ("note", [[[[["deep"]]]]], [[[["…"]]]]),
    ("note", ValueError(f"bad {TOKEN}"), "bad ***"),
    ("sender", "254711013579", "25471*****79"),
    ("sender", "27821234567", "27821****67"),             # fits a meter's check digit; the name decides
    ("sender", 254711013579, "25471*****79"),
    ("sender", "UTILITY", "***"),
    ("sender", "711013579", "***"),
    ("sender", "254 711 013 579", "25471*****79"),
    ("note", GROUPED.split(), "***"),
    ("note", tuple(TOKEN), "***"),
    ("note", {"deep": GROUPED.split()}, {"deep": "***"}),
    ("note", list(b"\x01\x23\x45\x67\x89\xab\xcd\xef"), "***"),
    ("note", ["a", TOKEN], ["a", "***"]),
    ("note", [1, 2, 3], [1, 2, 3]),
    ("sender", None, None),
    ("recipient", ["+254711013579"], ["+25471*****79"]),
    ("customer_phone", "0711013579", "07110***79"),
    ("meter", "04012345677", "04012345677"),              # a wrong check digit is what one wants to see
    ("meter", "0000012345674", "0000012345674"),
    ("meter", "254711013579", "25471*****79"),
    ("key", "meter_unknown", "meter_unknown"),
])
# fmt: on
def test_fields_are_masked_by_name_and_by_looks(lines: _Lines, name: str, value: object, shown: object) -> None:
    lines.log.info("event", extra={name: value})
    assert list(lines.one()["fields"].values()) == [shown]


def test_arguments_are_masked_also_where_message_and_argument_make_the_secret_together(lines: _Lines) -> None:
    lines.log.info("token 1234%s pin=%s octets %s", "5678901234567890", 1234, b"secret")
    assert lines.one()["event"] == "token *** pin=*** octets <6 octets>"


def test_exceptions_and_stacks_are_masked_with_all_their_causes(lines: _Lines) -> None:
    try:
        try:
            raise KeyError(f"pin=1234 {TOKEN}")
        except KeyError as error:
            raise ValueError(f"card 4111111111111111 from {error}") from error
    except ValueError:
        lines.log.exception("failed", stack_info=True)
    trace = lines.one()["error"]
    assert "KeyError" in trace and "ValueError" in trace
    assert not re.search(r"=1234|\d{16}", trace)


def test_an_exception_text_that_another_handler_left_is_not_trusted() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "event", None, None)
    record.exc_text = f"ValueError: {TOKEN}"
    assert TOKEN not in JsonFormatter().format(record)


def test_settings_may_be_logged_whole(lines: _Lines) -> None:
    settings = load(
        '[database]\nurl = "postgresql://u:hunter2@h/d"\n[sts]\nkeystore = "k"\nmaster_key_env = "K"',
        {"K": "0123456789abcdef0123456789abcdef"},
    )
    lines.log.info("settings %s", settings)
    event = lines.one()["event"]
    assert "hunter2" not in event and "0123456789abcdef" not in event and "postgresql://u@h/d" in event
    assert lines.masked == 0


def test_each_line_with_a_secret_counts_once_and_phones_do_not_count(lines: _Lines) -> None:
    lines.log.info("from 254711013579", extra={"sender": "254711013579", "token": "named"})
    assert lines.masked == 0
    lines.log.info(f"{TOKEN} {TOKEN}", extra={"note": TOKEN})
    assert lines.masked == 1


def test_arguments_that_do_not_fit_neither_raise_nor_show(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _Lines("json")
    lines.log.info("token %d", TOKEN)
    assert lines.one()["event"] == "token %d (its arguments do not fit)"
    assert TOKEN not in "".join(capsys.readouterr())


def test_a_value_that_cannot_be_shown_costs_the_line_and_nothing_else(
    lines: _Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(TOKEN)

    lines.log.info("event", extra={"note": Broken()})
    assert lines.stream.getvalue() == "a log line of gateway.test could not be written: RuntimeError\n"
    assert TOKEN not in "".join(capsys.readouterr())


def test_a_long_event_is_cut_after_masking(lines: _Lines) -> None:
    lines.log.info("x" * (EVENT_MAX - 10) + TOKEN + "y" * 100)
    event = lines.one()["event"]
    assert len(event) < EVENT_MAX + 50
    assert not re.search(r"\d{5}", event[:EVENT_MAX])


def test_the_text_form_is_one_line_that_nobody_can_forge() -> None:
    lines = _Lines("text")
    lines.log.warning("bad\n2026 INFO forged", extra={"note": "a\nb\x1b[2J"})
    (line,) = lines.stream.getvalue().splitlines()
    assert line.endswith("WARNING gateway.test: bad\\n2026 INFO forged note=a\\nb\\x1b[2J")


def test_the_text_form_shows_the_exception_below() -> None:
    try:
        raise ValueError(TOKEN)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "event", None, sys.exc_info())
    assert TextFormatter().format(record).splitlines()[-1] == "ValueError: ***"


def test_lone_surrogates_and_foreign_scripts_are_written(lines: _Lines) -> None:
    # pytest notes what its own handlers hear, which then has to be UTF-8.
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if "pytest" not in type(handler).__module__]
    lines.log.info("\ud800 مرحبا")
    assert lines.one()["event"] == "\ud800 مرحبا"


def test_what_nobody_caught_is_a_masked_line_of_the_log(lines: _Lines, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(f"bad {TOKEN}")
    except ValueError:
        sys.excepthook(*sys.exc_info())
    line = lines.one()
    assert line["level"] == "CRITICAL" and line["error"].endswith("ValueError: bad ***")
    assert TOKEN not in "".join(capsys.readouterr())


def test_what_nobody_caught_in_a_thread_is_a_masked_line_of_the_log(lines: _Lines) -> None:
    def fail() -> None:
        raise ValueError(f"bad {TOKEN}")

    thread = threading.Thread(target=fail, name="writer")
    thread.start()
    thread.join()
    line = lines.one()
    assert line["fields"] == {"in_thread": "writer"} and line["error"].endswith("ValueError: bad ***")


def test_control_c_is_no_fault(lines: _Lines, capsys: pytest.CaptureFixture[str]) -> None:
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert lines.stream.getvalue() == "" and "KeyboardInterrupt" in capsys.readouterr().err


@pytest.mark.asyncio
async def test_what_an_event_loop_has_nobody_to_tell_is_a_masked_line_of_the_log(lines: _Lines) -> None:
    async def fail() -> None:
        raise ValueError(f"bad {TOKEN}")

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_loop_fault)
    task = asyncio.create_task(fail(), name="delivery")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    loop.call_exception_handler({"message": f"odd {GROUPED.split()}"})
    line, odd = map(json.loads, lines.stream.getvalue().splitlines()[-2:])
    assert line["event"] == "Task exception was never retrieved"
    assert line["fields"] == {"task": "delivery"} and line["error"].endswith("ValueError: bad ***")
    assert odd["event"] == "odd ['***']"


@pytest.mark.parametrize("name", ["alembic.runtime.migration", "aiohttp.access"])
def test_libraries_that_chatter_are_heard_only_when_they_warn(lines: _Lines, name: str) -> None:
    logging.getLogger(name).info("Context impl SQLiteImpl.")
    assert lines.stream.getvalue() == ""
    logging.getLogger(name).warning("a warning")
    assert lines.one()["event"] == "a warning"


def test_setting_up_twice_writes_each_line_once() -> None:
    first = _Lines("json")
    second = _Lines("json")
    set_up(LogSettings(), second.stream)
    second.log.info("once")
    assert first.stream.getvalue() == ""
    assert second.one()["event"] == "once"
