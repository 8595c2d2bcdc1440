"""Which links a reply may take, by table."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from channels.smpp.routes import fit, routes


@dataclass
class Line:
    name: str
    prefixes: tuple[str, ...] = ()
    up: bool = True
    is_ailing: bool = False
    is_slowed: bool = False
    centre: str = ""
    sends: bool = True

    def is_up(self) -> bool:
        return self.up


A, B, C = Line("a"), Line("b", ("25677", "25678")), Line("c", ("2567",))
TX, RX = Line("x", prefixes=("99",), centre="umoja"), Line("r", centre="umoja", sends=False, up=False)
TX_SICK = Line("y", prefixes=("99",), centre="umoja", is_ailing=True)
DOWN = Line("d", up=False)
SICK, SLOW = Line("s", is_ailing=True), Line("t", is_slowed=True)
PHONE = "256772123456"


# fmt: off
@pytest.mark.parametrize(("links", "peer", "number", "order"), [
    ([A],            "a", PHONE,           "a"),
    ([A, B, C],      "",  PHONE,           "bca"),   # the longest prefix first, those without one last
    ([A, B, C],      "",  "256701000000",  "ca"),
    ([A, B, C],      "",  "254711000000",  "a"),     # a link with prefixes serves no others
    ([B, C],         "",  "254711000000",  ""),
    ([A, B, C],      "a", PHONE,           "abc"),   # the link that brought the question
    ([B, C],         "b", "254711000000",  "b"),     # it has reached that customer, whatever its prefixes
    ([DOWN, A],      "d", PHONE,           "a"),
    ([SICK, A],      "s", PHONE,           "as"),    # in trouble: last, but still
    ([SLOW, SICK, A], "t", PHONE,          "ats"),
    ([],             "a", PHONE,           ""),
    ([A, B, TX, RX], "r", "256701000000",  "xa"),    # what a receiver brought goes by its centre's transmitter
    ([A, B, TX],     "a", PHONE,           "ab"),    # which is no home for what came by a link that sends itself
    ([A, RX],        "r", PHONE,           "a"),     # or by whatever link there is
    ([TX_SICK, RX, A], "r", PHONE,         "ay"),
])
# fmt: on
def test_a_reply_takes_the_best_link_that_is_up(links: list[Line], peer: str, number: str, order: str) -> None:
    assert "".join(link.name for link in routes(links, peer, number)) == order


@pytest.mark.parametrize(
    ("prefixes", "found"), [((), 0), (("2",), 1), (("2567", "256"), 4), (("254",), None), (("",), 0)]
)
def test_the_longest_prefix_counts(prefixes: tuple[str, ...], found: int | None) -> None:
    assert fit(prefixes, PHONE) == found
