"""Verifiable inference, for developers: ask, keep the receipt, check the certificate."""
