"""Hypothesis strategies for STS values: valid meter keys, tokens of every class, 20 digits."""

from typing import Final

from hypothesis import strategies as st

from sts.amounts import CurrencyAmount
from sts.ciphers import DecoderKey
from sts.meterkey import MeterKey
from sts.numbers import MeterNumber, iin_for
from sts.tid import TID_MAX
from sts.tokens import (
    REGISTER_ALL,
    ClearCredit,
    ClearTamper,
    Credit,
    CurrencyCredit,
    KeySection1,
    KeySection2,
    KeySection3,
    KeySection4,
    MeterFlag,
    MeterTest,
    Resource,
    SetFlag,
    SetMaximumPower,
    SetPhaseUnbalance,
    SetTariffRate,
    SetWaterFactor,
    Token,
)


def digit_text(length: int) -> st.SearchStrategy[str]:
    """This many ASCII digits."""
    return st.integers(0, 10**length - 1).map(lambda number: f"{number:0{length}d}")


METER_NUMBERS: Final = st.one_of(digit_text(10), digit_text(12)).map(lambda body: MeterNumber.from_body(body).drn)

TIDS: Final = st.integers(0, TID_MAX)
NIBBLES: Final = st.integers(0, 15)
WORDS_16: Final = st.integers(0, 0xFFFF)
PARTS: Final = st.integers(0, 0xFFFFFFFF)
BLOCKS: Final = st.integers(0, (1 << 64) - 1)

DECODER_KEYS: Final = st.one_of(
    st.integers(0, (1 << 64) - 1).map(lambda value: DecoderKey(7, value)),
    st.integers(0, (1 << 128) - 1).map(lambda value: DecoderKey(11, value)),
)


@st.composite
def meter_keys(draw: st.DrawFn, key_types: tuple[int, ...] = (1, 2)) -> MeterKey:
    """Handles that have a derivation: EA11 never with DKGA02."""
    drn = draw(METER_NUMBERS)
    ea, dkga = draw(st.sampled_from([(7, 2), (7, 4), (11, 4)]))
    return MeterKey(
        drn=drn,
        iin=iin_for(drn),
        supply_group=draw(digit_text(6)),
        key_type=draw(st.sampled_from(key_types)),
        tariff_index=draw(digit_text(2)),
        key_revision=draw(st.integers(1, 9)),
        key_expiry=draw(st.integers(0, 255)),
        base_date=draw(st.sampled_from([1993, 2014, 2035])),
        ea=ea,
        dkga=dkga,
    )


def _resource(low: int, high: int) -> st.SearchStrategy[Resource]:
    return st.sampled_from([resource for resource in Resource if low <= resource <= high])


TOKENS: Final[st.SearchStrategy[Token]] = st.one_of(
    st.builds(Credit, _resource(0, 3), TIDS, NIBBLES, WORDS_16),
    st.builds(CurrencyCredit, _resource(4, 7), TIDS, st.builds(CurrencyAmount, WORDS_16, NIBBLES)),
    st.builds(MeterTest, st.sampled_from([f"0{n}" for n in range(10)]), st.integers(0, (1 << 36) - 1)),
    st.builds(MeterTest, st.sampled_from([f"000{n}" for n in range(10)]), st.integers(0, (1 << 28) - 1)),
    st.builds(SetMaximumPower, TIDS, NIBBLES, WORDS_16),
    st.builds(ClearCredit, TIDS, NIBBLES, st.sampled_from([*range(8), REGISTER_ALL])),
    st.builds(SetTariffRate, TIDS, NIBBLES, WORDS_16),
    st.builds(ClearTamper, TIDS, NIBBLES),
    st.builds(SetPhaseUnbalance, TIDS, NIBBLES, WORDS_16),
    st.builds(SetWaterFactor, TIDS, NIBBLES, WORDS_16),
    st.builds(SetFlag, TIDS, NIBBLES, st.sampled_from(MeterFlag), st.booleans()),
    st.builds(KeySection1, NIBBLES, st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 3), PARTS),
    st.builds(KeySection2, NIBBLES, st.integers(0, 99), PARTS),
    st.builds(KeySection3, st.integers(0, 0xFFF), PARTS),
    st.builds(KeySection4, st.integers(0, 0xFFF), PARTS),
)
