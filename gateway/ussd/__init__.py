"""USSD at the desk: a step comes in, a screen goes out, both stored before the provider hears anything.

knowledge.py  what a screen needs to know, from the batch's unit
step.py       one step as a deed for the ledger's writer
desk.py       the shell: hands steps to the store, waits a moment for tokens, forgets what has expired
"""
