"""`prepaid token ...` as an engineer types it: through a parser of its own, with files, standard input and exit codes.

Covers: the self-test with good, bad, missing and foreign files; every kind of token made and read back; what is refused
and in which words; that no key is ever shown; tokens verified under present and previous keys.
"""

import argparse
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.settings import Settings
from gateway.commands.tokenmake import BOOKS_WARNING, SAMPLE_WARNING
from gateway.commands.tokenoptions import FindMeter
from gateway.commands.tokens import add_commands
from sts.explain import Candidate
from sts.knownanswer import known_answers
from sts.modules.contract import CreditRequest
from sts.modules.keystore import MasterKey, seal
from sts.modules.software import SoftwareModule
from sts.tables import SAMPLE
from sts.tid import tid_at
from tests.sts.keys import NOW, handle, raw_key, record
from tests.sts.rows import FILE

KEY: Final = raw_key(2, "123456 1 2").hex()  # of record(2)
NEXT_KEY: Final = raw_key(2, "123456 2 2").hex()  # of record(2, key_revision=2)
HMAC_KEY: Final = raw_key(4, "123457 1 2").hex()
METER: Final = handle().drn
TID: Final = tid_at(NOW, 2014)

IDENTITY: Final = (
    f"--meter {METER} --supply-group 123456 --tariff-index 01 --revision 1 --base-date 2014 --ea 7 --generation 2"
).split()
EA11: Final = (
    f"--meter {METER} --supply-group 123457 --tariff-index 01 --revision 1 --base-date 2014 --ea 11 --generation 4"
).split()
UNDER_TEST_KEY: Final = [*IDENTITY, "--test-key"]
AT: Final = ["--at", "2026-03-01T12:00Z", "--rnd", "5"]

MODULE: Final = SoftwareModule([record(2), record(2, key_revision=2), record(4)])
TOKEN: Final = MODULE.make(CreditRequest(handle(), 0, TID, 5, 256))


@dataclass
class World:
    """A clock that stands still."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def new_id(self) -> UUID:
        raise AssertionError("no id is needed")

    def nibble(self) -> int:
        return 9

    def chance(self) -> float:
        raise AssertionError("no chance is needed")

    def nonce(self, octets: int) -> bytes:
        raise AssertionError("no nonce is needed")


@dataclass
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)


class Shell:
    """Types commands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.find_meter: FindMeter | None = None

    def __call__(self, *arguments: str | Path, typed: str = "") -> Answer:
        parser = argparse.ArgumentParser(prog="prepaid")
        add_commands(parser.add_subparsers(dest="command"), find_meter=self.find_meter, world=World())
        self._monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        self._capsys.readouterr()
        options = parser.parse_args(["token", *map(str, arguments)])
        code = options.run(options)
        captured = self._capsys.readouterr()
        return Answer(code, captured.out, captured.err)


