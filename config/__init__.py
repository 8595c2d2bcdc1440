"""Settings and languages.

settings    every setting, a section a part, with default and range
load        TOML file and environment to Settings; all faults at once
languages   keys and values to text, in the customer's language
sample.toml, languages/*.toml
"""
