"""LiteLLM pointed at a gateway: nothing but the base URL and the key is Trine's.

    pip install litellm && python docs/examples/with_litellm.py

Environment: OPENAI_BASE_URL, OPENAI_API_KEY.
"""

import litellm

MODEL = "openai/smollm2-135m-instruct"


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


whole = litellm.completion(
    model=MODEL, messages=question("Name a river."), max_tokens=16, extra_headers={"x-trine-wait": "verdict"}
)
print(whole.choices[0].message.content, whole.usage.total_tokens)

for chunk in litellm.completion(model=MODEL, messages=question("Name a river."), max_tokens=16, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

# Both come with the node's promise: the body's field, and the verdict that was waited for.
print(whole.trine["verdict"], whole.trine["receiptDigest"])
