"""Revisions of a gateway's store."""
