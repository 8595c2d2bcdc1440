"""USSD: menus on any phone, one screen at a time.

menu.py       the screens and where each choice leads, as data
dialogue.py   one customer's walk through them: place and keys in, next place or order out; pure
pages.py      what fits on a screen, and longer things in pages; pure
steps.py      the normal form of a step, whatever provider it came by; pure
providers/    one file a provider: its form of a callback to a step and back; pure
callbacks.py  the providers' callbacks, over HTTP
links.py      steps over the SMPP links of the SMS channel
"""
