"""Engines: whatever computes a model's answers, behind one small interface (`base`)."""
