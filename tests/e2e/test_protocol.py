"""The whole protocol, with real processes, a real model and a real chain."""

import asyncio
import json
import subprocess
import sys

import httpx2
import openai
import pytest
from waiting import eventually

from trine import AsyncClient, PaymentRequired, TransactionReverted, VerificationFailed
from trine.audit import batch_gas, certificate_report, operator_report
from trine.chain import BatchState, Role
from trine.protocol.messages import Receipt, text_hash

QUESTION = "Explain in two sentences why the sky is blue."


def test_an_honest_answer_in_another_precision_is_certified_and_paid_for(net, ask):
    account = net.create_client("newcomer")  # of whom no answer is final yet
    client = ask("honest", account)
    node = net.operators["honest"].account.address
    chain = client.chain
    client.deposit(10**18)
    before = chain.token_balance(node), chain.credit_of(node)
    answer = client.chat(QUESTION, max_tokens=40, wait=True)
    assert answer.text
    assert answer.certificate.result == "accept"
    assert answer.receipt.engine_class_name == "cpu-bf16"
    batch = chain.batch(answer.certificate.batch_id)
    assert batch.state in (BatchState.SETTLED, BatchState.FINAL)
    votes = [chain.vote(batch, index) for index in range(len(chain.seats(batch)))]
    assert sum(vote.accepts & 1 for vote in votes if vote) >= 2
    terms = chain.parameters(batch.terms)
    assert chain.credit_of(node) == before[1] - terms.verifier_fee(batch.leaf_count, batch.known_header.tokens)
    paid = chain.account(account.address, node).collected
    assert paid == 0 or chain.batch(batch.batch_id).state == BatchState.FINAL  # not before the verdict is
    client.certify(answer, final=True)
    eventually(lambda: chain.account(account.address, node).collected == answer.receipt.fee_wei, "the node to collect")
    assert chain.token_balance(node) >= before[0] + answer.receipt.fee_wei
    assert certificate_report(chain, answer.certificate).is_final
    eventually(lambda: chain.stake_of(node).locked == 0, "the node's stake to be free")
    assert 0 < batch_gas(chain, batch.batch_id) < 1_500_000


def test_a_sampled_answer_is_certified_and_comes_again_with_its_seed(net, ask):
    client = ask("honest")
    answer = client.chat(QUESTION, max_tokens=40, temperature=0.8, top_p=0.95, wait=True)
    assert answer.certificate.result == "accept"
    batch = client.chain.batch(answer.certificate.batch_id)
    votes = [client.chain.vote(batch, index) for index in range(len(client.chain.seats(batch)))]
    assert sum(vote.accepts >> answer.certificate.index & 1 for vote in votes if vote) >= 2
    again = client.chat(QUESTION, max_tokens=40, temperature=0.8, top_p=0.95, seed=answer.sampling.seed)
    assert again.text == answer.text
    assert again.sampling == answer.sampling
    assert again.receipt.input_hash != answer.receipt.input_hash  # each order has a salt of its own
    other = client.chat(QUESTION, max_tokens=40, temperature=0.8, top_p=0.95)
    assert other.text != answer.text
    for each in (again, other):
        assert client.certify(each).result == "accept"


def test_a_sealed_order_is_certified_and_nothing_on_the_way_or_on_the_disk_shows_it(net, ask):
    question = "Which medicine helps against hay fever?"
    client = ask("honest", sealed=True)
    stream = client.stream(question, max_tokens=12)
    assert "".join(stream) == stream.answer.text
    answer = stream.answer
    assert client.certify(answer).result == "accept"  # the verifiers have been shown it, sealed to each of them
    assert answer.receipt.text_hash == text_hash(answer.text, answer.salt) != text_hash(answer.text)
    for file in (file for file in net.home.iterdir() if ".sqlite" in file.name):
        assert question.encode() not in file.read_bytes(), file.name
    assert list(net.home.glob("honest.sqlite*"))


