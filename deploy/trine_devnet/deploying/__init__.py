"""Puts Trine's contracts on a network that lasts: `trine deploy`. Hardhat Ignition sends, this decides whether."""
