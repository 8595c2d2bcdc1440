"""Settlement: a provider's statement read by a mapping file, matched with our payments, booked to bank and fees.

mapping.py      what a mapping file says: columns, dates, decimals, which rows count
reading.py      a row of a statement as a line, or what is wrong with it
fetching.py     a day that a provider lists itself, as a file
taking.py       a statement taken in: read whole, checked, stored page by page
mappings/       the mapping files that are shipped
"""
