"""Vaccination passports: HC1 (EU Digital COVID Certificate) read and written, and PW1 with selective disclosure."""
