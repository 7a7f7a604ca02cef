"""The inference node: engines, model sources, HTTP service, batcher, store."""
