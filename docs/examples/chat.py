"""A chat in the terminal, by the SDK: text as it comes, and at the end what verifiers said of every answer.

    python docs/examples/chat.py [--model NAME] [--max-tokens 128]

Ends with an empty line. Environment: TRINE_RPC_URL, TRINE_DEPLOYMENT, TRINE_KEYSTORE, TRINE_PASSWORD_FILE, and
TRINE_NODE to ask one node only.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from trine import Answer, Client, TrineError, load_keystore

TOKEN = 10**18


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--max-tokens", type=int, default=128)
    given = parser.parse_args()
    client = Client(
        rpc_url=os.environ["TRINE_RPC_URL"],
        deployment=Path(os.environ["TRINE_DEPLOYMENT"]),
        account=load_keystore(Path(os.environ["TRINE_KEYSTORE"]), Path(os.environ["TRINE_PASSWORD_FILE"])),
        node=os.environ.get("TRINE_NODE"),
        deposit_wei=10 * TOKEN,
    )
    with client:
        answers = talk(client, given.model, given.max_tokens)
        for number, answer in enumerate(answers, 1):
            certificate = client.certify(answer)
            print(f"answer {number}: {certificate.result}, {answer.receipt.fee_wei / TOKEN:.9g} tokens", flush=True)


def talk(client: Client, model: str | None, max_tokens: int) -> list[Answer]:
    """Every question goes with what was said before."""
    messages: list[dict[str, str]] = []
    answers: list[Answer] = []
    while question := ask():
        messages.append({"role": "user", "content": question})
        stream = client.stream(messages, model=model, max_tokens=max_tokens)
        try:
            for text in stream:
                print(text, end="", flush=True)
        except TrineError as error:
            print(f"\n{error}", file=sys.stderr)
            messages.pop()
            continue
        print(flush=True)
        answer = stream.answer
        assert answer is not None, "a stream that has ended has its answer"
        messages.append({"role": "assistant", "content": answer.text})
        answers.append(answer)
    return answers


def ask() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


if __name__ == "__main__":
    main()
