"""Money, and the records money hangs on.

money, reasons        amounts; every refusal, once
accounts, entries     the chart of accounts; balanced postings of each kind of deed
pricing               a payment divided into energy, tax, charges and debts
byhand                the same by another arithmetic, told in lines
sold                  sales as they stand, for those who reckon them again
tariffs_format, tariffs   tariffs as documents, and as stored
columns, tables, *_tables   what SQL tables are made of; the tables, topic by topic; all_tables names them all
schema, migrations    their version and history
unit                  one batch in memory: what was read, what will be written
batch, sql            its statements, set by set, for both databases
books                 reserve, post, release, reverse: the only writer of entries
direct                a deed of money inside an operator's transaction
stations, commissions, deposits, shifts   stations and agents, what they earn, pay in and count
selling, counter, counter_sales   what a sale is held to; counter sales in a batch, and as stored
outbox, purchases     replies owed; purchases that wait
corrections           mistakes put right, case by case
sms, sms_parts, links   parts and receipts of messages; which node holds a link
ussd                  sessions of menus
records, openings     rows that may be there already, accounts of the chart; balances brought along
bulk, sets            records set by set, a page at a time; statements on sets of rows
meters                a meter for those who look after it; its key changes
meterlife, metermoves     a meter's statuses as a table; what is done to meters, from the stock to the scrap
changes               what changes of records share: who, refusals, locks, audit
customers, service_points, debts     records that staff change one by one; their SQL history: record_tables
overview              all about one customer
audit, operators      who did what; who may
vendingkeys, keyrows  vending keys without their bytes
trouble               what a database error means, in our words
trial_balance         the books as a whole, and the rules they keep
store                 the one door to the database: group commit
"""
