"""Simulated providers of payments, as a gateway sees them: their HTTP APIs over real sockets, phones, books, faults.

wallets.py          the operator's books: phones with money and habits, receipts, statement; pure
faults.py           what goes wrong on purpose, drawn from a seed; pure
mobile_operator.py  prompts on phones and callbacks to the gateway; waits
daraja.py           Safaricom's Daraja: OAuth, prompt, query, C2B, reversal
momo.py             MTN MoMo: tokens, request-to-pay, transfer
africastalking.py   Africa's Talking: mobile checkout, find, fetch
server.py           the HTTP server they share
"""
