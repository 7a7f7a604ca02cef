"""The verifier: re-checks answers and votes; and the adversaries that it is tested against."""
