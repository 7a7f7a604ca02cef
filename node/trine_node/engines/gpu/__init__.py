"""The promise on a GPU: kernels of our own, and what may stand beside them."""
