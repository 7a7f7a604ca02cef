"""What a gateway serves over HTTP: OpenAI's endpoints (`openai`, `responses`), what was spent (`usage`)."""

from trine_gateway.service.app import create_app

__all__ = ["create_app"]
