"""Requests that contracts post on the chain: which pay, their answers, and what brings those to whoever asked.

`rules` decides (pure), `table` keeps, `watching` reads them off the chain, `serving` has them answered and asks `peers`
who else has, `bringing` takes the settled answers to the contract; `wiring` puts them together.
"""
