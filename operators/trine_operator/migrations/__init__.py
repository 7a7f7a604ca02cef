"""How a store's tables came to be, revision by revision, for node and verifier alike. `schema` runs them."""
