"""Settings and languages.

settings, money    every setting, a section a part, with default and range; kinds    what may stand in a field
load        TOML file and environment to Settings; all faults at once
channel_checks, provider_checks, bank_checks    what must fit together; faults    who is told
languages   keys and values to text, in the customer's language
sample.toml, languages/*.toml
"""
