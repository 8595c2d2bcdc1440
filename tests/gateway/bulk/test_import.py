"""`prepaid import` and `export` on both databases, as their user meets them.

Covers: the sample files one by one, twice, in both formats and back; trial runs; good lines beside bad ones; repair
files that are mended and imported; updates with the person who signs in and a row of the audit log each; an import
that is broken off and started again; readings that are unlikely; that no secret is in an export.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.__main__ import main
from gateway.bulk import run
from gateway.bulk.forms import FORMS
from gateway.demo import FOLDER
from ledger.all_tables import metadata
from ledger.audit import Origin, Verified, verify
from ledger.bulk import page
from ledger.bulk.kinds import KINDS
from ledger.operators import Cost, Operator, Role, add
from ledger.sets import Changed
from ledger.store import migrate, open_store
from ledger.trial_balance import broken_invariants
from sts.numbers import MeterNumber
from tests.simulation.world import SeededWorld

NOW = SeededWorld().now()
CHEAP = Cost(log2_n=4)
PASSWORD = "a long enough password"
READINGS = """drn,read_at,reading_kwh,source,reader,remark
04012345676,2026-04-28T10:00:00+03:00,1360.0,HANDHELD,rd.01,
07003012221,2026-04-28T10:00:00+03:00,1074.0,HANDHELD,rd.01,"no movement, lights on"
04012345676,2026-05-28T10:00:00+03:00,1450.0,HANDHELD,rd.01,
"""
ORDER = (
    ("tariffs", "tariffs.json"), ("customers", "customers.csv"), ("stations", "stations.csv"), ("meters", "meters.csv"),
    ("phones", "phones.csv"), ("debts", "arrears.csv"), ("balances", "balances.csv"),
)  # fmt: skip
DATED = (
    "debt_id,account_no,kind,opened_on,outstanding,mode,priority,status,agreement_no\n"
    "D1,A100001,OLD,{},9.00,FIRST,1,ACTIVE,{}\n"
)
Command = Callable[..., tuple[int, str, str]]


def _settings(folder: Path, url: str) -> Path:
    path = folder / "prepaid.toml"
    text = f'[utility]\ncurrency = "KES"\ntimezone = "Africa/Nairobi"\n[database]\nurl = "{url}"\n'
    path.write_text(text, encoding="utf-8")
    return path


class Desk:
    """A database with its settings, and commands on it."""

    def __init__(self, folder: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.url = url
        self._capsys = capsys
        self.config = _settings(folder, url)
        self._auditor: list[str] = []
        self._has_boss = False

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        code = main([*arguments, "--config", str(self.config)])
        out, err = self._capsys.readouterr()
        return code, out, err

    def take(self, kind: str, content: str, *options: str, suffix: str = "csv") -> tuple[int, str, str]:
        """Import this text."""
        path = self.folder / f"{kind}-in.{suffix}"
        path.write_text(content, encoding="utf-8")
        return self.run("import", kind, str(path), *options)

    def give(self, kind: str, form: str = "csv") -> str:
        """What an export writes."""
        path = self.folder / f"{kind}-out.{form}"
        path.unlink(missing_ok=True)
        self._auditor = self._auditor or self.operator("aud", Role.AUDITOR)
        code, _, _ = self.run("export", kind, "--out", str(path), *self._auditor)
        assert code == 0 and stat.S_IMODE(path.stat().st_mode) == 0o600
        return path.read_text(encoding="utf-8")

    def sample(self) -> None:
        """Load the sample utility."""
        assert self.run("load", str(FOLDER))[0] == 0

    def look(self, function: Callable[[sa.Connection], Any]) -> Any:
        async def work() -> Any:
            store = await open_store(self.url)
            try:
                return await store.transact(function)
            finally:
                await store.close()

        return asyncio.run(work())

    def contents(self, *, audit: bool = False) -> dict[str, list[str]]:
        """All rows of all tables."""
        left_out = () if audit else ("audit", "stamp")
        return dict(
            self.look(
                lambda connection: {
                    table.name: sorted(map(repr, connection.execute(sa.select(table))))
                    for table in metadata.sorted_tables
                    if table.name not in left_out
                }
            )
        )

    def operator(self, login: str, *roles: Role) -> list[str]:
        """Have an operator; the options to sign in with."""
        origin = Origin("test", NOW, "test")
        first = Operator("boss", "Boss", frozenset({Role.ADMIN}), "en", None)
        new = Operator(login, login, frozenset(roles), "en", None)
        if not self._has_boss:
            self.look(lambda c: add(c, first, PASSWORD, b"s" * 16, by=None, beside=None, origin=origin, cost=CHEAP))
            self._has_boss = True
        self.look(lambda c: add(c, new, PASSWORD, b"s" * 16, by=first, beside=None, origin=origin, cost=CHEAP))
        password = self.folder / "password"
        password.write_text(PASSWORD)
        return ["--as", login, "--password-file", str(password), "--reason", "cleaning up"]


@pytest.fixture
def desk(tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]) -> Desk:
    """An empty database."""
    asyncio.run(migrate(database_url))
    return Desk(tmp_path, database_url, capsys)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "empty.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def lite(tmp_path: Path, migrated: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """An empty SQLite database, where the other one would tell no more."""
    shutil.copyfile(migrated, tmp_path / "test.db")
    return Desk(tmp_path, f"sqlite:///{tmp_path}/test.db", capsys)


@pytest.fixture(scope="module")
def sampled(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the sample utility, in which nothing is stored."""
    folder = tmp_path_factory.mktemp("sampled")
    shutil.copyfile(migrated, folder / "test.db")
    config = _settings(folder, f"sqlite:///{folder}/test.db")
    assert main(["load", "--config", str(config), str(FOLDER)]) == 0
    return folder


