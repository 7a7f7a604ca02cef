"""Models as files: where they come from (`sources`), how they are prepared once, how they are checked (`integrity`)."""

from trine_node.models.integrity import ModelMismatch, describe, verify
from trine_node.models.preparation import default_cache_dir, prepare
from trine_node.models.sources import Source, parse_source

__all__ = ["ModelMismatch", "Source", "default_cache_dir", "describe", "parse_source", "prepare", "verify"]