def test_every_cheat_is_rejected_slashed_and_on_record(net, ask):
    client = ask("cheater")
    node = net.operators["cheater"].account.address
    questions = ("Describe the life cycle of a butterfly.", "What makes bread rise?", "Give a student some advice.")
    ways = ({}, {}, {"temperature": 0.8, "top_p": 0.95})  # the third cheat draws by a seed of its own
    answers = [client.chat(question, max_tokens=40, **way) for question, way in zip(questions, ways, strict=True)]
    for answer in answers:
        assert client.certify(answer).result == "reject"
    for answer in answers:
        assert client.certify(answer, final=True).result == "reject"
    report = operator_report(client.chain, node)
    (standing,) = report.standings
    assert standing.counts == (0, 3, 0)
    assert 2_999_000 < standing.reputation.rejected_micro <= 3_000_000
    assert standing.reputation.score_bps == 0
    assert sum(slash.taken_wei for slash in report.slashes) == 3 * client.chain.parameters().stake_per_leaf
    with pytest.raises(VerificationFailed, match="do not use"):
        _raise_unless_accepted(answers[0])
    _refund(client, answers[0])


def test_a_committee_can_be_drawn_again_from_public_data(net, ask):
    chain = ask("honest").chain
    client = ask("honest")
    batch = chain.batch(client.certify(client.chat("Name a fruit.", max_tokens=6)).batch_id)
    # The weights of its epoch are frozen, and still known.
    assert tuple(seat.verifier for seat in chain.seats(batch)) == chain.draw_again(batch)


def test_the_stock_openai_client_streams_and_gets_a_receipt(net):
    endpoint = net.operators["honest"].endpoint
    with openai.OpenAI(base_url=f"{endpoint}/v1", api_key="unused", max_retries=0) as stock:
        assert [model.id for model in stock.models.list()] == [net.record.name]
        chunks = list(
            stock.chat.completions.create(
                model=net.record.name,
                messages=[{"role": "user", "content": "Nommez deux fleuves français."}],
                max_tokens=16,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert len({chunk.id for chunk in chunks}) == 1
        assert chunks[0].choices[0].delta.role == "assistant"
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert chunks[-2].choices[0].finish_reason in ("stop", "length")
        receipt = Receipt.from_json(chunks[-2].model_extra["trine"]["receipt"])
        assert receipt.text_hash == text_hash(text)
        assert chunks[-1].usage.completion_tokens == receipt.output_tokens <= 16
        completion = stock.completions.create(model=net.record.name, prompt="The sea is", max_tokens=5, temperature=0)
        assert completion.choices[0].text


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"temperature": 0.9}, 400, "seed"),
        ({"temperature": 2.5, "seed": 1}, 400, "temperature"),
        ({"n": 2}, 400, "n"),
        ({"messages": []}, 400, "messages"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 2000, "messages": [{"role": "user", "content": "word " * 8000}]}, 400, "messages"),
        ({"model": "gpt-4"}, 404, "model"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools"),
    ],
)
def test_what_is_not_served_is_refused_by_name(net, changes, status, param):
    endpoint = net.operators["honest"].endpoint
    order = {"model": net.record.name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **changes}
    stock = openai.OpenAI(base_url=f"{endpoint}/v1", api_key="unused", max_retries=0)
    with stock, pytest.raises(openai.APIStatusError) as refused:
        stock.chat.completions.create(**order)
    assert refused.value.status_code == status
    assert refused.value.body["param"] == param
    assert refused.value.response.headers["x-request-id"]


def test_a_retried_request_gets_the_same_answer_and_is_charged_once(net, ask):
    client = ask("honest")
    body = client.order("Name a colour.", max_tokens=6)
    url = f"{net.operators['honest'].endpoint}/v1/chat/completions"
    first, second = (httpx2.post(url, json=body, timeout=300).json() for _ in range(2))
    assert first["trine"]["receiptDigest"] == second["trine"]["receiptDigest"]
    assert first["choices"][0]["message"] == second["choices"][0]["message"]


def test_nobody_but_the_client_learns_what_it_owes(net, ask):
    client = ask("honest")
    url = f"{net.operators['honest'].endpoint}/v1/accounts/{client.chain.address}"
    assert httpx2.get(url).status_code == 401


def test_who_does_not_pay_is_refused(net, ask):
    stranger = ask("honest", net.create_account("stranger", 1))
    with pytest.raises(PaymentRequired, match="deposit"):
        stranger.chat("Hi", max_tokens=4)


