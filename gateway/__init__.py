"""The vending desk: where every channel comes, and the program around it.

world       now, ids and chance: the only reader of the clock
purchase    the life of a purchase: states, events, effects, the table
sale        a sale as it is kept: split, receipt number
vend        carries out the table's effects on one batch; decides, never waits
payer       who pays, and the ways of paying
pins, pinproof, vouchering     PINs and vouchers in a batch; the slow hashes
again, pace, quoting     the same wish sent twice, too many of them, and what one would come to
payments    sources of money outside, and their desk; prepaid     what is sold for money that they brought
bank        the desk of banks; settlement     statements of sources against the books
tokens      which tokens a sale gives, under which key, from which inputs
deeds       requests of every kind, and waiting purchases, as deeds for the ledger's writer
desk        stores what comes in, asks modules that must be waited for, takes up what a crash left
delivery    sends the replies owed, again if lost
reversal, undo     a purchase taken back, and what that restores
corrections, payment, correctiontools     `prepaid corrections`, `account`, `purchase`: mistakes put right by two people
links, smsbooks, smstools     which node holds which link; parts and receipts of messages; `prepaid sms`
ussd        the desk of the USSD channel, and its phones for the sandbox
app         composition root: settings to a running gateway
bulk, bulktools     files of records: `prepaid import`, `prepaid export`
intake      takes in a utility's records from a folder
modules, unlock     the security modules of the settings; what opens the key store
keyfile     writes the sealed key file
custody     which vending keys may be used, and deeds that change key store and books
keeper, keptkeys, keyuse     modules that use only the keys the books allow; who made which token, and its limits
keywatch, modulewatch     changes of keys taken up, ends and troubles of modules told
keytools, keylock, keyplaces, operatortools, keysession     `prepaid keys`, `operators`, `audit`
metertools, meterlifetools     `prepaid meters`
customertools, pointtools, debttools, recordtools     `prepaid customers`, `points`, `debts`
cases, pricetools     worked cases without a database: `prepaid price`
preview, recompute, tarifftools     a month under a draft, a sale by hand: `prepaid tariff`
till, selltools     `prepaid sell`: a terminal at a station's counter
stationtools, deposittools, shifttools     `prepaid stations`, `commissions`, `deposits`, `banking`, `shifts`
pintools, vouchertools, vouchersheet     `prepaid pins`, `vouchers`; the sheet that is printed
suspensetools, settlementtools, readingtools, listing     `prepaid suspense`, `settlement`, `readings`; lists
banktools, bankdaytools, banksimtools     `prepaid bank`, and its simulator
moduletools, simulatetools, simulatepaytools, attools, ussdtools, typed     `prepaid modules`, `prepaid simulate`
sourcetools     `prepaid sources`: the outside sources of money that are set up
isotools        `prepaid iso`: banks' dialects and messages
engineering, meterdesk, tokentools, tokenmake, tokenoptions, waited     `prepaid token`
check       tries everything the gateway will need
demo, demopay     the product at work on one machine
logs, metrics, health     for whoever runs it at night
__main__    the command line
"""
