"""The handle of a decoder key: everything its derivation needs, except the vending key. Pure.

Nobody above the security modules ever sees a key; they name it with this value.
"""

from dataclasses import dataclass

from sts import numbers
from sts.errors import Fault, KeyRefused, NumberError
from sts.numbers import IIN_11, IIN_13


@dataclass(frozen=True, slots=True)
class MeterKey:
    """Which decoder key of which meter: the meter's state as the vending system keeps it.

    Shapes: `drn` 11 or 13 digits with check digit, `iin` 600727 or 0000 to match, `supply_group` 6 digits,
    `key_type` 0 to 3, `tariff_index` 2 digits, `key_revision` 1 to 9, `key_expiry` (KEN) 0 to 255, `base_date` 1993,
    2014 or 2035, `ea` 7 or 11, `dkga` 2 or 4. Refuses, by name, whatever breaks one of these, and UNSUPPORTED for
    EA11 with DKGA02, which makes 64-bit keys only.
    """

    drn: str
    iin: str
    supply_group: str
    key_type: int
    tariff_index: str
    key_revision: int
    key_expiry: int
    base_date: int
    ea: int
    dkga: int

    def __post_init__(self) -> None:
        numbers.check_drn(self.drn)
        if self.iin != (IIN_11 if len(self.drn) == 11 else IIN_13):
            raise NumberError(
                Fault.OUT_OF_RANGE, "issuer number: 600727 expected before 11 digits, 0000 before 13 digits"
            )
        numbers.check_supply_group(self.supply_group)
        numbers.check_tariff_index(self.tariff_index)
        if not 1 <= self.key_revision <= 9:
            numbers.check_key_revision(self.key_revision)
        if not 0 <= self.key_expiry <= 255:
            numbers.check_key_expiry(self.key_expiry)
        if not 0 <= self.key_type <= 3:
            numbers.key_type_of(self.key_type)
        if self.base_date not in (2014, 1993, 2035):
            numbers.base_date_of(self.base_date)
        if self.ea not in (7, 11):
            numbers.encryption_algorithm_of(self.ea)
        if self.dkga not in (2, 4):
            numbers.key_generation_of(self.dkga)
        if self.ea == 11 and self.dkga == 2:
            raise KeyRefused(Fault.UNSUPPORTED, "EA11 needs a 128-bit key, which DKGA02 does not make")

    @property
    def pan(self) -> str:
        """The 18-digit MeterPAN."""
        return numbers.pan_of(self.iin, self.drn)

    @property
    def decoder_key_bits(self) -> int:
        """64 for EA07, 128 for EA11."""
        return 64 if self.ea == 7 else 128