# --- once, twice, and back --------------------------------------------------------------------------------------------


def test_the_sample_is_imported_file_by_file_and_a_second_time_changes_nothing(desk: Desk) -> None:
    for kind, file in ORDER:
        assert desk.run("import", kind, str(FOLDER / file))[0] == 0
    assert desk.take("readings", READINGS)[0] == 0
    before = desk.contents(audit=True)
    assert len(before["meter"]) == 23 and len(before["service_point"]) == 20 and not before["planned_point"]
    for kind, file in ORDER:
        code, out, _ = desk.run("import", kind, str(FOLDER / file))
        assert code == 0 and "differ" not in out and " there already" in out
    assert desk.contents(audit=True) == before
    assert desk.look(broken_invariants) == [] and isinstance(desk.look(verify), Verified)


def test_an_export_is_read_back_into_the_same_and_into_an_empty_database(
    desk: Desk, tmp_path: Path, migrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _there_and_back(desk, "csv", tmp_path, migrated, capsys)


def test_an_export_of_json_lines_is_read_back_likewise(
    lite: Desk, tmp_path: Path, migrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _there_and_back(lite, "jsonl", tmp_path, migrated, capsys)


def _there_and_back(desk: Desk, form: str, tmp_path: Path, migrated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk.sample()
    desk.take("readings", READINGS)
    desk.take("points", "service_point,account_no,area\nSP-X,A100001,Elsewhere\n")
    exported = {kind: desk.give(kind, form) for kind in FORMS}
    before = desk.contents(audit=True)
    for kind, content in exported.items():
        code, out, err = desk.take(kind, content, suffix=form)
        assert (code, err) == (0, "") and "differ" not in out
    assert desk.contents(audit=True) == before
    (tmp_path / "other").mkdir()
    shutil.copyfile(migrated, tmp_path / "other.db")
    other = Desk(tmp_path / "other", f"sqlite:///{tmp_path}/other.db", capsys)
    for kind, content in exported.items():
        assert other.take(kind, content, suffix=form)[0] == 0
    assert {kind: sorted(other.give(kind, form).split("\n")) for kind in FORMS} == {
        kind: sorted(content.split("\n")) for kind, content in exported.items()
    }
    assert other.look(broken_invariants) == []


_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    lambda text: text == text.strip() and text
)
_CUSTOMERS = st.lists(
    st.fixed_dictionaries(
        {
            "account_no": st.from_regex(r"[A-Za-z0-9;,\"'-]{1,8}", fullmatch=True),
            "name": _NAMES,
            "category": _NAMES,
            "language": st.sampled_from(["en", "sw", "ar"]),
            "status": st.sampled_from(["ACTIVE", "CLOSED"]),
        }
    ),
    max_size=5,
    unique_by=lambda customer: customer["account_no"],
)


@given(_CUSTOMERS, st.sampled_from(["csv", "jsonl"]))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_an_import_takes_an_export_writes(
    tmp_path_factory: pytest.TempPathFactory,
    migrated: Path,
    capsys: pytest.CaptureFixture[str],
    customers: list[dict[str, str]],
    form: str,
) -> None:
    folder = tmp_path_factory.mktemp("round")
    shutil.copyfile(migrated, folder / "test.db")
    desk = Desk(folder, f"sqlite:///{folder}/test.db", capsys)
    columns = FORMS["customers"].exported
    content = _csv(columns, customers) if form == "csv" else "".join(f"{json.dumps(each)}\n" for each in customers)
    code, _, err = desk.take("customers", content, suffix=form)
    assert (code, err) == (0, "")
    written = desk.give("customers", form)
    rows = csv.DictReader(io.StringIO(written, newline="")) if form == "csv" else map(json.loads, written.splitlines())
    assert sorted(map(_items, rows)) == sorted(map(_items, customers))


def _csv(columns: list[str], rows: list[dict[str, str]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _items(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(row.items())


def test_an_export_is_for_those_who_may_look_and_stands_in_the_audit_log(desk: Desk) -> None:
    desk.sample()
    vendor = desk.operator("ven", Role.VENDOR)
    with pytest.raises(SystemExit, match="2"):
        desk.run("export", "customers")  # nobody says who it is for
    out = desk.folder / "customers.csv"
    code, said, err = desk.run("export", "customers", "--out", str(out), *vendor)
    assert code == 1 and "has not the role" in err and not said and not out.exists()
    code, said, _ = desk.run("export", "customers", *desk.operator("aud", Role.AUDITOR))
    assert code == 0 and len(said.splitlines()) == 21
    noted = [row for row in desk.contents(audit=True)["audit"] if "records.export" in row]
    assert len(noted) == 1 and "'aud'" in noted[0] and "standard output" in noted[0] and "cleaning up" in noted[0]
    assert isinstance(desk.look(verify), Verified)


def test_no_export_has_a_column_for_what_is_secret(lite: Desk) -> None:
    lite.sample()
    names = {column.name for form in FORMS.values() for column in form.columns}
    assert not [name for name in names if any(word in name for word in ("pin", "password", "digits", "token"))
                if name != "token_technology"]  # fmt: skip
    assert lite.give("meters").splitlines()[1].startswith("01405512003,")


# --- bad lines --------------------------------------------------------------------------------------------------------

BAD = """account_no,name,category,language,status,msisdn
B1,Good,DOMESTIC,en,ACTIVE,254700000001
B2,Bad,DOMESTIC,klingon,ACTIVE,254700000002
B3,Short,DOMESTIC
B4,"Open,DOMESTIC,en,ACTIVE,254700000004
B5,Same phone,DOMESTIC,en,ACTIVE,254700000001
B6,Good too,DOMESTIC,en,ACTIVE,
"""


def test_nothing_is_stored_if_a_line_is_bad_and_every_fault_is_told(desk: Desk) -> None:
    before = desk.contents(audit=True)
    code, out, err = desk.take("customers", BAD)
    assert code == 2 and "4 lines cannot be used: nothing was stored" in out
    assert [line.partition(": ")[0] for line in err.splitlines()] == [
        f"customers-in.csv line {number}" for number in (3, 4, 5, 6)
    ]
    assert "line 6: msisdn: the same number stands in customers-in.csv line 2 already" in err
    assert "254700000001" not in err
    assert desk.contents(audit=True) == before


def test_good_lines_are_stored_when_told_to_and_the_mended_rest_afterwards(desk: Desk) -> None:
    repair = desk.folder / "repair.csv"
    code, out, _ = desk.take("customers", BAD, "--load-good", "--repair", str(repair))
    assert code == 1 and "4 lines cannot be used: the others were stored" in out
    assert desk.give("customers").splitlines()[1:] == [
        "B1,Good,DOMESTIC,en,ACTIVE", "B6,Good too,DOMESTIC,en,ACTIVE",
    ]  # fmt: skip
    rows = list(csv.reader(repair.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == "repair_line repair_reason account_no name category language status msisdn".split()
    assert [row[0] for row in rows[1:]] == ["3", "4", "5", "6"] and stat.S_IMODE(repair.stat().st_mode) == 0o600
    assert rows[1][1].startswith("language: ar, en,") and rows[1][2:] == BAD.splitlines()[2].split(",")
    # Mended by hand: the language, the values that lacked, the quotation mark, the phone.
    mended = [
        rows[0],
        ["3", "", "B2", "Bad", "DOMESTIC", "en", "ACTIVE", "254700000002"],
        ["4", "", "B3", "Short", "DOMESTIC", "en", "ACTIVE", ""],
        ["5", "", "B4", "Open", "DOMESTIC", "en", "ACTIVE", "254700000004"],
        ["6", "", "B5", "Other phone", "DOMESTIC", "en", "ACTIVE", "254700000005"],
    ]
    assert desk.take("customers", "\n".join(map(",".join, mended)) + "\n")[0] == 0
    assert len(desk.give("customers").splitlines()) == 7


def test_a_repair_file_of_json_lines_is_mended_likewise(lite: Desk) -> None:
    repair = lite.folder / "repair.jsonl"
    good = {"account_no": "B1", "name": "Good", "category": "DOMESTIC", "language": "en", "status": "ACTIVE"}
    content = f"{json.dumps({**good, 'language': 'klingon'})}\nno object\n"
    assert lite.take("customers", content, "--repair", str(repair), suffix="jsonl")[0] == 2
    first, second = map(json.loads, repair.read_text(encoding="utf-8").splitlines())
    assert first["repair_line"] == 1 and first["account_no"] == "B1" and second["repair_text"] == "no object"
    mended = json.dumps({**first, "language": "en"})
    assert lite.take("customers", f"{mended}\n", suffix="jsonl")[0] == 0
    assert lite.take("customers", content, "--repair", str(repair), suffix="jsonl")[0] == 2  # it is there already


def test_a_trial_says_the_same_and_stores_nothing(desk: Desk) -> None:
    desk.sample()
    before = desk.contents(audit=True)
    content = (FOLDER / "customers.csv").read_text(encoding="utf-8").replace("Amina", "Anna")
    extra = content + "A200000,New,One,DOMESTIC,1,254799999999,en,SP-29999,Area,Street,,2026-01-01,ACTIVE\n"
    tried = desk.take("customers", extra, "--trial")
    assert desk.contents(audit=True) == before
    stored = desk.take("customers", extra)
    assert tried[1].splitlines()[-1] == "a trial: nothing was stored"
    assert tried[1].splitlines()[:-1] == stored[1].splitlines()[: len(tried[1].splitlines()) - 1]
    assert "1 service points have no tariff yet" in stored[1]


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("meters", "METERS:SP-9", "line 2: service_point: no customer at 'SP-9'"),
        ("debts", "debt_id,account_no,kind,outstanding,mode,percent,instalment,priority,status\n"
         "D1,A9,OLD,1.00,FIRST,,,1,ACTIVE\n", "line 2: account_no: no customer 'A9'"),
        ("debts", "debt_id,account_no,service_point,kind,outstanding,mode,priority,status\n"
         "D1,A100001,SP-20002,OLD,1.00,FIRST,1,ACTIVE\n", "service_point: customer A100001 has no service point"),
        ("debts", "debt_id,account_no,kind,outstanding,mode,priority,status\n"
         'D1,A100001,OLD,"1,234.50",FIRST,1,ACTIVE\n', "no commas or blanks in a number"),
        ("debts", DATED.format("2126-01-01", ""), "line 2: opened_on: 2126-01-01 lies in the future"),
        ("debts", DATED.format("30.06.2025", ""), "line 2: opened_on: a day such as 2026-06-28 expected"),
        ("debts", DATED.format("2025-02-30", ""), "line 2: opened_on: a day such as 2026-06-28 expected"),
        ("debts", DATED.format("", "AG 12"), "line 2: agreement_no: 1 to 40 letters, digits"),
        ("phones", "msisdn,station_id\n254700000009,ST9\n", "line 2: station_id: no station 'ST9'"),
        ("phones", "msisdn,station_id\n254700000009,\n", "a value here or in account_no expected"),
        ("balances", "account,amount\nfloat:ST001,5\n", "station ST001 is on CREDIT and has no deposit"),
        ("readings", "drn,read_at,reading_kwh,source\n04012345676,2026-04-28T10:00:00,1.0,HANDHELD\n",
         "read_at: a time such as"),
        ("readings", "drn,read_at,reading_kwh,source\n04012345676,2126-04-28T10:00:00Z,1.0,HANDHELD\n", "future"),
        ("readings", "drn,read_at,reading_kwh,source\n04012345676,2026-04-28T10:00:00Z,1.05,HANDHELD\n",
         "kWh with at most one decimal"),
        ("readings", "drn,read_at,reading_kwh,source\n07770000029,2026-04-28T10:00:00Z,1.0,HAND HELD\n", "in capitals"),
        ("readings", "drn,read_at,reading_kwh,source\n04012345677,2026-04-28T10:00:00Z,1.0,HANDHELD\n",
         "the last digit does not agree"),
        ("customers", "account_no,name,category,language,status\nA1,\"two\nlines\",D,en,ACTIVE\n", "a line break"),
        ("stations", "station_id,name,kind,funding,commission_percent,sgcs\nS1,S,AGENT,PREPAID,0.02,600801\n",
         "0.02 percent? write 2"),
    ],
)  # fmt: skip
def test_what_a_line_cannot_say_is_refused(
    sampled: Path, capsys: pytest.CaptureFixture[str], kind: str, content: str, words: str
) -> None:
    lite = Desk(sampled, f"sqlite:///{sampled}/test.db", capsys)
    if content.startswith("METERS:"):
        header, first = (FOLDER / "meters.csv").read_text(encoding="utf-8").splitlines()[:2]
        number = MeterNumber.from_body("0411111111").drn
        values = first.replace("04012345676", number).replace("SP-20001", content.partition(":")[2]).split(",")
        values[1] = ""
        content = f"{header}\n{','.join(values)}\n"
    code, _, err = lite.take(kind, content)
    assert code == 2 and words in err


def test_a_customer_with_two_service_points_must_say_which_one_pays_a_debt(lite: Desk) -> None:
    lite.sample()
    assert lite.take("points", "service_point,account_no,tariff_code\nSP-2,A100001,D1-FLAT\n")[0] == 0
    header = "debt_id,account_no,service_point,kind,outstanding,mode,priority,status\n"
    debt = header + "D1,A100001,{},OLD,9.00,FIRST,1,ACTIVE\n"
    code, _, err = lite.take("debts", debt.format(""))
    assert code == 2 and "has 2 service points: name one in a column service_point" in err
    assert lite.take("debts", debt.format("SP-2"))[0] == 0
    assert "D1,A100001,SP-2,OLD,9.00,FIRST,0,0.00,1,ACTIVE,," in lite.give("debts")
    assert lite.look(broken_invariants) == []


def test_a_debt_has_its_age_and_agreement_from_the_file_and_an_older_file_takes_neither(desk: Desk) -> None:
    desk.sample()
    written = desk.give("debts")
    assert "DB-0005,A100014,SP-20014,OLD_BILL,880.55,PERCENT,25,0.00,1,SUSPENDED,2025-06-30,AG-12" in written
    signed = desk.operator("sue", Role.FINANCE, Role.SUPERVISOR)
    code, out, _ = desk.run("debts", "list", "A100014", "--json", *signed)
    assert code == 0 and '"opened_on":"2025-06-30"' in out.replace(" ", "") and "AG-12" in out
    rows = list(csv.DictReader(io.StringIO(written)))
    older = _csv(
        [name for name in rows[0] if name not in ("opened_on", "agreement_no")],
        [
            {name: value for name, value in row.items() if name not in ("opened_on", "agreement_no")}
            | {"percent": "20" if row["debt_id"] == "DB-0005" else row["percent"]}
            for row in rows
        ],
    )
    code, out, _ = desk.take("debts", older, "--update", *signed)
    assert code == 0 and "1 debts were changed" in out and "differ from the file" not in out
    assert ",20,0.00,1,SUSPENDED,2025-06-30,AG-12" in desk.give("debts")  # and neither was taken away
    # A day that was not known, or was wrong, comes in by an update, with its row in the audit log.
    assert desk.take("debts", DATED.format("", ""))[0] == 0
    code, out, _ = desk.take("debts", DATED.format("2024-05-06", "AG-13"), "--update", *signed)
    assert code == 0 and "1 debts were changed" in out and ",ACTIVE,2024-05-06,AG-13" in desk.give("debts")
    assert any("2024-05-06" in row and "debt.update" in row for row in desk.contents(audit=True)["audit"])
    assert isinstance(desk.look(verify), Verified)


# --- changing ---------------------------------------------------------------------------------------------------------


def test_an_update_changes_what_differs_with_a_row_of_the_audit_log_for_each(desk: Desk) -> None:
    desk.sample()
    signed = desk.operator("sue", Role.SUPERVISOR, Role.ENGINEER, Role.FINANCE)
    customers = (FOLDER / "customers.csv").read_text(encoding="utf-8").replace("Amina", "Anna").replace("Brian", "Bob")
    rows = len(desk.contents(audit=True)["audit"])
    assert "2 of them differ from the file and were left" in desk.take("customers", customers)[1]
    code, out, _ = desk.take("customers", customers, "--update", *signed)
    assert code == 0 and "2 customers were changed" in out and "Anna Hassan" in desk.give("customers")
    audit = desk.contents(audit=True)["audit"]
    # The import, each of the two changed; and "aud", who came in to export, with that export.
    assert len(audit) == rows + 1 + 2 + 2
    assert isinstance(desk.look(verify), Verified)
    meters = (FOLDER / "meters.csv").read_text(encoding="utf-8")
    meters = meters.replace("2014,255,D1-FLAT,INSTALLED", "2014,254,D1-FLAT,BLOCKED")
    code, out, _ = desk.take("meters", meters, "--update", *signed)
    assert code == 0 and " meters were changed" in out and "differ from the file" in out
    assert ",254," in desk.give("meters") and "2014,254,,,BLOCKED" not in desk.give("meters")  # its key, not its status
    assert "were changed" not in desk.take("meters", meters, "--update", *signed)[1]
    stations = (FOLDER / "stations.csv").read_text(encoding="utf-8").replace("80000.00", "90000.00")
    stations = stations.replace("Kisumu head office counter", "Kisumu counter")
    code, out, _ = desk.take("stations", stations, "--update", *signed)
    assert code == 0 and "1 stations were changed" in out and "ST003" in out
    assert "Kisumu counter" in desk.give("stations") and ",90000.00," not in desk.give("stations")
    debts = (
        (FOLDER / "arrears.csv").read_text(encoding="utf-8").replace("PERCENT,30", "PERCENT,40").replace("4200", "4100")
    )
    code, out, _ = desk.take("debts", debts, "--update", *signed)
    assert "1 debts were changed" in out and "DB-0001" in out and ",4200.00,PERCENT,40," in desk.give("debts")
    assert desk.look(broken_invariants) == [] and isinstance(desk.look(verify), Verified)


def test_an_update_takes_somebody_who_may(lite: Desk) -> None:
    lite.sample()
    vendor = lite.operator("ven", Role.VENDOR)
    path = str(FOLDER / "customers.csv")
    assert lite.run("import", "customers", path, "--update")[0] == 2
    code, _, err = lite.run("import", "customers", path, "--update", *vendor)
    assert code == 1 and "has not the role SUPPORT or SUPERVISOR" in err
    code, _, err = lite.run("import", "customers", path, "--update", *vendor[:-2])
    assert code == 2 and "say why, with --reason" in err


def test_a_meter_whose_key_is_being_changed_keeps_its_key(lite: Desk) -> None:
    lite.sample()
    signed = lite.operator("eng", Role.ENGINEER)
    lite.run("meters", "change-key", "04012345676", "--to-revision", "3", *signed)
    text = (FOLDER / "meters.csv").read_text(encoding="utf-8")
    code, _, err = lite.take("meters", text.replace("600801,2,01", "600802,2,01", 1), "--update", *signed)
    assert code == 2 and "line 2: drn: its key is being changed" in err


def test_a_phone_that_was_nobodys_is_claimed_and_another_owner_is_not_taken_from(lite: Desk) -> None:
    lite.sample()
    lite.look(lambda c: c.execute(sa.text("INSERT INTO phone (msisdn, language) VALUES ('254700000077', 'sw')")))
    assert "254700000077" not in lite.give("phones")
    assert lite.take("phones", "msisdn,account_no\n254700000077,A100001\n254711013579,A100002\n")[0] == 0
    assert "254700000077,A100001,,sw" in lite.give("phones") and "254711013579,A100001,,\n" in lite.give("phones")


# --- killed, and beside others ----------------------------------------------------------------------------------------


def test_an_import_that_was_broken_off_is_taken_up_by_the_same_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.sample()
    rows = "".join(f"C{number:03d},Name,DOMESTIC,en,ACTIVE,2547{number:08d}\n" for number in range(40))
    content = f"account_no,name,category,language,status,msisdn\n{rows}"
    monkeypatch.setattr(run, "PAGE", 7)
    stored = run.Import._stored
    calls: list[int] = []

    async def broken(work: run.Import, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return await stored(work, *arguments)

    monkeypatch.setattr(run.Import, "_stored", broken)
    assert desk.take("customers", content)[0] == 130
    monkeypatch.setattr(run.Import, "_stored", stored)
    assert len(desk.give("customers").splitlines()) == 1 + 20 + 21
    code, out, _ = desk.take("customers", content)
    assert code == 0 and "21 customers were there already" in out and "differ" not in out
    assert (
        len(desk.give("customers").splitlines()) == 1 + 20 + 40 and len(desk.give("phones").splitlines()) == 1 + 21 + 40
    )
    assert desk.look(broken_invariants) == []


def test_what_another_program_stores_meanwhile_counts_as_there(lite: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    lite.sample()
    content = "account_no,name,category,language,status\nX1,One,D,en,ACTIVE\nX2,Two,D,en,ACTIVE\n"
    stored = page.store_fresh
    calls: list[int] = []

    def late(connection: sa.Connection, *arguments: Any) -> Any:
        if not calls:
            calls.append(1)
            raise Changed("somebody was faster")
        return stored(connection, *arguments)

    monkeypatch.setattr(page, "store_fresh", late)
    assert lite.take("customers", content)[0] == 0 and len(calls) == 1
    assert len(lite.give("customers").splitlines()) == 23


# --- readings ---------------------------------------------------------------------------------------------------------


def test_unlikely_readings_are_told_and_stored(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PAGE", 2)
    desk.sample()
    assert desk.take("readings", READINGS)[0] == 0
    later = (
        "drn,read_at,reading_kwh,source\n"
        "04012345676,2026-05-30T10:00:00+03:00,1449.9,HANDHELD\n"
        "04012345676,2026-05-31T10:00:00+03:00,1950.0,HANDHELD\n"
        "04012345676,2026-05-31T22:00:00+03:00,1951.0,HANDHELD\n"
        "07003012221,2026-05-31T10:00:00+03:00,1074.0,HANDHELD\n"
    )
    for options in (["--trial"], []):
        code, out, _ = desk.take("readings", later, *options)
        assert code == 0 and "2 are unlikely:" in out
        assert "line 2: reading_kwh: 1449.9 after 1450.0 on 2026-05-28: a register does not go back" in out
        assert "line 3: reading_kwh: 500.1 kWh since 2026-05-30 is more than 500.0 a day" in out
    assert len(desk.give("readings").splitlines()) == 1 + 3 + 4
    again = later.replace("1449.9", "1449.8")
    assert "1 of them differs from the file" in desk.take("readings", again)[1]


def test_an_import_that_always_meets_another_writer_ends_and_says_to_start_again(
    lite: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise Changed("another program stores customers at this moment")

    monkeypatch.setattr(page, "store_fresh", never)
    code, _, err = lite.take("customers", "account_no,name,category,language,status\nX1,One,D,en,ACTIVE\n")
    assert code == 3 and "what was stored so far stays; start the same again" in err


@pytest.mark.parametrize(("state", "is_tried_again"), [("40P01", True), ("40001", True), ("57014", False)])
def test_a_deadlock_with_a_sale_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, state: str, is_tried_again: bool
) -> None:
    class Driver(Exception):
        sqlstate = state

    def fail(*_: Any, **__: Any) -> Any:
        raise sa.exc.DBAPIError("UPDATE", None, Driver())

    monkeypatch.setattr(page, "store", fail)
    with pytest.raises(Changed if is_tried_again else sa.exc.DBAPIError):
        page.store_fresh(None, KINDS["Meters"], [], None, None)  # type: ignore[arg-type]


def test_two_meters_that_hang_at_one_service_point_are_a_fault_also_across_pages(
    lite: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PAGE", 1)
    header, first = (FOLDER / "meters.csv").read_text(encoding="utf-8").splitlines()[:2]
    numbers = [MeterNumber.from_body(f"041111111{n}").drn for n in range(2)]
    pan = first.split(",")[1]
    rows = [first.replace(pan, "").replace("04012345676", number).replace("SP-20001", "SP-N") for number in numbers]
    lite.sample()
    assert lite.take("points", "service_point,account_no,tariff_code\nSP-N,A100001,D1-FLAT\n")[0] == 0
    code, _, err = lite.take("meters", "\n".join([header, *rows]) + "\n")
    assert code == 2 and f"line 3: service_point: meter {numbers[0]} hangs there already" in err
    assert lite.take("meters", f"{header}\n{rows[0]}\n")[0] == 0
    assert "hangs there already" in lite.take("meters", f"{header}\n{rows[1]}\n")[2]


def test_once_somebody_has_bought_a_file_brings_no_new_version_in(lite: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    lite.sample()
    document = json.loads((FOLDER / "tariffs.json").read_text(encoding="utf-8"))
    first = document["tariffs"][0]
    later = {**first["versions"][-1], "effective_from": "2030-01-01T00:00"}
    content = json.dumps({"tariffs": [{**first, "versions": [*first["versions"], later]}]})
    assert lite.take("tariffs", content, "--trial", suffix="json")[0] == 0
    monkeypatch.setattr("ledger.tariffs._has_sold", lambda connection: True)
    before = lite.contents(audit=True)
    for options in (["--trial"], []):
        code, _, err = lite.take("tariffs", content, *options, suffix="json")
        assert (
            code == 2 and "entry 1: code: version 2030-01-01T00:00:00 of tariff D1-FLAT is new, and sales have" in err
        )
    assert lite.run("import", "tariffs", str(FOLDER / "tariffs.json"))[0] == 0
    assert lite.contents(audit=True) == before
