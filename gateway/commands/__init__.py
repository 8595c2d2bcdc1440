"""The command line by topic: a module for `prepaid TOPIC`, each with `add_commands`, which `gateway/__main__.py` calls.

They read what was typed, sign people in (`gateway/keysession.py`), ask the books or a desk, and say what came of it.

customers, points, debts, meters, meterlife, readings      the records; records: what these have in common
tokens, tokenmake, tokenoptions, keys, operators, modules  tokens, vending keys, people, security modules
tariffs, prices                                            tariffs under two people; `prepaid price`: worked cases
sell, stations, deposits, shifts, pins, vouchers           the counter and its money
corrections, suspense, settlement, sources                 mistakes put right; money from outside
sms, bank, banklinks, bankday, iso, ussd                   channels
bulk                                                       files of records: `prepaid import`, `prepaid export`
simulators, africastalking, banksimulator, paysimulators   `prepaid simulate`, with modules and ussd
listing                                                    lists, as a table or as JSON lines
"""