@pytest.fixture
def prepaid_token(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings with a key store of three keys, and the sample tables."""
    (tmp_path / "master.key").write_text(bytes(range(32)).hex())
    records = [record(2), record(2, key_revision=2), record(4)]
    text = seal(records, MasterKey(bytes(range(32))), [bytes([number]) * 12 for number in range(3)])
    (tmp_path / "keys.json").write_text(text)
    file = tmp_path / "prepaid.toml"
    file.write_text(
        f'[sts]\nkeystore = "{tmp_path}/keys.json"\nmaster_key_file = "{tmp_path}/master.key"\n'
        '[utility]\ntimezone = "Africa/Nairobi"\n'
    )
    return file


# --- selftest ---------------------------------------------------------------------------------------------------------


def _lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.out.splitlines()]


def test_vector_file_passes_and_skipped_rows_say_why(prepaid_token: Shell) -> None:
    answer = prepaid_token("selftest", "--vectors", FILE)
    *findings, summary = _lines(answer)
    assert answer.code == 0
    assert summary == {
        "rows": 694, "passed": 615, "skipped": 79, "differ": 0, "unreadable": 0, "tables": "sample",
    }  # fmt: skip
    assert {finding["result"] for finding in findings} == {"skipped"} and len(findings) == 79
    assert findings[0]["why"] == "needs the operational EA07 tables: everything but the enciphering was checked"


def test_changed_row_and_broken_line_are_reported_and_end_with_1(prepaid_token: Shell, tmp_path: Path) -> None:
    first, second, *_ = FILE.read_text().splitlines()
    changed = json.loads(first)
    changed["expected"]["decoded_units"] = 1
    (tmp_path / "rows").write_text(f"{json.dumps(changed)}\n\n{{broken\n{second}\n")
    answer = prepaid_token("selftest", "--vectors", tmp_path / "rows")
    *findings, summary = _lines(answer)
    assert answer.code == 1
    assert [finding["result"] for finding in findings if finding["result"] != "skipped"] == ["differs", "unreadable"]
    assert findings[0]["id"] == changed["id"] and findings[0]["field"] == "decoded_units"
    assert (findings[0]["expected"], findings[0]["got"]) == (1, 0)
    assert findings[1]["line"] == 3 and findings[1]["why"] == "a JSON object expected"
    assert (summary["rows"], summary["differ"], summary["unreadable"]) == (3, 1, 1)


def test_tables_are_checked_named_and_used(prepaid_token: Shell, tmp_path: Path) -> None:
    tables = {
        "enc_sub1": SAMPLE.substitution_1,
        "enc_sub2": SAMPLE.substitution_2,
        "enc_perm": SAMPLE.permutation,
    }
    (tmp_path / "given.json").write_text(json.dumps(tables))
    assert not known_answers(SAMPLE).operational_ea07
    answer = prepaid_token("selftest", "--vectors", FILE, "--tables", tmp_path / "given.json")
    summary = _lines(answer)[-1]
    assert answer.code == 1
    assert summary == {
        "rows": 694, "passed": 615, "skipped": 0, "differ": 79, "unreadable": 0,
        "tables": "given", "tables_known_answer": "failed",
    }  # fmt: skip
    assert "they are not the operational EA07 tables" in answer.err


@pytest.mark.parametrize(
    "text", ["", "{}", "[", "\ud800", '{"enc_sub1": [], "enc_sub2": [], "enc_perm": []}', " " * 70_000]
)
def test_file_that_holds_no_tables_cannot_be_used(prepaid_token: Shell, tmp_path: Path, text: str) -> None:
    (tmp_path / "tables").write_bytes(text.encode("utf-8", "surrogatepass"))
    answer = prepaid_token("selftest", "--vectors", FILE, "--tables", tmp_path / "tables")
    assert (answer.code, answer.out) == (2, "")
    assert "table_set" in answer.err


def test_missing_or_empty_vector_file_is_no_success(prepaid_token: Shell, tmp_path: Path) -> None:
    assert prepaid_token("selftest", "--vectors", tmp_path / "none").code == 2
    (tmp_path / "empty").write_text("\n")
    assert prepaid_token("selftest", "--vectors", tmp_path / "empty").code == 2


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_tells_class_1_and_that_others_need_a_key(prepaid_token: Shell) -> None:
    answer = prepaid_token("explain", "5649", "3153", "7254", "5031", "3471")
    assert answer.code == 0 and "says: asks the meter for every test and display" in answer.out
    answer = prepaid_token("explain", TOKEN, "--json")
    assert answer.code == 0 and answer.json["needs_key"] is True


def test_explain_names_what_is_wrong_with_digits(prepaid_token: Shell) -> None:
    answer = prepaid_token("explain", "12345")
    assert answer.code == 1
    assert "fault: format" in answer.out and "hint: 5 digits found, and a token has 20" in answer.out


@given(text=st.text(max_size=30).filter(lambda text: not text.startswith("-")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_explained_or_refused_with_an_exit_code(prepaid_token: Shell, text: str) -> None:
    assert prepaid_token("explain", text, "--json").code in (0, 1)
    assert prepaid_token("verify", *UNDER_TEST_KEY, "--json", text, typed=KEY).code in (0, 1)


# --- make -------------------------------------------------------------------------------------------------------------

# fmt: off
KINDS: Final[list[tuple[Sequence[str], str, int]]] = [
    (["credit", "--units", "25.6", *AT],                        "electricity credit of 25.6 kWh", 1),
    (["credit", "--units", "1", "--resource", "water", *AT],    "water credit of 1.0 m3", 1),
    (["credit", "--units", "0.01", "--resource", "time", *AT],  "time credit of 0.1 minutes", 1),
    (["power-limit", "--watts", "1000", *AT],                   "sets the power limit to 1000 W", 1),
    (["phase-unbalance", "--watts", "20000", *AT],              "sets the phase unbalance limit to 20004 W", 1),
    (["clear-credit", "--register", "all", *AT],                "sets every credit register to zero", 1),
    (["clear-credit", "--register", "gas_currency", *AT],       "sets the credit register gas currency to zero", 1),
    (["tariff-rate", "--value", "7", *AT],                      "sets the tariff rate to 7", 1),
    (["water-factor", "--value", "7", *AT],                     "sets the water meter factor to 7", 1),
    (["clear-tamper", *AT],                                     "ends the tamper condition", 1),
    (["flag", "--flag", "detect_tamper", "--on", *AT],          "sets the flag detect tamper", 1),
    (["flag", "--flag", "test", "--off", *AT],                  "clears the flag test", 1),
    (["key-change", "--to-expiry", "200"],                      "first section of a change to key revision 1", 2),
    (["key-change", "--to-revision", "2"],                      "first section of a change to key revision 2", 2),
]
# fmt: on


@pytest.mark.parametrize(("arguments", "says", "count"), KINDS)
def test_token_is_made_under_a_test_key_and_says_what_was_asked(
    prepaid_token: Shell, arguments: Sequence[str], says: str, count: int
) -> None:
    answer = prepaid_token("make", *arguments, *UNDER_TEST_KEY, "--json", typed=f"{KEY}\n{NEXT_KEY}\n")
    assert answer.code == 0, answer.err
    tokens = answer.json["tokens"]
    assert len(tokens) == count and tokens[0]["says"].startswith(says)
    for token in tokens:
        verified = prepaid_token("verify", *UNDER_TEST_KEY, "--json", token["token"], typed=KEY)
        assert verified.code == 0 and verified.json["says"] == token["says"]
    assert answer.json["sample_ea07_tables"] is True and SAMPLE_WARNING in answer.json["warnings"]


def test_made_credit_is_the_token_the_module_makes(prepaid_token: Shell) -> None:
    answer = prepaid_token("make", "credit", "--units", "25.6", *AT, *UNDER_TEST_KEY, "--json", typed=KEY)
    assert answer.json["tokens"][0]["token"] == TOKEN
    assert BOOKS_WARNING in answer.json["warnings"]


def test_ea11_set_has_four_tokens_and_no_word_of_sample_tables(prepaid_token: Shell) -> None:
    change = ["make", "key-change", "--to-expiry", "200", *EA11, "--test-key"]
    answer = prepaid_token(*change, typed=HMAC_KEY)
    assert answer.code == 0
    assert "token 4 of 4" in answer.out and SAMPLE_WARNING not in answer.out
    assert "note: enter all tokens of the set, in any order" in answer.out


def test_human_answer_shows_groups_content_and_notes(prepaid_token: Shell) -> None:
    arguments = ["make", "credit", "--units", "1638.45", *AT, *UNDER_TEST_KEY, "--offset", "60"]
    answer = prepaid_token(*arguments, typed=KEY)
    assert answer.out.splitlines()[1] == "says: electricity credit of 1639.4 kWh"
    assert "made at (local): 2026-03-01T13:00+01:00" in answer.out
    assert "note: rounded up from 1638.5" in answer.out
    assert f"note: {SAMPLE_WARNING}" in answer.out


def test_class_1_is_made_without_any_key(prepaid_token: Shell) -> None:
    answer = prepaid_token("make", "test")
    assert answer.code == 0 and answer.out.startswith("token: 5649 3153 7254 5031 3471\n")
    answer = prepaid_token("make", "test", "--test", "power_limit", "--test", "key_expiry", "--json")
    assert answer.json["tokens"][0]["tests"] == ["power_limit", "key_expiry"]


def test_rnd_is_drawn_from_the_world_unless_given(prepaid_token: Shell) -> None:
    answer = prepaid_token(
        "make", "clear-tamper", "--tid", str(TID), *UNDER_TEST_KEY, "--json", typed=KEY
    )  # fmt: skip
    assert answer.json["tokens"][0]["rnd"] == 9 and answer.json["tokens"][0]["tid"] == TID


def test_two_minutes_past_midnight_follow_the_reserved_one(prepaid_token: Shell) -> None:
    at = ["--at", "2026-03-01T00:01:30Z"]
    answer = prepaid_token("make", "clear-tamper", *at, *UNDER_TEST_KEY, "--json", typed=KEY)
    assert answer.json["tokens"][0]["issued_at"] == "2026-03-01T00:02Z"


CREDIT: Final = ["credit", "--units", "1"]

# fmt: off
REFUSED: Final[list[tuple[str, Sequence[str], str, str]]] = [
    ("no key",         ["make", *CREDIT, *AT, *IDENTITY], "", "--config FILE or --test-key expected"),
    ("no meter",       ["make", *CREDIT, *AT, "--test-key"], KEY, "--meter: a meter number expected"),
    ("half identity",  ["make", *CREDIT, *AT, "--meter", METER, "--ea", "7", "--test-key"], KEY,
                       "missing: --supply-group, --tariff-index, --revision, --base-date, --generation"),
    ("bad meter",      ["make", *CREDIT, *AT, *UNDER_TEST_KEY, "--meter", "12345678901"], KEY, "check_digit"),
    ("empty key",      ["make", *CREDIT, *AT, *UNDER_TEST_KEY], "", "hex digits on standard input expected"),
    ("no hex",         ["make", *CREDIT, *AT, *UNDER_TEST_KEY], "xyz", "test vending key: hex digits expected"),
    ("key length",     ["make", *CREDIT, *AT, *UNDER_TEST_KEY], "abab", "key_length"),
    ("key parity",     ["make", *CREDIT, *AT, *UNDER_TEST_KEY], "00" * 8, "key_parity"),
    ("default key",    ["make", *CREDIT, *AT, *UNDER_TEST_KEY, "--key-type", "1"], KEY, "default_key_credit"),
    ("expired key",    ["make", *CREDIT, *AT, *UNDER_TEST_KEY, "--expiry", "1"], KEY, "key_expired"),
    ("no zone",        ["make", *CREDIT, "--at", "2026-03-01T12:00", *UNDER_TEST_KEY], KEY, "a time with its zone"),
    ("no time",        ["make", *CREDIT, "--at", "noon", *UNDER_TEST_KEY], KEY, "a time with its zone expected"),
    ("before base",    ["make", *CREDIT, "--at", "2013-12-31T23:59Z", *UNDER_TEST_KEY], KEY, "before_base_date"),
    ("reserved TID",   ["make", *CREDIT, "--tid", "1441", *UNDER_TEST_KEY], KEY, "00:01 is kept for special tokens"),
    ("TID too large",  ["make", *CREDIT, "--tid", str(1 << 24), *UNDER_TEST_KEY], KEY, "out_of_range"),
    ("RND",            ["make", *CREDIT, *AT, *UNDER_TEST_KEY, "--rnd", "16"], KEY, "out_of_range"),
    ("too much",       ["make", "credit", "--units", "1820162.5", *AT, *UNDER_TEST_KEY], KEY, "out_of_range"),
    ("nothing",        ["make", "credit", "--units", "0", *AT, *UNDER_TEST_KEY], KEY, "more than 0 expected"),
    ("no number",      ["make", "credit", "--units", "1e3", *AT, *UNDER_TEST_KEY], KEY, "a decimal number"),
    ("no digits",      ["make", "credit", "--units", ".5", *AT, *UNDER_TEST_KEY], KEY, "a decimal number"),
    ("value",          ["make", "tariff-rate", "--value", "65536", *AT, *UNDER_TEST_KEY], KEY, "out_of_range"),
    ("no change",      ["make", "key-change", *UNDER_TEST_KEY], KEY, "the key change changes nothing"),
    ("one key of two", ["make", "key-change", "--to-revision", "2", *UNDER_TEST_KEY], KEY, "new vending key"),
    ("index above 9",  ["make", "key-change", "--to-tariff-index", "10", *UNDER_TEST_KEY], KEY, "unsettled"),
    ("offset",         ["make", *CREDIT, *AT, *UNDER_TEST_KEY, "--offset", "900"], KEY, "out_of_range"),
    ("code above 9",   ["make", "test", "--manufacturer", "10"], "", "unsettled"),
    ("three digits",   ["make", "test", "--manufacturer", "000"], "", "format"),
]
# fmt: on


@pytest.mark.parametrize(
    ("arguments", "typed", "sentence"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_refusal_is_a_sentence_an_exit_code_and_nothing_else(
    prepaid_token: Shell, arguments: Sequence[str], typed: str, sentence: str
) -> None:
    answer = prepaid_token(*arguments, typed=typed)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("prepaid token make: ") and sentence in answer.err
    assert KEY not in answer.err and len(answer.err.splitlines()) == 1


def test_help_says_what_make_does_not_do(prepaid_token: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        prepaid_token("make", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "Credit is made only under a --test-key" in said
    assert "an ENGINEER makes it, and another ENGINEER or a SUPERVISOR approves it" in said


# --- make, with the key store -----------------------------------------------------------------------------------------


def test_credit_under_a_key_of_the_key_store_is_refused(prepaid_token: Shell, config: Path) -> None:
    answer = prepaid_token("make", *CREDIT, *AT, *IDENTITY, "--config", config, "--case", "1")
    assert (answer.code, answer.out) == (2, "")
    assert "a credit token made here would stand in no book: sell it through the gateway" in answer.err


@pytest.mark.parametrize("case", [[], ["--case", " "], ["--case", "x" * 81], ["--case", "a\nb"]])
@pytest.mark.parametrize("kind", [["test"], ["clear-tamper", *AT], ["key-change", "--to-revision", "2"]])
def test_key_store_wants_a_case(prepaid_token: Shell, config: Path, kind: list[str], case: list[str]) -> None:
    answer = prepaid_token("make", *kind, *IDENTITY, "--config", config, *case)
    assert (answer.code, answer.out) == (2, "") and "--case" in answer.err


@pytest.mark.parametrize("kind", [["test"], ["clear-tamper", *AT], ["key-change", "--to-revision", "2"]])
def test_token_of_the_key_store_is_logged_with_its_case_and_without_its_digits(
    prepaid_token: Shell, config: Path, caplog: pytest.LogCaptureFixture, kind: list[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = prepaid_token("make", *kind, *IDENTITY, "--config", config, "--case", "C-77", "--json")
    assert answer.code == 0, answer.err
    (line,) = [one for one in caplog.records if one.message == "tokens made by hand"]
    assert getattr(line, "case") == "C-77"  # noqa: B009
    tokens = [token["token"] for token in answer.json["tokens"]]
    assert answer.json["case"] == "C-77"
    assert not [token for token in tokens if token in answer.err or token in str(line.__dict__)]
    for token in tokens:
        assert prepaid_token("verify", token, *IDENTITY, "--config", config).code == 0


def test_engineering_token_runs_no_further_ahead_than_a_sale(prepaid_token: Shell, config: Path) -> None:
    make = ["make", "clear-tamper", *IDENTITY, "--config", str(config), "--case", "1"]
    assert prepaid_token(*make, "--at", "2026-03-01T12:30Z").code == 0
    answer = prepaid_token(*make, "--at", "2026-03-01T12:31Z")
    assert (answer.code, answer.out) == (2, "") and "tid_too_far_ahead" in answer.err


def test_key_that_the_store_does_not_hold_is_named(prepaid_token: Shell, config: Path) -> None:
    make = ["make", "clear-tamper", *AT, *IDENTITY, "--revision", "7", "--config", str(config), "--case", "1"]
    answer = prepaid_token(*make)
    assert answer.code == 2 and "no vending key for supply group 123456, revision 7" in answer.err


def test_settings_without_a_key_store_cannot_be_used(prepaid_token: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    answer = prepaid_token("verify", TOKEN, *IDENTITY, "--config", tmp_path / "empty.toml")
    assert answer.code == 2 and "the settings name no key store" in answer.err
    assert prepaid_token("verify", TOKEN, *IDENTITY, "--config", tmp_path / "none.toml").code == 2


# --- verify -----------------------------------------------------------------------------------------------------------


def test_token_of_ours_is_told_in_full(prepaid_token: Shell, config: Path) -> None:
    answer = prepaid_token("verify", TOKEN, *IDENTITY, "--config", config, "--json")
    assert answer.code == 0
    facts = answer.json
    assert facts["ours"] is True and facts["crc_fits"] is True and facts["key"] == "present"
    assert (facts["value"], facts["unit"], facts["rnd"], facts["tid"]) == ("25.6", "kWh", 5, TID)
    assert (facts["issued_at"], facts["issued_at_local"]) == ("2026-03-01T12:00Z", "2026-03-01T15:00+03:00")
    assert "sample EA07 tables" in facts["warning"]


def test_token_under_a_previous_key_is_recognised(prepaid_token: Shell, config: Path) -> None:
    now = [*IDENTITY, "--revision", "2"]
    assert prepaid_token("verify", TOKEN, *now, "--config", config).code == 1
    answer = prepaid_token("verify", TOKEN, *now, "--previous-revision", "1", "--config", config, "--json")
    assert answer.code == 0
    assert (answer.json["key"], answer.json["key_revision"]) == ("previous", 1)
    assert "the meter takes it only while it has that key" in answer.json["note"]
    typed = f"{NEXT_KEY}\n{KEY}\n"
    again = prepaid_token("verify", TOKEN, *now, "--previous-revision", "1", "--test-key", "--json", typed=typed)
    assert again.code == 0 and again.json["says"] == answer.json["says"] and again.json["key"] == "previous"


def test_wrong_digit_is_named_and_hinted_at_even_if_it_changes_the_class(prepaid_token: Shell) -> None:
    classes = set()
    for place in range(1, 20):
        wrong = TOKEN[:place] + str((int(TOKEN[place]) + 5) % 10) + TOKEN[place + 1 :]
        answer = prepaid_token("verify", wrong, *UNDER_TEST_KEY, "--json", typed=KEY)
        assert answer.code == 1 and answer.json["ours"] is False
        if answer.json["fault"] != "format":
            classes.add(answer.json["class"])
            assert f"digit {place + 1} were {TOKEN[place]}" in answer.json["hint"]
    assert len(classes) > 1


def test_encrypted_token_without_a_key_cannot_be_told(prepaid_token: Shell) -> None:
    answer = prepaid_token("verify", TOKEN, *IDENTITY)
    assert (answer.code, answer.out) == (2, "")
    assert "an encrypted token: --config FILE or --test-key expected" in answer.err


def test_class_1_and_wrong_digits_need_no_key(prepaid_token: Shell) -> None:
    assert prepaid_token("verify", "56493153725450313471").code == 0
    answer = prepaid_token("verify", "5649315372545031347")
    assert answer.code == 1 and "ours: no" in answer.out and "fault: format" in answer.out


def test_key_on_standard_input_that_is_no_text_is_refused_and_not_repeated(
    prepaid_token: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = io.TextIOWrapper(io.BytesIO(b"\xff\xfesecret"), encoding="utf-8")
    monkeypatch.setattr("gateway.commands.tokenoptions.sys.stdin", broken)
    monkeypatch.setattr(io, "StringIO", lambda _: broken)
    answer = prepaid_token("verify", TOKEN, *UNDER_TEST_KEY)
    assert answer.code == 2 and answer.err == "prepaid token verify: present vending key: hex digits expected\n"


# --- the books --------------------------------------------------------------------------------------------------------


def test_meter_that_the_books_know_needs_no_more_than_its_number(prepaid_token: Shell, config: Path) -> None:
    def find(settings: Settings, drn: str) -> list[Candidate]:
        keys = [Candidate("present", handle(key_revision=2)), Candidate("previous", handle())]
        return keys if (drn, settings.utility.timezone) == (METER, "Africa/Nairobi") else []

    prepaid_token.find_meter = find
    answer = prepaid_token("verify", TOKEN, "--meter", METER, "--config", config, "--json")
    assert answer.code == 0 and answer.json["key"] == "previous"
    make = ["make", "clear-tamper", *AT, "--meter", METER, "--config", str(config), "--case", "1", "--json"]
    assert prepaid_token(*make).code == 0
    answer = prepaid_token("verify", TOKEN, "--meter", handle(body="9876543210").drn, "--config", config)
    assert answer.code == 2 and "missing: --supply-group" in answer.err


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_command_takes_a_key_as_an_argument_or_shows_one(prepaid_token: Shell, config: Path) -> None:
    for arguments in (
        ["make", *CREDIT, *AT, *UNDER_TEST_KEY],
        ["make", "key-change", "--to-revision", "2", *UNDER_TEST_KEY],
        ["make", "key-change", "--to-revision", "2", *IDENTITY, "--config", str(config), "--case", "1"],
        ["verify", TOKEN, *UNDER_TEST_KEY],
    ):
        answer = prepaid_token(*arguments, typed=f"{KEY}\n{NEXT_KEY}\n")
        assert answer.code == 0
        for secret in (KEY, NEXT_KEY, bytes(range(32)).hex()):
            assert secret not in answer.out + answer.err
    with pytest.raises(SystemExit):
        prepaid_token("verify", TOKEN, *IDENTITY, "--test-key", KEY, "--vending-key", KEY)
