"""Where the money of an order comes from: payment sources behind one contract, a file each.

contract.py  what a source must be able to do, and the events in which it speaks; pure
registry.py  every kind of source, one line each
life.py      the states of a payment and the table that joins them; pure
intake.py    what is said of payments, as deeds: booked, sold for, set aside
desk.py      the shell: prompts, callbacks, the timetable, refunds
accounts.py  the sources with an account at a provider, from the settings; surroundings.py  what else they may know
amounts.py   amounts as providers write them; pure
client.py    asking providers over HTTP: limits, tokens; waits
daraja.py    what Safaricom's APIs share, and reversals; waits
mpesa_stk.py, mpesa_c2b.py, momo.py, africastalking.py   the sources, a file each; wait
simulated/   the providers, simulated, over real sockets
"""
