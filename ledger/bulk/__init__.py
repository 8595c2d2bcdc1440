"""Records in bulk: checked, stored, changed and listed set by set, a page at a time.

kind          what every kind of record can do; records that are rows of one table
customers     customers
points        service points: whole, or in the parts that customers' and meters' lines tell
meters        meters, with the status and the key they have
stations      vending stations, with what they bring along
phones        the phones that may speak for a customer or a station
debts         arrears, with what is outstanding
tariffs       tariffs, whose versions are never edited
balances      opening balances of wallets and deposits
readings      what meters' registers showed, and what is odd about it
kinds         all of them, in the order in which they are stored
page          one page of one kind: compare, check, store, change, with the audit log
scratch       where an import is laid out before anything is stored
"""
