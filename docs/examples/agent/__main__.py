"""Lets the agent carry out a task: `python -m agent TASK …` in docs/examples. See README.md.

Environment: TRINE_RPC_URL, TRINE_DEPLOYMENT, TRINE_KEYSTORE, TRINE_PASSWORD_FILE, and TRINE_NODE to ask one node only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from trine import Client, TrineError, load_keystore

from .certified import Certified
from .guarded import Guarded
from .loop import carry_out
from .mandate import TOKEN, Mandate, Payment, amount_of
from .memory import Memory, MemoryFull

NEEDED = ("TRINE_RPC_URL", "TRINE_DEPLOYMENT", "TRINE_KEYSTORE", "TRINE_PASSWORD_FILE")


class TokenWallet:
    """The agent's own account: what it does not have, it cannot lose."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.transactions: list[str] = []

    def pay(self, address: str, wei: int) -> None:
        """Raises ChainError; the payment may have been made all the same."""
        receipt = self._client.chain.transfer(address, wei)
        self.transactions.append(f"transaction 0x{bytes(receipt['transactionHash']).hex()}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="agent", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", help="in words, for the model")
    parser.add_argument("--owner", type=Path, default=Path("owner"), help="folder with mandate.json and the keys")
    parser.add_argument("--documents", type=Path, default=Path("documents"), help="folder that the agent may read")
    parser.add_argument("--memory", type=Path, default=Path("memory.jsonl"))
    parser.add_argument("--pay", nargs=2, action="append", default=[], metavar=("NAME", "TOKENS"))
    parser.add_argument("--remember", action="append", default=[], help="writes this down as your own words, first")
    given = parser.parse_args()
    mandate = mandate_of(given.owner / "mandate.json", given.pay)
    try:
        memory = Memory(given.memory, given.owner)
        for text in given.remember:
            memory.write(text, origin="owner")
        with connected() as client:
            carry_out_and_tell(given.task, client, mandate, memory, given.documents)
    except (TrineError, MemoryFull, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def carry_out_and_tell(task: str, client: Client, mandate: Mandate, memory: Memory, documents: Path) -> None:
    """However it ends, what was paid is told. Raises what stopped it."""
    model, wallet = Certified(client), TokenWallet(client)
    rules = Guarded(mandate, memory, documents, wallet, model.prove, confirm)
    try:
        for said, outcome in carry_out(task, model, rules).steps:
            print(f"> {said}\n  {outcome}")
    except (TrineError, KeyboardInterrupt):
        print("stopped, nothing more is done", file=sys.stderr)
        raise
    finally:
        for number, payment in enumerate(rules.paid):
            known = number < len(wallet.transactions)
            print(f"paid: {payment.wei / TOKEN:g} to {payment.payee}, {mandate.payees[payment.payee]}")
            print(f"  {wallet.transactions[number] if known else 'perhaps: what was sent has not been confirmed'}")
        if not rules.paid:
            print("paid: nothing")
        print(f"answers accepted by verifiers: {len(model.answers)}, proven before paying: {len(model.certificates)}")


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


def mandate_of(file: Path, named: list[list[str]]) -> Mandate:
    """Of the owner's file, for one task of an hour, with the payments that were named on the command line. Raises
    SystemExit for what is no mandate."""
    try:
        document = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SystemExit(
            f"error: {file} cannot be read ({error.strerror}): the owner writes it, see README.md"
        ) from None
    except ValueError as error:
        raise SystemExit(f"error: {file} is no JSON: {error}") from None
    fields = document if isinstance(document, dict) else {}
    payees = fields.get("payees")
    limits = [amount_of(str(fields.get(name))) for name in ("paymentLimit", "taskLimit")]
    if not isinstance(payees, dict) or None in limits:
        raise SystemExit(
            f"error: {file} needs payees (a name and an address each), paymentLimit and taskLimit in tokens"
        )
    payments = []
    for payee, amount in named:
        wei = amount_of(amount)
        if not wei or payee not in payees:
            known = ", ".join(payees) or "nobody"
            raise SystemExit(
                f"error: --pay takes a name of {file} ({known}) and an amount in tokens, not {payee} {amount}"
            )
        payments.append(Payment(payee, wei))
    return Mandate(payees, limits[0] or 0, limits[1] or 0, int(time.time()) + 3_600, tuple(payments))


def confirm(payment: Payment, read: frozenset[str]) -> bool:
    """At the terminal; nobody there is a no."""
    try:
        asked = (
            f"pay {payment.wei / TOKEN:g} tokens to {payment.payee}, after reading {', '.join(sorted(read))}? [y/N] "
        )
        return input(asked).strip().lower() == "y"
    except EOFError:
        return False


if __name__ == "__main__":
    main()
