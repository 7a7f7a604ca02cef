"""A small agent that reads, remembers and pays, and whose owner stays in charge whatever it reads. See README.md."""
