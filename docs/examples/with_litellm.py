"""LiteLLM pointed at a gateway: nothing but the base URL and the key is Trine's.

    pip install litellm && python docs/examples/with_litellm.py [MODEL]

Environment: OPENAI_BASE_URL, OPENAI_API_KEY.
"""

import os
import sys
from typing import Any

import litellm
from openai import OpenAIError

NEEDED = ("OPENAI_BASE_URL", "OPENAI_API_KEY")


def main() -> None:
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise SystemExit(f"error: set {', '.join(missing)}: docs/gateway.md says where to get a key")
    litellm.suppress_debug_info = True  # an error is said below, once
    try:
        ask("openai/" + (sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m-instruct"))
    except OpenAIError as error:  # LiteLLM's are of these kinds
        raise SystemExit(f"error: {sentence(error)}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def ask(model: str) -> None:
    """Raises OpenAIError, SystemExit for an answer that verifiers did not accept."""
    asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Name a river."}]}
    whole = litellm.completion(**asked, max_tokens=16, extra_headers={"x-trine-wait": "verdict"})
    print(whole.choices[0].message.content, whole.usage.total_tokens)

    for chunk in litellm.completion(**asked, max_tokens=16, stream=True):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()

    # Both come with the node's promise: the body's field, and the verdict that was waited for.
    promise = getattr(whole, "trine", {"verdict": "none: this is no gateway of Trine's"})
    if promise["verdict"] != "accept":
        raise SystemExit(f"error: the verdict on this answer is {promise['verdict']}: do not use it")
    print(promise["verdict"], promise["receiptDigest"])


def sentence(error: OpenAIError) -> str:
    """The gateway's own words, where it has said any: LiteLLM puts its own before them."""
    said = str(error).rpartition("OpenAIException - ")[2]
    if said.startswith("Connection error"):
        return f"{os.environ['OPENAI_BASE_URL']} does not answer: does `trine gateway run` run?"
    return said


if __name__ == "__main__":
    main()
