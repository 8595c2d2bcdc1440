"""Published tokens, made again: does this program compute, and are an operator's EA07 tables the right ones? Pure."""

from dataclasses import dataclass
from typing import Final

from sts.ciphers import DecoderKey
from sts.decode import digits_from
from sts.derivation import VendingKey
from sts.meterkey import MeterKey
from sts.tables import SAMPLE, TableSet
from sts.tokens import Credit, Resource

_TEST_METER: Final = "00000000000"
_TEST_DES_KEY: Final = bytes.fromhex("abababababababab")
_TEST_HMAC_KEY: Final = bytes.fromhex("abababababababab949494949494949401234567")


@dataclass(frozen=True, slots=True)
class KnownAnswers:
    """Results of the known-answer tests, for the start-up log and the audit log."""

    tables: str
    """Name of the table set tested."""
    sample_ea07: bool
    """The standard's worked example with its sample tables: tests the EA07 program."""
    ea11: bool
    """A published EA11 token: tests DKGA04, MISTY1, CRC and digits."""
    operational_ea07: bool
    """A published EA07 token with the tables given: true only with the operational set."""

    @property
    def program_is_sound(self) -> bool:
        """Do the parts that need no confidential table compute rightly?"""
        return self.sample_ea07 and self.ea11


def known_answers(tables: TableSet = SAMPLE) -> KnownAnswers:
    """Make the published tokens again, with these EA07 tables where the vector needs the operational ones.

    Source: IEC 62055-41 (worked example); STS 531-1-0-02 CTSA01 step 1 (EA07) and STS 531-1-0-04 CTSA01 step 1 (EA11).
    """
    worked_example = digits_from(
        Credit(Resource.ELECTRICITY, 1_698_595, 11, 256), DecoderKey(7, 0x0ABC12DEF3456789, SAMPLE)
    )
    return KnownAnswers(
        tables=tables.name,
        sample_ea07=worked_example == "51043465443420856213",
        ea11=_ea11_answer() == "59386323472137426967",
        operational_ea07=_operational_answer(tables) == "23716100501183194197",
    )


def _operational_answer(tables: TableSet) -> str:
    handle = MeterKey(_TEST_METER, "600727", "123456", 2, "01", 1, 255, 1993, 7, 2)
    # 2004-03-01 13:55 is minute 5,871,715 of base date 1993; 1 tenth of a kWh, RND 5.
    return digits_from(
        Credit(Resource.ELECTRICITY, 5_871_715, 5, 1), VendingKey(2, _TEST_DES_KEY).derive(handle, tables)
    )


def _ea11_answer() -> str:
    handle = MeterKey(_TEST_METER, "600727", "123457", 2, "01", 1, 255, 1993, 11, 4)
    return digits_from(Credit(Resource.ELECTRICITY, 5_871_660, 5, 1), VendingKey(4, _TEST_HMAC_KEY).derive(handle))
