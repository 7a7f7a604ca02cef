"""The node over HTTP: OpenAI's endpoints (`openai`) beside what every operator serves, put together in `app`."""

from trine_node.service.app import create_app

__all__ = ["create_app"]
