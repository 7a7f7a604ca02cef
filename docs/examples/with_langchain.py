"""LangChain pointed at a gateway: nothing but the base URL and the key is Trine's.

    pip install langchain-openai && python docs/examples/with_langchain.py [MODEL]

Environment: OPENAI_BASE_URL, OPENAI_API_KEY.
"""

import os
import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openai import APIConnectionError, OpenAIError

NEEDED = ("OPENAI_BASE_URL", "OPENAI_API_KEY")


def main() -> None:
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise SystemExit(f"error: set {', '.join(missing)}: docs/gateway.md says where to get a key")
    name = sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m-instruct"
    try:
        ask(ChatOpenAI(model=name, max_tokens=16, include_response_headers=True))
    except OpenAIError as error:
        raise SystemExit(f"error: {sentence(error)}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def ask(model: ChatOpenAI) -> None:
    """Raises OpenAIError, SystemExit for an answer that verifiers did not accept."""
    chain = ChatPromptTemplate.from_template("Name a {thing}.") | model | StrOutputParser()
    print(chain.invoke({"thing": "river"}))
    print(chain.batch([{"thing": "city"}, {"thing": "bird"}]))
    for text in chain.stream({"thing": "river"}):
        print(text, end="", flush=True)
    print()

    # The verdict comes along where the gateway is asked to wait for it.
    judged = model.bind(extra_headers={"x-trine-wait": "verdict"}).invoke("Name a tree.")
    headers = judged.response_metadata["headers"]
    verdict = headers.get("x-trine-verdict", "none: this is no gateway of Trine's")
    if verdict != "accept":
        raise SystemExit(f"error: the verdict on this answer is {verdict}: do not use it")
    print(judged.content, judged.usage_metadata)
    print(verdict, headers["x-trine-receipt"])


def sentence(error: OpenAIError) -> str:
    """The gateway's own words, where it has said any."""
    if isinstance(error, APIConnectionError):
        return f"{os.environ['OPENAI_BASE_URL']} does not answer: does `trine gateway run` run?"
    body = getattr(error, "body", None)
    return str(body["message"]) if isinstance(body, dict) and "message" in body else str(error)


if __name__ == "__main__":
    main()
