"""Security modules: what makes tokens, and never lets a key out.

contract   what any module can do, in handles (`MeterKey`), requests and named errors
software   vending keys in memory; answers at once; for tests, small utilities and offline stations
keystore   vending keys sealed at rest, and their file format
"""
