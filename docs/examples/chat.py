"""A chat in the terminal, by the SDK: text as it comes, and at the end what verifiers said of every answer.

    python docs/examples/chat.py [--model NAME] [--max-tokens 128]

Ends with an empty line, or Ctrl-C; Ctrl-C in an answer stops that answer, and while verdicts are waited for the wait.
Environment: TRINE_RPC_URL, TRINE_DEPLOYMENT, TRINE_KEYSTORE, TRINE_PASSWORD_FILE, and TRINE_NODE to ask one node only.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from trine import Answer, Client, TrineError, load_keystore

TOKEN = 10**18
NEEDED = ("TRINE_RPC_URL", "TRINE_DEPLOYMENT", "TRINE_KEYSTORE", "TRINE_PASSWORD_FILE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--max-tokens", type=int, default=128)
    given = parser.parse_args()
    try:
        with connected() as client:
            show_verdicts(client, talk(client, given.model, given.max_tokens))
    except TrineError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def connected() -> Client:
    """Raises SystemExit where the environment names no network, TrineError where what it names is wrong."""
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise SystemExit(f"error: set {', '.join(missing)}: `trine devnet up` starts a network, and prints those of it")
    return Client(
        rpc_url=os.environ["TRINE_RPC_URL"],
        deployment=Path(os.environ["TRINE_DEPLOYMENT"]),
        account=load_keystore(Path(os.environ["TRINE_KEYSTORE"]), Path(os.environ["TRINE_PASSWORD_FILE"])),
        node=os.environ.get("TRINE_NODE"),
        deposit_wei=10 * TOKEN,
    )


def show_verdicts(client: Client, answers: list[Answer]) -> None:
    """Waits for them in turn. Ctrl-C ends the wait, and says what has no verdict by then."""
    for number, answer in enumerate(answers, 1):
        try:
            said = client.certify(answer).result
        except KeyboardInterrupt:
            for left in range(number, len(answers) + 1):
                print(f"answer {left}: not waited for", flush=True)
            raise
        except TrineError as error:  # of this answer only
            said = f"no verdict ({error})"
        print(f"answer {number}: {said}, {answer.receipt.fee_wei / TOKEN:.9g} tokens", flush=True)


def talk(client: Client, model: str | None, max_tokens: int) -> list[Answer]:
    """Every question goes with what was said before. Ctrl-C at the prompt ends it."""
    messages: list[dict[str, str]] = []
    answers: list[Answer] = []
    try:
        while question := ask():
            messages.append({"role": "user", "content": question})
            if (answer := said(client, messages, model, max_tokens)) is None:
                messages.pop()
                continue
            messages.append({"role": "assistant", "content": answer.text})
            answers.append(answer)
    except KeyboardInterrupt:
        print(flush=True)
    return answers


def said(client: Client, messages: list[dict[str, str]], model: str | None, max_tokens: int) -> Answer | None:
    """Shows the answer as it comes. None where there is none, or Ctrl-C has stopped it."""
    try:
        with client.stream(messages, model=model, max_tokens=max_tokens) as stream:
            for text in stream:
                print(text, end="", flush=True)
        print(flush=True)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return None
    except TrineError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return None
    return stream.answer


def ask() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


if __name__ == "__main__":
    main()
