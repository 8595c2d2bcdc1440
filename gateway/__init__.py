"""The vending desk: where every channel comes, and the program around it.

world       now, ids and chance: the only reader of the clock
purchase    the life of a purchase: states, events, effects, the table
sale        a sale as it is kept: split, receipt number
vend        carries out the table's effects on one batch; decides, never waits
payer       who pays, and the ways of paying
pins, pinproof, vouchering     PINs and vouchers in a batch; the slow hashes
topping_up     money for the wallet that a phone is asked for
again, pace, quoting     the same wish sent twice, too many of them, and what one would come to
payments    sources of money outside, and their desk; source_money     what is sold for money that they brought
bank        the desk of banks; settlement     statements of sources against the books
tokens      which tokens a sale gives, under which key, from which inputs
deeds       requests of every kind, and waiting purchases, as deeds for the ledger's writer
desk        stores what comes in, asks modules that must be waited for, takes up what a crash left
delivery    sends the replies owed, again if lost
reversal, undo     a purchase taken back, and what that restores
corrections, account_payment     mistakes put right by two people; money taken to an account, without energy
links, smsbooks     which node holds which link; parts and receipts of messages
ussd        the desk of the USSD channel, and its phones for the sandbox
app         composition root: settings to a running gateway
bulk        files of records, in and out
intake      takes in a utility's records from a folder
modules, unlock     the security modules of the settings; what opens the key store
keyfile     writes the sealed key file
custody     which vending keys may be used, and deeds that change key store and books
keeper, keptkeys, keyuse     modules that use only the keys the books allow; who made which token, and its limits
keywatch, modulewatch     changes of keys taken up, ends and troubles of modules told
keylock, keyplaces     the key store's locks; where keys are
keysession  signs people in for a command; commands     the command line by topic
cases       worked cases without a database; preview, recompute     a month under a draft, a sale by hand
till        a terminal at a station's counter; vouchersheet     the sheet of vouchers that is printed
engineering, meterdesk, waited     engineering tokens
typed       values typed on the command line
check       tries everything the gateway will need
demo, demopay, demokiosk   the product at work on one machine
logs, metrics, health     for whoever runs it at night
__main__    the command line
"""
