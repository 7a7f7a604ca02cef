"""A wallet that knows nothing of Trine: the x402 library's own client, paid answers, real committees."""

from eth_account import Account

from trine_devnet.network import TOKEN
from trine_devnet.paying import ask_by_x402, charge_of, wait_for_payment

QUESTIONS = ("What is a lighthouse?", "Name a river.", "Name a bird.", "Name a metal.", "Name a tree.")


def test_the_stock_client_is_charged_for_what_verifiers_accept_after_their_final_verdict_and_for_nothing_else(net, ask):
    client = ask("honest")
    chain, endpoint = client.chain, net.operators["cheater"].endpoint
    payer, asset = Account.create(), chain.deployment.address("TrineToken")
    net.admin.transfer(payer.address, TOKEN)  # and no gas money: it sends no transaction
    answers = []
    for question in QUESTIONS:
        answers.append(
            ask_by_x402(endpoint, net.record.name, question, payer, asset=asset, network="eip155:31337", max_tokens=12)
        )
        assert charge_of(answers[-1], chain) is None
    payments = [wait_for_payment(answer, chain, 240) for answer in answers]
    certificates = [client.certify(answer.answer, final=True) for answer in answers]

    results = [certificate.result for certificate in certificates]
    # Its last cheat, or all of them when nobody asked before.
    assert results == sorted(results, reverse=True)
    assert {"reject", "accept"} == set(results)
    assert [payment.state for payment in payments] == [
        "settled" if result == "accept" else "dropped" for result in results
    ]
    paid = [answer.amount for answer, payment in zip(answers, payments, strict=True) if payment.is_paid]
    assert chain.token_balance(payer.address) == TOKEN - sum(paid)
    for certificate, payment in zip(certificates, payments, strict=True):
        if payment.transaction:
            final = max(e.block for e in chain.events("Finality", "LeavesFinalized", batchId=certificate.batch_id))
            charged = bytes.fromhex(payment.transaction[2:])
            (use,) = [
                event
                for event in chain.events("TrineToken", "AuthorizationUsed", authorizer=payer.address)
                if event.transaction == charged
            ]
            assert use.block > final
