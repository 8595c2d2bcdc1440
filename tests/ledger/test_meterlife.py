"""The life of a meter as a table: complete, every status reached and left, and drawn as the documents show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.meterlife import AT_POINT, START, TABLE, Deed, Status, WrongStatus, diagram, follow

DOCS = Path(__file__).parents[2] / "docs" / "meters.md"

# The order that the utility's rules give, and the ways around: rules 2.8 of the project's working notes.
LIVES = [
    ("ISSUE INSTALL REPORT_FAULT REMOVE REPAIR RESTOCK", Status.IN_STOCK),
    ("ISSUE INSTALL BLOCK REPORT_FAULT REMOVE SCRAP", Status.SCRAPPED),
    ("ISSUE INSTALL BLOCK UNBLOCK REMOVE SCRAP", Status.SCRAPPED),
    ("ISSUE INSTALL BLOCK REMOVE", Status.REMOVED),
    ("ISSUE BRING_BACK ISSUE INSTALL", Status.INSTALLED),
]


@pytest.mark.parametrize(("deeds", "end"), LIVES)
def test_a_meter_lives_as_the_rules_say(deeds: str, end: Status) -> None:
    status = START
    for deed in deeds.split():
        status = follow(status, Deed(deed))
    assert status is end


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("deed", Deed)
def test_every_deed_has_an_answer_in_every_status(status: Status, deed: Deed) -> None:
    if deed in TABLE[status]:
        assert follow(status, deed) is TABLE[status][deed]
    else:
        with pytest.raises(WrongStatus, match=f"it is {status}; .* expected"):
            follow(status, deed)


def test_every_status_is_reached_and_every_deed_is_used() -> None:
    reached, ways = {START}, [START]
    while ways:
        for after in TABLE[ways.pop()].values():
            if after not in reached:
                reached.add(after)
                ways.append(after)
    assert reached == set(Status)
    assert {deed for row in TABLE.values() for deed in row} == set(Deed)
    assert [status for status, row in TABLE.items() if not row] == [Status.SCRAPPED]


def test_a_meter_comes_to_a_service_point_only_by_install_and_leaves_it_only_by_remove() -> None:
    for status, row in TABLE.items():
        for deed, after in row.items():
            assert (status not in AT_POINT and after in AT_POINT) == (deed is Deed.INSTALL)
            assert (status in AT_POINT and after not in AT_POINT) == (deed is Deed.REMOVE)


def test_the_document_shows_this_table() -> None:
    assert f"```mermaid\n{diagram()}```" in DOCS.read_text(encoding="utf-8")
