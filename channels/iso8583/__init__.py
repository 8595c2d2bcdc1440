"""ISO 8583: a bank's switch or cash machines, in the bank's own dialect. docs/iso8583.md describes dialects.

errors.py          what is refused, by name, with the path to the place
notation.py        "n..19": the formats of fields and what each kind holds
fields.py          one field: bytes to a value and back, in every encoding
bitmap.py          which fields follow
structures.py      fields inside a field: TLV, positions, pairs
message.py         a message, whose representation shows no value
packager.py        bytes to messages and back, for one dialect
plans.py           the same, compiled for one bitmap; plansource.py writes what is compiled
framing.py         a stream cut into frames
mac.py             MAC algorithms, and what a MAC covers
keymodule.py       contract of what keeps a bank's keys; softwarekeys.py keeps them in memory
mti.py             message types and their answers
codes.py           reasons and outcomes as response codes
matching.py        key and fingerprint of a purchase, what an answer matches, field 90
profile.py         one dialect whole
reading.py, packagerfile.py, profilefile.py    profile files, every fault with its path
shipped.py         the profiles that come along, and files
requests.py        what a message asks for, typed; answers.py builds the answer
session.py         one link: sign-on, echo, what is answered at once, what silence means
describe.py        a message for people, masked
recognise.py       framing and dialect of bytes of unknown origin
selftest.py        the known-answer test over a vector file

Bytes go: framing.Framer -> Packager.decode -> mac.check -> requests.request_of; and back: answers -> mac.authenticated
-> Packager.encode -> framing.framed.
"""
