"""Where the money of an order comes from: payment sources behind one contract, a file each.

contract.py  what a source must be able to do, and the events in which it speaks; pure
amounts.py   amounts as providers write them; pure
client.py    asking providers over HTTP: limits, tokens; waits
daraja.py    what Safaricom's APIs share, and reversals; waits
mpesa_stk.py, mpesa_c2b.py, momo.py, africastalking.py   the sources, a file each; wait
simulated/   the providers, simulated, over real sockets
"""
