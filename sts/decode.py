"""Twenty digits <-> token, under a decoder key. Pure."""

from sts import bits
from sts.ciphers import DecoderKey
from sts.errors import Fault, TokenError
from sts.tokens import MeterTest, Token, block_of, token_of


def digits_from(token: Token, key: DecoderKey | None) -> str:
    """The 20 digits of a token under a key; a MeterTest (class 1) is not enciphered and needs none.

    Refuses KEY_MISSING for another token without a key.
    """
    token_class, block = block_of(token)
    if token_class == 1:
        return bits.digits_of(1, block)
    if key is None:
        raise TokenError(Fault.KEY_MISSING, "a decoder key expected for class 0 and class 2")
    return bits.digits_of(token_class, key.encrypt(block))


def token_from(digits: str, key: DecoderKey | None) -> Token:
    """The token in 20 digits (groups of four may be apart) under a key.

    Refuses, always as TokenError: FORMAT, TOKEN_CLASS, CRC (also: made for another meter or key), OUT_OF_RANGE,
    UNSETTLED, and KEY_MISSING for a class 0 or class 2 token without a key.
    """
    token_class, block = bits.split(digits)
    if token_class in (0, 2):
        if key is None:
            raise TokenError(Fault.KEY_MISSING, "a decoder key expected for class 0 and class 2")
        block = key.decrypt(block)
    return token_of(token_class, block)


def meter_test_digits(manufacturer: str, control: int) -> str:
    """The 20 digits of a class 1 token: fixed numbers, made without module or key."""
    return digits_from(MeterTest(manufacturer, control), None)
