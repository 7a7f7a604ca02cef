"""Every role's strategies against an honest rest: what each gains, exactly. `docs/incentives.md` has the results."""
