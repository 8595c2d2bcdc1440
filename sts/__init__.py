"""STS, the Standard Transfer Specification (IEC 62055-41): prepayment tokens, computed. Imports nothing of ours.

    errors      every refusal by name: StsError and its Fault
    numbers     meter number (DRN), issuer number, MeterPAN, supply group, tariff index, key revision and expiry
    meterkey    MeterKey: the handle of a decoder key
    tid         token identifiers: minutes since a base date, 00:01, the next free one
    amounts     amount <-> 16-bit field, rounded up or down; the currency form
    bits        66 bits <-> 20 digits, class bits in their places
    crc         the checksum of a token, plain and for currency
    tables      EA07 substitution and permutation tables: the public sample set, an operator's own set
    ciphers     EA07 (STA) and EA11 (MISTY1): block in, block out; DecoderKey
    derivation  DKGA02 and DKGA04: vending key + MeterKey -> DecoderKey
    tokens      every token class as a dataclass <-> block
    keychange   key-change sets of two and four tokens
    decode      20 digits -> token, or a named refusal; token -> 20 digits
    knownanswer published tokens made again: are an operator's EA07 tables the right ones?
    explain     what a token says, as facts for people
    selftest, vectorrows     every row of a vector file computed and compared
    meter       a simulated meter, for tests and for support
    modules     security modules: contract, software, PKCS#11, Prism's TokenApi, a pool of several; sealed key store

Pure outside modules, where the functions that read files and the modules that are asked over a wire wait. No clock, no
chance.
"""
