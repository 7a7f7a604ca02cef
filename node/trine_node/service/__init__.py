"""The node over HTTP: OpenAI's endpoints (`openai`), evidence for verifiers (`evidence`), put together in `app`."""

from trine_node.service.app import create_app, create_evidence_app

__all__ = ["create_app", "create_evidence_app"]
