"""Key-change sets: the new decoder key and its attributes, cut into two tokens (EA07) or four (EA11). Pure.

The sections are enciphered under the meter's present key and describe the new one; they carry no TID and may be
entered in any order. A set of three tokens, for EA07 meters that also take the supply group, is not described in any
open source and is not made here.
Source: IEC 62055-41 (Set1stSectionDecoderKey to Set4thSectionDecoderKey); STS 531-1-0-02 and -04, CTSA24 to CTSA26.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sts.ciphers import DecoderKey
from sts.errors import Fault, TokenError
from sts.meterkey import MeterKey
from sts.tokens import KeySection, KeySection1, KeySection2, KeySection3, KeySection4


def key_change_set(new_key: DecoderKey, new: MeterKey, *, rollover: bool) -> tuple[KeySection, ...]:
    """The sections that carry `new_key`, which `new` names, to the meter: 2 for EA07, 4 for EA11.

    `rollover` (RO) makes the meter forget its TIDs: set exactly when the base date changes.
    """
    value = new_key.secret_value()
    top = new_key.bits - 32
    first = KeySection1(new.key_expiry >> 4, new.key_revision, rollover, False, new.key_type, value >> top)
    second = KeySection2(new.key_expiry & 15, int(new.tariff_index), value & 0xFFFFFFFF)
    if new_key.ea == 7:
        return first, second
    group = int(new.supply_group)
    third = KeySection3(group & 0xFFF, value >> 64 & 0xFFFFFFFF)
    fourth = KeySection4(group >> 12, value >> 32 & 0xFFFFFFFF)
    return first, second, third, fourth


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What a complete set tells the meter. `supply_group` is None after a set of two, which does not carry it."""

    key_revision: int
    key_type: int
    key_expiry: int
    tariff_index: str
    supply_group: str | None
    rollover: bool
    key_value: int = field(repr=False)


def change_of(sections: Iterable[KeySection], ea: int) -> KeyChange | None:
    """The change that these sections make together, or None while some are missing; a later one replaces its like.

    Refuses UNSETTLED for a set of three, TOKEN_CLASS for third and fourth sections with EA07, OUT_OF_RANGE for a
    supply group of more than 6 digits.
    """
    by_kind = {type(section): section for section in sections}
    first, second = by_kind.get(KeySection1), by_kind.get(KeySection2)
    third, fourth = by_kind.get(KeySection3), by_kind.get(KeySection4)
    if isinstance(first, KeySection1) and first.three_token_set:
        raise TokenError(Fault.UNSETTLED, "a key-change set of three tokens is not described in an open source")
    if ea == 7 and (third or fourth):
        raise TokenError(Fault.TOKEN_CLASS, "third and fourth sections carry 128-bit keys only")
    if not isinstance(first, KeySection1) or not isinstance(second, KeySection2):
        return None
    supply_group = None
    value = first.part << 32 | second.part
    if ea == 11:
        if not isinstance(third, KeySection3) or not isinstance(fourth, KeySection4):
            return None
        number = fourth.supply_group_high << 12 | third.supply_group_low
        if number > 999_999:
            raise TokenError(Fault.OUT_OF_RANGE, "supply group: 6 digits expected")
        supply_group = f"{number:06d}"
        value = first.part << 96 | third.part << 64 | fourth.part << 32 | second.part
    return KeyChange(
        key_revision=first.key_revision,
        key_type=first.key_type,
        key_expiry=first.expiry_high << 4 | second.expiry_low,
        tariff_index=f"{second.tariff_index:02d}",
        supply_group=supply_group,
        rollover=first.rollover,
        key_value=value,
    )
