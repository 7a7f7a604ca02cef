"""Models as files: where they come from (`sources`), how they are prepared once, how they are checked (`integrity`),
and how what renders their text is (`golden`, `elsewhere`).
"""

from typing import TYPE_CHECKING

from trine.lazy import lazily

if TYPE_CHECKING:
    from trine_node.models.golden import RendererMismatch, load_renderer, require_golden, require_libraries
    from trine_node.models.integrity import ModelMismatch, describe, verify, verify_once
    from trine_node.models.preparation import default_cache_dir, prepare, prepared
    from trine_node.models.sources import Source, parse_source
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "ModelMismatch": "trine_node.models.integrity",
            "RendererMismatch": "trine_node.models.golden",
            "Source": "trine_node.models.sources",
            "default_cache_dir": "trine_node.models.preparation",
            "describe": "trine_node.models.integrity",
            "load_renderer": "trine_node.models.golden",
            "parse_source": "trine_node.models.sources",
            "prepare": "trine_node.models.preparation",
            "prepared": "trine_node.models.preparation",
            "require_golden": "trine_node.models.golden",
            "require_libraries": "trine_node.models.golden",
            "verify": "trine_node.models.integrity",
            "verify_once": "trine_node.models.integrity",
        },
    )

__all__ = [
    "ModelMismatch",
    "RendererMismatch",
    "Source",
    "default_cache_dir",
    "describe",
    "load_renderer",
    "parse_source",
    "prepare",
    "prepared",
    "require_golden",
    "require_libraries",
    "verify",
    "verify_once",
]
