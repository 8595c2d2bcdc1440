"""Recorded USSD conversations, as text in tests/examples/ussd: every screen is compared, character by character.

A file begins with "phone MSISDN", perhaps after "seller MSISDN STATION" for one that also sells for a station.
"dial [path]" and "type KEYS" are what the customer does, "again" what a provider
does that got no answer; below stands the screen, each line behind a bar, and END where the session is over.
Tokens are written as XXXX XXXX XXXX XXXX XXXX: they depend on chance. PREPAID_RECORD=1 writes the screens
anew; then read them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.gateway.ussd.rig import open_rig

TOKEN = re.compile(r"[0-9]{4}(?:[ \u00a0][0-9]{4}){4}")
FOLDER = Path(__file__).parents[2] / "examples" / "ussd"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.txt")))
async def test_a_recorded_conversation_goes_as_it_went(name: str, tmp_path: Path) -> None:
    recorded = (FOLDER / name).read_text(encoding="utf-8")
    said: list[str] = []
    async with open_rig(f"sqlite:///{tmp_path}/t.db") as rig:
        phone = rig.phone()
        for line in recorded.splitlines():
            if line.startswith("|") or line == "END":
                continue
            said.append(line)
            verb, _, rest = line.partition(" ")
            if verb == "seller":
                await rig.make_seller(*rest.split(" "))
            elif verb == "phone":
                phone = rig.phone(rest)
            elif verb in ("dial", "type", "again"):
                if verb == "dial":
                    await phone.dial(*(rest.split("*") if rest else []))
                elif verb == "type":
                    await phone.type(rest)
                else:
                    await phone.again()
                said += [f"| {TOKEN.sub('XXXX XXXX XXXX XXXX XXXX', shown)}" for shown in phone.page.text.split("\n")]
                said += ["END"] if phone.page.is_end else []
            else:
                assert line == "" or line.startswith("#"), line
    if os.environ.get("PREPAID_RECORD") == "1":
        (FOLDER / name).write_text("\n".join(said) + "\n", encoding="utf-8")
    assert "\n".join(said) + "\n" == recorded
