"""Ways in and out, behind one contract.

contract    Inbound, Reply, Channel, Desk: all that the gateway knows of a channel
counter     a sale at a station's terminal, which has no wire
commands    the words of customers, as commands; currencies     how people write their money
wording     messages and refusals, in words
sms         SMS over any number of SMPP links and accounts of Africa's Talking
africastalking     its API: out by its package, in by callbacks, and a simulator
smpp        the protocol: codec, session, link, and a message centre for the sandbox
http        providers' callbacks: limits, addresses, secrets
ussd        menus: screens as data, their walk, the providers' forms
iso8583     banks and cash machines: codec by profile, frames, MACs, what messages mean
"""
