"""Models as files: where they come from (`sources`), how they are prepared once, how they are checked (`integrity`)."""

from typing import TYPE_CHECKING

from trine.lazy import lazily

if TYPE_CHECKING:
    from trine_node.models.integrity import ModelMismatch, describe, verify, verify_once
    from trine_node.models.preparation import default_cache_dir, prepare
    from trine_node.models.sources import Source, parse_source
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "ModelMismatch": "trine_node.models.integrity",
            "Source": "trine_node.models.sources",
            "default_cache_dir": "trine_node.models.preparation",
            "describe": "trine_node.models.integrity",
            "parse_source": "trine_node.models.sources",
            "prepare": "trine_node.models.preparation",
            "verify": "trine_node.models.integrity",
            "verify_once": "trine_node.models.integrity",
        },
    )

__all__ = [
    "ModelMismatch",
    "Source",
    "default_cache_dir",
    "describe",
    "parse_source",
    "prepare",
    "verify",
    "verify_once",
]
