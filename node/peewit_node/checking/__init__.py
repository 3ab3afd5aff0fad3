"""Checking what arrives, on other cores than the one that answers."""
