"""A node is an agent of ERC-8004: final verdicts of its batches and a client's feedback stand in the registries."""

from __future__ import annotations

from trine.chain import Role
from trine_devnet.acts.act import NotShown, Shown, Stage
from trine_devnet.agents import published


def play(stage: Stage) -> Shown:
    """Asks the agent, rates it, waits for its verdict to be published. Raises TrineError."""
    chain = stage.net.chain()
    nodes = [r.account.address for r in stage.net.operators.values() if r.member.role is Role.NODE and r.member.agent]
    if not nodes:
        raise NotShown("no node here is an agent")
    agent_id = chain.agent_of(nodes[0])
    if agent_id is None:
        raise NotShown(f"the node {nodes[0]} has linked no agent")
    with stage.client("agent") as client:
        stage.state = "asks the agent"
        answer = client.chat("Name a tree.", max_tokens=8)
        stage.state = "waits for the verdict"
        client.certify(answer, final=True, timeout=600)
        rated = client.feedback(answer, "4.5", "starred")
    found = stage.until(lambda: published(chain, nodes[0]), "the final verdict in the registry")
    count, _, _ = chain.feedback_summary(agent_id, "starred", "accepted")
    if count < 1:
        raise NotShown("the client's feedback is not in the registry of reputation")
    return Shown(
        f"agent {agent_id} registered by its operator; final verdicts of {len(found)} of its batches are in the "
        f"validation registry, and feedback of a client who was answered",
        tuple("0x" + transaction.hex() for transaction in (*found, rated)),
    )
