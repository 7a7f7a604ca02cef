"""The committee's three seats sign the result instead of voting, as honest verifiers do unless something is missing."""

from __future__ import annotations

from trine_devnet.acts.act import NotShown, Shown, Stage, events, hashes

ANSWERS = 2
BY_VOTES = 10
"""Of so many batches that are settled meanwhile, the questions' too, one may be by votes; of fewer, one as well: a seat
that is late on a busy machine sends the others to votes, and nothing is lost."""


def play(stage: Stage) -> Shown:
    """Asks, and looks how what is settled meanwhile was settled. Raises TrineError."""
    chain = stage.net.chain()
    begun = chain.block_number()
    with stage.client("signed") as client:
        for number in range(ANSWERS):
            stage.state = "asks"
            answer = client.chat(f"Count to {number + 3}.", max_tokens=12)
            stage.state = "waits for a signed verdict"
            client.certify(answer, timeout=600)
    settled = events(chain, "Batches", "BatchSettled", from_block=begun)
    signed = [event for event in settled if event.args["signed"]]
    if not signed or len(settled) - len(signed) > max(1, len(settled) // BY_VOTES):
        raise NotShown(f"{len(signed)} of {len(settled)} batches were settled by signatures, the others by votes")
    gas = min(chain.gas_used(event.transaction) for event in signed)
    return Shown(
        f"{len(signed)} of {len(settled)} batches were settled by one signature of their committee instead of six "
        f"transactions; one took {gas:,} gas",
        hashes(signed),
    )
