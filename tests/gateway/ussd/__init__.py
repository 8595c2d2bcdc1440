"""USSD at the desk: steps on both databases, recorded conversations, faults."""
