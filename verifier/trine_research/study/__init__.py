"""Studies: what the verdicts' thresholds rest on, measured. `trine-study` is their command."""
