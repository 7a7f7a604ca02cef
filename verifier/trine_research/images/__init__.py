"""Image mode: pinned pipelines, perceptual hashes of what they make, and the verdict on a claimed hash.

A request fixes model, class and seed, and with them the noise; noise, scheduler and weights fix the picture. A node
claims the hash of its picture, a verifier makes the picture again and compares hashes.
"""
