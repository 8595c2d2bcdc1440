"""The USSD dialogue, its screens, and the providers' forms."""