def test_evidence_is_for_the_committee_and_the_client_only(ask):
    client = ask("honest")
    answer = client.chat("Say a word.", max_tokens=4)
    certificate = client.certify(answer)
    url = f"{answer.node_url}/v1/batches/0x{certificate.batch_id.hex()}/evidence"
    for path in (url, f"{url}/0"):
        assert httpx2.get(path).status_code == 401


def test_the_async_client_streams(net, account):
    async def run():
        async with AsyncClient(
            rpc_url=net.rpc_url,
            deployment=net.deployment_file,
            account=account,
            node=net.operators["honest"].endpoint,
            deposit_wei=10**20,
        ) as client:
            stream = client.stream("Count to five.", max_tokens=12)
            pieces = [piece async for piece in stream]
            assert len(pieces) > 1
            assert "".join(pieces) == stream.answer.text
            return (await client.certify(stream.answer)).result

    assert asyncio.run(run()) == "accept"


def test_a_promise_survives_the_nodes_crash_before_it_is_anchored(net, ask):
    client = ask("honest")
    answer = client.chat("Name a river in Africa.", max_tokens=12)
    net.operators["honest"].child.kill()
    net.restart("honest")
    net.wait_ready(["honest"])
    assert client.certify(answer).result == "accept"


def test_verifiers_that_crash_in_the_middle_of_a_batch_still_reveal(net, ask):
    client = ask("honest")
    answer = client.chat("Name a mountain in Asia.", max_tokens=12)
    batch_id = _batch_of(client, answer)
    eventually(lambda: client.chain.batch(batch_id).state >= BatchState.DRAWN, "the committee to be drawn")
    names = {running.account.address: name for name, running in net.operators.items()}
    drawn = [names[seat.verifier] for seat in client.chain.seats(client.chain.batch(batch_id))]
    for name in drawn[:2]:
        net.operators[name].child.kill()
    for name in drawn[:2]:
        net.restart(name)
    assert client.certify(answer).result == "accept"
    assert client.chain.batch(batch_id).revealed == 3
    net.wait_ready(drawn[:2])


def test_auditing_from_the_command_line(net):
    address = net.operators["cheater"].account.address
    command = [sys.executable, "-m", "trine", "audit", "operator", address, "--rpc-url", net.rpc_url]
    command += ["--deployment", str(net.deployment_file)]
    shown = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120, check=True)
    report = json.loads(shown.stdout)
    (standing,) = report["standings"]
    assert standing["reputation"]["rejected"] == 3
    assert standing["calibration"]["outputTokens"] > 0
    assert standing["calibration"]["valid"] is True
    assert len(report["slashes"]) == sum(1 for batch in standing["batches"] if batch["rejected"])
    people = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert address in people
    assert "3 rejected" in people
    wrong = subprocess.run([*command[:5], "0x12", *command[6:]], capture_output=True, text=True, timeout=120)
    assert wrong.returncode == 3
    assert "is no address" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_verifiers_earned_their_fees(net, ask):
    chain = ask("honest").chain
    for name, running in net.operators.items():
        if running.member.role is Role.VERIFIER:
            assert chain.stake_of(running.account.address).active > running.member.stake, name
            reputation = chain.reputation(running.account.address, Role.VERIFIER, net.record.model_id)
            assert (reputation.rejected_micro, reputation.missed_micro) == (0, 0), name


def _raise_unless_accepted(answer):
    from trine._async_client import _require_accepted

    _require_accepted(answer.certificate)


def _refund(client, answer):
    """The client gets its fee back out of the cheat's stake, once."""
    certificate = answer.certificate
    before = client.chain.token_balance(client.chain.address)
    client.chain.refund(certificate.batch_id, certificate.opening())
    assert client.chain.token_balance(client.chain.address) == before + answer.receipt.fee_wei
    with pytest.raises(TransactionReverted, match="PaymentsNothingToRefund"):
        client.chain.refund(certificate.batch_id, certificate.opening())


def _batch_of(client, answer):
    eventually(lambda: client.batch_of(answer) is not None, "the answer to be batched")
    return client.batch_of(answer)
