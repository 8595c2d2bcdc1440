"""Security modules: what makes tokens, and never lets a key out.

contract      what any module can do, in handles (`MeterKey`), requests and named errors
signing       a derived key and a request to a token, with every rule; shared by the modules that compute here
software      vending keys in memory; answers at once; for tests, small utilities and offline stations
records, keystore   a vending key with what is known of it; keys sealed at rest, and their file format
keyfile       vending keys sealed for one module, to be carried there
pkcs11, pkcs11_token   vending keys of DKGA04 inside a PKCS#11 token
prism         a module behind Prism's TokenApi, and a simulator of one
pool          several modules: order of trial, rest after failure, places, rates
"""
