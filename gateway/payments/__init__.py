"""Where the money of an order comes from: payment sources behind one contract, a file each.

contract.py  what a source must be able to do, and the events in which it speaks; pure
registry.py  every kind of source, one line each
life.py      the states of a payment and the table that joins them; pure
intake.py    what is said of payments, as deeds: booked, sold for, set aside
desk.py      the shell: prompts, callbacks, the timetable, refunds
"""
