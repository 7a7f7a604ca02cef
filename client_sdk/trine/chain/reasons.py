"""Contracts' errors that people meet, as sentences: what is wrong, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable

from trine.wording import when


def explained(reason: str) -> str | None:
    """The sentence for `Name(arguments)`; None for an error that nobody was expected to meet."""
    found = re.fullmatch(r"(\w+)\((.*)\)", reason, re.DOTALL)
    sentence = found and _SENTENCES.get(found[1])
    if not found or not sentence:
        return None
    try:
        return sentence(*(argument.strip() for argument in found[2].split(",") if argument.strip()))
    except (TypeError, ValueError, OverflowError):
        return None


def _amount(wei: str) -> str:
    return f"{int(wei) / 10**18:,.4f}".rstrip("0").rstrip(".")


def _percent(bps: str) -> str:
    return f"{int(bps) / 100:g} %"


_SENTENCES: dict[str, Callable[..., str]] = {
    "ERC20InsufficientBalance": lambda account, has, needs: (
        f"{account} has {_amount(has)} tokens of the {_amount(needs)} that this takes"
    ),
    "StakingAmountTooSmall": lambda amount, least: (
        f"{amount} wei are too few: {least} wei at least, or all that there is"
    ),
    "StakingOwnStakeRequired": lambda operator: f"{operator} has no stake of its own, and takes no delegations without",
    "StakingDelegationLimit": lambda operator, limit, asked: (
        f"{operator} takes {_amount(limit)} tokens of delegators in all, and this would make {_amount(asked)}"
    ),
    "StakingInsufficientShares": lambda _has, _needs: "that is more than the account has there; see `trine stake show`",
    "StakingInsufficientCredit": lambda has, needs: (
        f"the account has {_amount(has)} tokens of credit for verification, this takes {_amount(needs)}: add some with "
        "`trine stake credit`"
    ),
    "StakingInsufficientFree": lambda free, needs: (
        f"{_amount(free)} tokens of the stake are free, this locks {_amount(needs)}: add some with `trine stake add`, "
        "or wait until open batches are final"
    ),
    "StakingStillUnbonding": lambda at: f"the tokens are still leaving: they can be withdrawn from {when(int(at))} on",
    "StakingStillLocked": lambda left, locked: (
        f"open batches hold {_amount(locked)} tokens, and this would leave {_amount(left)}: wait until they are final"
    ),
    "StakingNothingToWithdraw": lambda: (
        "there is nothing to withdraw: start with `trine stake unbond`, and wait until it is over"
    ),
    "StakingCommissionOutOfBounds": lambda asked, most: (
        f"the commission is {_percent(asked)}, and may be {_percent(most)} at most"
    ),
    "StakingEndpointTooLong": lambda length, most: f"the endpoint's address has {length} bytes, at most {most}",
    "PaymentsInsufficientBalance": lambda has, needs: (
        f"{_amount(has)} tokens are deposited with this node, this takes {_amount(needs)}"
    ),
    "PaymentsNoticeRunning": lambda at: f"the notice is running: the deposit can be withdrawn from {when(int(at))} on",
    "PaymentsNotRejected": lambda _batch, leaf: (
        f"answer {leaf} of the batch was neither rejected nor withheld: there is nothing to refund"
    ),
    "PaymentsNotFinal": lambda _batch, leaf: (
        f"the verdict on answer {leaf} of the batch may still be appealed: wait until it is final"
    ),
    "PaymentsNothingToWithdraw": lambda: "there is nothing to withdraw: ask for a withdrawal first",
    "AppealsNothingToWithdraw": lambda: "there is nothing to withdraw: no appeal of the account's has been won",
    "FinalityDeadlinePassed": lambda at: f"the time to appeal was over at {when(int(at))}",
    "FinalityLeafAlreadyAppealed": lambda _batch, leaf: f"answer {leaf} of the batch is under appeal already",
    "AppealsDeadlinePassed": lambda at: f"the time for this was over at {when(int(at))}",
    "CalibrationInsufficientStake": lambda has, needs: (
        f"the account has {_amount(has)} tokens of its own at stake, a calibration takes {_amount(needs)}: add some "
        "with `trine stake add`"
    ),
    "CalibrationUnknownClass": lambda _model, _class: (
        "the model's policy names no such hardware class: see docs/engines.md"
    ),
}
