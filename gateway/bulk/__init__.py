"""Files of records: read, checked, stored, mended and written, whatever their length.

lines       a file as lines of named values, in bounded memory, whatever is wrong with it
row         one line's values as what they mean, with a fault for each that means nothing
form        a kind of file: its columns, what a line of it says, how a record is written
records, money, readings    the kinds of files, each with its table of columns
forms       all of them, by name
writing     records as CSV or JSON lines
run         an import: lay out, check, store page by page
export      an export
repair      the lines that were refused, with the reasons, to be mended
progress    how far it is, on a terminal
described   docs/bulk.md, made from the tables of columns
"""
