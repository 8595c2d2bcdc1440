"""Banks at the desk: what their switches ask for becomes deeds of the ledger, and what came of it an answer.

deeds.py     a purchase, its repeat or advice; an inquiry
takeback.py  a reversal
told.py      a purchase as what a bank is answered
desk.py      the shell that the channel `channels/iso8583/bank.py` asks
peers.py     banks of the settings: profiles, keys, certificates, links
"""
