"""Settings from TOML and environment.

Covers: every fault by name and all at once, no secret in any message, what wins over what, and that the sample file
names every setting with its true default.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import config
from config.kinds import Secret
from config.load import SettingsFaults, load
from config.money import (
    BankSettings,
    CheckoutSettings,
    MomoSettings,
    MpesaSettings,
    OperatorTextSettings,
    PaymentSettings,
    SettlementSettings,
)
from config.settings import (
    AfricasTalkingSettings,
    ChannelSettings,
    Pkcs11Settings,
    PrismSettings,
    Settings,
    SmppSettings,
    UssdSettings,
)

SAMPLE = Path(config.__file__).parent / "sample.toml"
LISTS: dict[str, Any] = {
    "smpp": SmppSettings,
    "africastalking": AfricasTalkingSettings,
    "pkcs11": Pkcs11Settings,
    "prism": PrismSettings,
    "ussd": UssdSettings,
    "bank": BankSettings,
    "payment": PaymentSettings,
    "mpesa": MpesaSettings,
    "momo": MomoSettings,
    "checkout": CheckoutSettings,
    "settlement": SettlementSettings,
    "operator_text": OperatorTextSettings,
}
LINK = '[[smpp]]\nname = "orange-1"\nhost = "smsc.example"\nsystem_id = "us"\n'
BY_SMPP = "[[ussd]]\nname = 'menu'\nkind = 'smpp'\n"
AT = "[[africastalking]]\nname = 'at'\nusername = 'sandbox'\n"
AT_KEY = AT + "api_key_env = 'KEY'\n"
SECRET = "hunter2-correct-horse"


def _faults(text: str | Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsFaults) as caught:
        load(text, environ or {})
    assert SECRET not in str(caught.value)
    return [str(fault) for fault in caught.value.faults]


# --- the sample file ----------------------------------------------------------------------------------------------


def _sample_with_everything_set() -> dict[str, Any]:
    return tomllib.loads(re.sub(r"^#(?=[a-z\[])", "", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE))


def test_the_sample_as_it_stands_is_the_defaults() -> None:
    assert load(SAMPLE, {}) == Settings()


def test_the_sample_names_every_section_and_no_other() -> None:
    assert list(_sample_with_everything_set()) != []
    assert set(_sample_with_everything_set()) == {entry.name for entry in fields(Settings)}


@pytest.mark.parametrize("section", [entry.name for entry in fields(Settings)])
def test_the_sample_names_every_setting_with_its_default(section: str) -> None:
    table = _sample_with_everything_set()[section]
    kind: Any = get_type_hints(Settings)[section]
    if section in LISTS:
        (table,), kind = table, LISTS[section]
    elif section == "channels":
        table, kind = table["SMS"], ChannelSettings
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    expected: set[str] = set()
    for entry in fields(kind):
        name = entry.name
        if hints[name] is Secret:
            may_be_inline = (section, name) in {("database", "password"), ("smpp", "password")}
            expected |= {f"{name}_env", f"{name}_file"} | ({name} if may_be_inline else set())
            assert table.get(name, "") == "", f"{name}: the sample must not hold a secret"
            continue
        expected.add(name)
        if entry.default is not MISSING and not (section in LISTS and name == "name"):
            shown = Decimal(table[name]) if hints[name] is Decimal else table[name]
            assert (shown, type(shown)) == (entry.default, type(entry.default)), f"{section}.{name}"
    assert set(table) == expected


# --- what wins ----------------------------------------------------------------------------------------------------


def test_an_empty_text_gives_the_defaults() -> None:
    assert load("", {}) == Settings()


def test_the_environment_wins_over_the_file() -> None:
    settings = load("[database]\nbatch_max = 5\nqueue_max = 50", {"PREPAID_DATABASE__BATCH_MAX": "7"})
    assert (settings.database.batch_max, settings.database.queue_max) == (7, 50)


@pytest.mark.parametrize(
    ("name", "text", "path", "expected"),
    [
        ("PREPAID_LOG__LEVEL", "DEBUG", "log.level", "DEBUG"),
        ("PREPAID_UTILITY__DEBT_CAP_PERCENT", "12.5", "utility.debt_cap_percent", Decimal("12.5")),
        ("PREPAID_PURCHASE__GIVE_UP_S", "2.5", "purchase.give_up_s", 2.5),
        ("PREPAID_PURCHASE__GIVE_UP_S", "2", "purchase.give_up_s", 2.0),
        ("PREPAID_HTTP__PORT", "0", "http.port", 0),
        ("PREPAID_STS__EA07_TABLES", "/etc/tables", "sts.ea07_tables", "/etc/tables"),
    ],
)
def test_a_variable_becomes_the_type_of_its_field(name: str, text: str, path: str, expected: object) -> None:
    section, key = path.split(".")
    found = getattr(getattr(load("", {name: text}), section), key)
    assert (found, type(found)) == (expected, type(expected))


def test_a_link_is_reached_by_its_name_and_a_channel_is_made() -> None:
    environ = {
        "PREPAID_SMPP__ORANGE_1__WINDOW": "50",
        "PREPAID_SMPP__ORANGE_1__TLS": "true",
        "PREPAID_CHANNELS__USSD__FEE_MINOR": "25",
    }
    settings = load(LINK, environ)
    assert (settings.smpp[0].name, settings.smpp[0].window, settings.smpp[0].tls) == ("orange-1", 50, True)
    assert settings.channel("ussd").fee_minor == 25
    assert settings.channel("SMS").fee_minor == 0


def test_variables_of_other_forms_are_left_alone() -> None:
    assert load("", {"PREPAID_CONFIG": "x", "HOME": "/", "PREPAIDX__Y": "1"}) == Settings()


# --- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["inline", "env", "file", "environment", "environment names a variable"])
def test_a_secret_comes_by_any_of_its_ways(way: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    text, environ = {
        "inline": (f'password = "{SECRET}"', {}),
        # A name with two underscores looks like an override; being pointed at, it is a secret instead.
        "env": ('password_env = "PREPAID_LINK__SECRET"', {"PREPAID_LINK__SECRET": SECRET}),
        "file": (f"password_file = '{file}'", {}),
        "environment": ('password_env = "GONE"', {"PREPAID_SMPP__ORANGE_1__PASSWORD": SECRET}),
        "environment names a variable": (
            "",
            {"PREPAID_SMPP__ORANGE_1__PASSWORD_ENV": "PREPAID_A__B", "PREPAID_A__B": SECRET},
        ),
    }[way]
    settings = load(LINK + text, environ)
    assert settings.smpp[0].password.reveal() == SECRET
    assert SECRET not in repr(settings) and SECRET not in f"{settings.smpp[0].password}"


def test_a_password_in_the_address_of_the_database_is_moved_out_of_it() -> None:
    settings = load('[database]\nurl = "postgresql://shop:p%40ss%2Fword@db.example:5433/prepaid?sslmode=require"', {})
    assert settings.database.url == "postgresql://shop@db.example:5433/prepaid?sslmode=require"
    assert settings.database.password.reveal() == "p@ss/word"
    assert "p%40ss" not in repr(settings)
    assert settings.database.url_with_password() == (
        "postgresql://shop:p%40ss%2Fword@db.example:5433/prepaid?sslmode=require"
    )


def test_the_master_key_comes_from_a_file_or_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("00ff\n")
    assert load(f"[sts]\nkeystore = 'k'\nmaster_key_file = '{file}'", {}).sts.master_key.reveal() == "00ff"
    assert load("[sts]\nkeystore = 'k'\nmaster_key_env = 'MK'", {"MK": "00ff"}).sts.master_key.reveal() == "00ff"


@pytest.mark.parametrize(
    "text",
    [
        f'[database]\npasword = "{SECRET}"',
        f'[database]\npassword = ["{SECRET}"]',
        f'[database]\npassword_env = "{SECRET}"\nurl = "postgresql://u@h/d"',
        f'[database]\npassword_file = "{SECRET}"\nurl = "postgresql://u@h/d"',
        f'[database]\npassword = "{SECRET}"',  # sqlite has none
        f'[database]\nurl = "postgresql://u:{SECRET}@h"',
        f'[database]\nurl = "postgresql://u:{SECRET}@h:port/d"',
        f'[database]\nurl = "postgres://u:{SECRET}@h/d"',
        f'[database]\nurl = "u:{SECRET}@h/d"',
        f'[database]\nurl = "{SECRET}"',
        f'[database]\nurl = "{SECRET * 60}"',
        f'[database]\nurl = "postgresql://u:{SECRET}@h/d"\npassword = "x"',
        f'[sts]\nkeystore = "k"\nmaster_key = "{SECRET}"',
        f'[database]\npassword = "{SECRET}',  # not closed
        f'[database]\npassword = {SECRET}',  # not quoted
        LINK + f'password = "{SECRET}"\npassword_env = "{SECRET}"',
        f'{SECRET.replace("-", "_")} = 1\n[log]\nlevel = 1',
    ],
)  # fmt: skip
def test_no_fault_shows_a_secret(text: str) -> None:
    assert _faults(text)


# --- faults -------------------------------------------------------------------------------------------------------


def test_all_faults_come_at_once() -> None:
    text = """
        [databse]
        [database]
        batch_max = 0
        bathc_max = 3
        [purchase]
        give_up_s = 700
        [utility]
        timezone = "Mars/Olympus"
        debt_cap_percent = 12.5
        [[smpp]]
        name = "a-b"
        port = "x"
        tls_ca_file = "x"
        [[smpp]]
        name = "A_B"
        host = "h"
        system_id = "s"
    """
    environ = {"PREPAID_SMPP__A_B__WINDOW": "0", "PREPAID_LOG__LEVL": "x", "PREPAID_LOG__LEVEL": "INF"}
    assert {fault.split(":")[0] for fault in _faults(text, environ)} == {
        "databse",
        "database.batch_max",
        "database.bathc_max",
        "purchase.give_up_s",
        "utility.timezone",
        "utility.debt_cap_percent",
        "smpp[a-b].host",
        "smpp[a-b].port",
        "smpp[a-b].system_id",
        "smpp[a-b].tls",
        "smpp[A_B].name",
        "PREPAID_SMPP__A_B__WINDOW",
        "PREPAID_LOG__LEVL",
        "PREPAID_LOG__LEVEL",
    }


# fmt: off
@pytest.mark.parametrize(("text", "environ", "fault"), [
    ("[databse]", {}, "databse: expected a known section, perhaps database; came an unknown one"),
    ("[http]\nprot = 1", {}, "http.prot: expected a known key, perhaps port; came an unknown one"),
    ("[http]\nport = 65536", {}, "http.port: expected a whole number from 0 to 65535; came 65536"),
    ("[http]\nport = true", {}, "http.port: expected a whole number from 0 to 65535; came true"),
    ("[http]\nport = 80.0", {}, "http.port: expected a whole number from 0 to 65535; came 80.0"),
    ("[http]\nport = 2026-01-01", {}, "http.port: expected a whole number from 0 to 65535; came a date or time"),
    ("", {"PREPAID_HTTP__PORT": "80x"}, "PREPAID_HTTP__PORT: expected a whole number from 0 to 65535; came '80x'"),
    ("", {"PREPAID_HTTP__PRT": "1"}, "PREPAID_HTTP__PRT: expected a known key, perhaps PORT; came an unknown one"),
    ("", {"PREPAID_HTPT__PORT": "1"},
     "PREPAID_HTPT__PORT: expected PREPAID_<SECTION>__<KEY>, perhaps HTTP; came an unknown section"),
    ("", {"PREPAID_SMPP__WINDOW": "1"},
     "PREPAID_SMPP__WINDOW: expected PREPAID_SMPP__<LINK>__<KEY>; came a name of another form"),
    (LINK, {"PREPAID_SMPP__ORANGE__WINDOW": "1"},
     "PREPAID_SMPP__ORANGE__WINDOW: expected the name of a link in [[smpp]], perhaps ORANGE_1; came ORANGE"),
    ("http = 1", {}, "http: expected a table; came 1"),
    ("smpp = 1", {}, "smpp: expected a list of tables, [[smpp]]; came 1"),
    ("[smpp]", {}, "smpp: expected a list of tables, [[smpp]]; came a table"),
    ("smpp = [1]", {}, "smpp[1]: expected a table; came 1"),
    ("channels = 1", {}, "channels: expected tables, [channels.<NAME>]; came 1"),
    ("[channels.sms]", {},
     "channels.sms: expected a channel's name in capitals, digits and underscores; came another name"),
    ("[channels.SMS]\nfee_minor = -1", {},
     "channels.SMS.fee_minor: expected a whole number from 0 to 1000000000; came -1"),
    ("[log]\nlevel = \"INF\"", {},
     "log.level: expected one of DEBUG, INFO, WARNING, ERROR, perhaps INFO; came 'INF'"),
    ("[utility]\ndebt_cap_percent = \"100.01\"", {},
     "utility.debt_cap_percent: expected a decimal number in quotes from 0 to 100; came '100.01'"),
    ("[utility]\ndebt_cap_percent = \"NaN\"", {},
     "utility.debt_cap_percent: expected a decimal number in quotes from 0 to 100; came 'NaN'"),
    ("[utility]\ntimezone = \"../etc/passwd\"", {},
     "utility.timezone: expected a time zone of the IANA list, such as \"Africa/Nairobi\"; came '../etc/passwd'"),
    ("[utility]\ntimezone = \"Africa\"", {},
     "utility.timezone: expected a time zone of the IANA list, such as \"Africa/Nairobi\"; came 'Africa'"),
    ("[utility]\ncurrency = \"usd\"", {},
     "utility.currency: expected three capital letters, ISO 4217, 3 characters; came 'usd'"),
    ("[purchase]\ngive_up_s = inf", {}, "purchase.give_up_s: expected a number from 0.001 to 86400; came inf"),
    ("[purchase]\ngive_up_s = 0", {}, "purchase.give_up_s: expected a number from 0.001 to 86400; came 0"),
    ("[delivery]\nretry_min_s = 1000", {}, "delivery.retry_min_s: expected at most retry_max_s (900.0); came 1000.0"),
    (LINK, {"PREPAID_SMPP__ORANGE_1__RECONNECT_MIN_S": "31"},
     "PREPAID_SMPP__ORANGE_1__RECONNECT_MIN_S: expected at most reconnect_max_s (30.0); came 31.0"),
    (LINK + LINK, {},
     "smpp[orange-1].name: expected a name unlike those of the other links; came one like smpp[orange-1]"),
    (LINK + "password = ''\npassword_file = 'x'", {},
     "smpp[orange-1].password: expected one way of giving it; came password and password_file"),
    (LINK + "password_env = 'X'", {},
     "smpp[orange-1].password_env: expected the name of an environment variable that is set; came one that is not set"),
    (LINK + "password_env = 'X'", {"X": ""},
     "smpp[orange-1].password_env: expected the name of an environment variable that is set; came an empty one"),
    (LINK + "password_file = '/nowhere/at/all'", {},
     "smpp[orange-1].password_file: expected a readable file with the secret as text; came No such file or directory"),
    ("[sts]\nmaster_key_env = 'X'", {"X": "1"},
     "sts.keystore: expected a path, since master_key_env is set; came none"),
    ("[database]\nurl = 'sqlite://var/x'", {},
     "database.url: expected \"sqlite:///FILE\" or \"postgresql://USER@HOST[:PORT]/DATABASE\"; "
     "came sqlite with a host or without a file (not shown)"),
    ("[database]\nurl = 'sqlite://'", {},
     "database.url: expected \"sqlite:///FILE\" or \"postgresql://USER@HOST[:PORT]/DATABASE\"; "
     "came sqlite with a host or without a file (not shown)"),
    ("[database]\nurl = 'sqlite:///:memory:'", {},
     "database.url: expected \"sqlite:///FILE\" or \"postgresql://USER@HOST[:PORT]/DATABASE\"; "
     "came sqlite with a host or without a file (not shown)"),
    ("[delivery]\nlease_s = 60\n" + LINK, {},
     "delivery.lease_s: expected more than response_timeout_s of smpp[orange-1] (60.0); came 60.0"),
    (LINK, {"PREPAID_SMPP__ORANGE_1__RESPONSE_TIMEOUT_S": "180"},
     "delivery.lease_s: expected more than response_timeout_s of smpp[orange-1] (180.0); came 180.0"),
    (LINK, {"PREPAID_DELIVERY__LEASE_S": "10"},
     "PREPAID_DELIVERY__LEASE_S: expected more than response_timeout_s of smpp[orange-1] (60.0); came 10.0"),
    ("[purchase]\nanswer_wait_s = 8.0", {},
     "purchase.answer_wait_s: expected a known key; came an unknown one"),
    (LINK + "centre = 'a:b'", {},
     "smpp[orange-1].centre: expected letters, digits, dots, dashes and underscores, 0 to 40 characters; came 'a:b'"),
    ("[database]\nurl = 'postgresql://h/'", {},
     "database.url: expected \"sqlite:///FILE\" or \"postgresql://USER@HOST[:PORT]/DATABASE\"; "
     "came one without user and database"),
    (AT, {}, "africastalking[at].api_key: expected api_key_file or api_key_env; came none of them"),
    (AT + f"api_key = '{SECRET}'", {},
     "africastalking[at].api_key: expected api_key_file or api_key_env; came the secret itself (not shown)"),
    (AT_KEY + "base_url = 'http://sms.example'", {"KEY": SECRET},
     "africastalking[at].base_url: expected https, or http on this machine; came http elsewhere"),
    (AT_KEY + "path_secret_env = 'P'", {"KEY": SECRET, "P": "short"},
     "africastalking[at].path_secret: expected 16 to 200 letters, digits, dashes and underscores; "
     "came another text (not shown)"),
    (AT_KEY + "addresses = '10.0.0.0/33'", {"KEY": SECRET},
     "africastalking[at].addresses: expected addresses and networks such as \"196.201.214.0/24 10.0.0.5\"; "
     "came '10.0.0.0/33'"),
    (AT_KEY + "rest_max_s = 1", {"KEY": SECRET},
     "africastalking[at].rest_first_s: expected at most rest_max_s (1.0); came 5.0"),
    (AT_KEY + "answer_timeout_s = 180", {"KEY": SECRET},
     "delivery.lease_s: expected more than both time-outs of africastalking[at] (183.0); came 180.0"),
    (AT_KEY + LINK.replace("orange-1", "at"), {"KEY": SECRET},
     "africastalking[at].name: expected a name unlike those of smpp[at]; came 'at'"),
    (AT_KEY + LINK + "centre = 'at'", {"KEY": SECRET},
     "africastalking[at].name: expected a name unlike those of smpp[orange-1]; came 'at'"),
    (LINK + "mode = 'receiver'\n" + BY_SMPP + "links = 'orange-1'", {},
     "ussd[menu].links: expected links that take and send: mode transceiver or pair; came 'orange-1', a receiver"),
    (LINK + BY_SMPP, {}, "ussd[menu].links: expected names of [[smpp]] links, since kind is \"smpp\"; came none"),
    (BY_SMPP + "links = 'orange-1'", {}, "ussd[menu].links: expected names of [[smpp]] links; came 'orange-1'"),
    (LINK + BY_SMPP + "links = 'orange-1'\n" + BY_SMPP.replace("menu", "other") + "links = 'orange-1'", {},
     "ussd[other].links: expected no link of ussd[menu]; came 'orange-1'"),
    (LINK + BY_SMPP + "links = 'orange-1'\nmark_from = 'message_id'", {},
     "ussd[menu].links: expected reference_tlv of smpp[orange-1], since mark_from is \"message_id\"; came 0"),
    (LINK + BY_SMPP + "links = 'orange-1'\nsession_from = 'session_id'", {},
     "ussd[menu].mark_from: expected \"message_id\" or another place, since session_from \"session_id\" has no "
     "sequence; came \"sequence\""),
    (LINK + BY_SMPP + "links = 'orange-1'\nanswer_operation = 1", {},
     "ussd[menu].answer_operation: expected another value than begin_operation; came 1"),
    (LINK + "[[ussd]]\nname = 'menu'\nkind = 'hubtel'\naddresses = '10.0.0.1'\nlinks = 'orange-1'", {},
     "ussd[menu].links: expected none, since kind is not \"smpp\"; came 'orange-1'"),
    ("[http]\nport = 1\nport 2\n", {}, "settings: expected TOML; came something else at line 3, column 6"),
])
# fmt: on
def test_a_fault_says_where_and_what_was_expected_and_what_came(text: str, environ: dict[str, str], fault: str) -> None:
    assert _faults(text, environ) == [fault]


def test_a_lease_may_be_short_where_every_message_centre_answers_sooner() -> None:
    assert load("[delivery]\nlease_s = 10", {}).delivery.lease_s == 10
    assert load("[delivery]\nlease_s = 10\n" + LINK + "response_timeout_s = 9.5", {}).delivery.lease_s == 10
    assert load(LINK, {}).delivery.lease_s > load(LINK, {}).smpp[0].response_timeout_s, "by default too"


def test_the_sample_does_not_promise_keys_that_nobody_made() -> None:
    about = SAMPLE.read_text(encoding="utf-8").partition("keystore = ")[0].rpartition("[sts]")[2]
    assert "demonstration" not in about and "refused" in about


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "prepaid.toml"
    assert _faults(path) == [f"{path}: expected a readable file; came No such file or directory"]
    path.write_bytes(b"\xff")
    assert _faults(path) == [f"{path}: expected text in UTF-8; came another octet at position 0"]


@given(
    st.dictionaries(
        st.from_regex(r"PREPAID_[A-Z_]{0,20}", fullmatch=True)
        | st.sampled_from(["PREPAID_HTTP__PORT", "PREPAID_DATABASE__URL", "PREPAID_UTILITY__TIMEZONE"]),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    )
)
def test_no_environment_crashes_the_loader(environ: dict[str, str]) -> None:
    try:
        load("", environ)
    except SettingsFaults as faults:
        assert faults.faults


_toml_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda deeper: st.lists(deeper) | st.dictionaries(st.sampled_from(["name", "url", "port", "SMS", "x"]), deeper),
)


@given(st.sampled_from([entry.name for entry in fields(Settings)]), _toml_like)
def test_no_tree_crashes_the_loader(section: str, value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("config.load.tomllib.loads", lambda _: {section: value})
        try:
            load("", {})
        except SettingsFaults as faults:
            assert faults.faults
