"""The command line by topic: a module for `prepaid TOPIC`, each with `add_commands`; `topics` says which is where.

They read what was typed, sign people in (`gateway/keysession.py`), ask the books or a desk, and say what came of it.

customers, points, debts, meters, meterlife, readings      the records; records: what these have in common
tokens, tokenmake, tokenoptions, tokendesk                 STS tokens by hand; with the books behind it
keys, operators, modules                                   vending keys, people, security modules
tariffs, prices                                            tariffs under two people; `prepaid price`: worked cases
sell, stations, deposits, shifts, pins, vouchers           the counter and its money
corrections, suspense, settlement, sources                 mistakes put right; money from outside
sms, bank, banklinks, bankday, iso, ussd                   channels
bulk                                                       files of records: `prepaid import`, `prepaid export`
simulators, africastalking, banksimulator, paysimulators   `prepaid simulate`, with modules and ussd
listing                                                    lists, as a table or as JSON lines
"""
