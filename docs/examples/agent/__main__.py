"""Lets the agent carry out a task: `python -m agent TASK …` in docs/examples. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from trine import Client, TrineError, load_keystore

from .certified import Certified
from .guarded import Guarded
from .loop import carry_out
from .mandate import TOKEN, Mandate, Payment, amount_of
from .memory import Memory


class TokenWallet:
    """The agent's own account: what it does not have, it cannot lose."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def pay(self, address: str, wei: int) -> None:
        self._client.chain.transfer(address, wei)


def main() -> None:
    parser = argparse.ArgumentParser(prog="agent", description=__doc__)
    parser.add_argument("task", help="in words, for the model")
    parser.add_argument("--owner", type=Path, default=Path("owner"), help="folder with mandate.json and the keys")
    parser.add_argument("--documents", type=Path, default=Path("documents"), help="folder that the agent may read")
    parser.add_argument("--memory", type=Path, default=Path("memory.jsonl"))
    parser.add_argument("--pay", nargs=2, action="append", default=[], metavar=("NAME", "TOKENS"))
    parser.add_argument("--remember", action="append", default=[], help="writes this down as your own words, first")
    given = parser.parse_args()
    client = Client(
        rpc_url=os.environ["TRINE_RPC_URL"],
        deployment=Path(os.environ["TRINE_DEPLOYMENT"]),
        account=load_keystore(Path(os.environ["TRINE_KEYSTORE"]), Path(os.environ["TRINE_PASSWORD_FILE"])),
        node=os.environ.get("TRINE_NODE"),
        deposit_wei=10 * TOKEN,
    )
    memory = Memory(given.memory, given.owner)
    for text in given.remember:
        memory.write(text, origin="owner")
    model = Certified(client)
    mandate = mandate_of(json.loads((given.owner / "mandate.json").read_text()), given.pay)
    rules = Guarded(mandate, memory, given.documents, TokenWallet(client), model.prove, confirm)
    with client:
        try:
            run = carry_out(given.task, model, rules)
        except TrineError as error:
            raise SystemExit(f"stopped, nothing more is done: {error}") from None
    for said, outcome in run.steps:
        print(f"> {said}\n  {outcome}")
    print(f"paid: {', '.join(f'{p.wei / TOKEN:g} to {p.payee}' for p in rules.paid) or 'nothing'}")
    print(f"answers accepted by verifiers: {len(model.answers)}, proven before paying: {len(model.certificates)}")


def mandate_of(document: dict[str, object], named: list[list[str]]) -> Mandate:
    """Of the owner's file, for one task of an hour, with the payments that were named on the command line."""
    payees, limits = document["payees"], [amount_of(str(document[name])) for name in ("paymentLimit", "taskLimit")]
    payments = [Payment(payee, wei) for payee, amount in named if (wei := amount_of(amount))]
    if not isinstance(payees, dict) or None in limits or len(payments) != len(named):
        raise SystemExit("mandate.json needs payees, paymentLimit and taskLimit; --pay a name and an amount in tokens")
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
