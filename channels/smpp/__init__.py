"""SMS over SMPP 3.4.

codes.py           numbers and names; what a command_status means
framing.py         a stream of octets, cut into packets
pdu.py             packets: octets to values and back
text.py            alphabets; long texts cut into parts
parts.py           parts put together again
receipt.py         delivery receipts
session.py         one session as an ESME: states, window, sequence numbers, timers; pure
link.py            sockets, rebinding, sending; one message centre as the program sees it
centre_session.py  one session as a message centre sees it; pure
phones.py          what phones have received, for the message centre below
ussd_phones.py     its USSD phones, which dial and answer
centre_settings.py how that message centre behaves, and misbehaves
message_centre.py  a message centre on the real wire, for sandboxes, tests and load

A message comes in by `link.py` and `session.py`, is stored by way of `channels/sms.py`, and only then acknowledged.
"""
