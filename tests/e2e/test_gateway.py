"""A gateway as a process before the real network: stock clients in two languages, curl, and the verdicts they get."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import openai
import pytest
from gateway_process import usage
from waiting import eventually

from trine.protocol.messages import Receipt, require_signer

ROOT = Path(__file__).parents[2]
STOCK_JS = ROOT / "node_modules" / "openai"
QUESTION = [{"role": "user", "content": "What is a lighthouse?"}]
SCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.env.BASE, apiKey: process.env.KEY, maxRetries: 0 });
const model = process.env.MODEL, messages = [{ role: "user", content: "Name a river." }];
const whole = await client.chat.completions.create({ model, messages, max_tokens: 6 });
let streamed = "", usage;
const stream = await client.chat.completions.create({
  model, messages, max_tokens: 6, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
const response = await client.responses.create({ model, input: "Name a river.", max_output_tokens: 6 });
const kinds = [];
for await (const event of await client.responses.create({
  model, input: "Name a river.", max_output_tokens: 6, stream: true })) kinds.push(event.type);
let refused;
try { await client.chat.completions.create({ model, messages, n: 2 }); } catch (error) { refused = error; }
console.log(JSON.stringify({
  whole: whole.choices[0].message.content, streamed, tokens: usage.completion_tokens,
  receipt: whole.trine.receiptDigest, response: response.output_text, first: kinds[0], last: kinds.at(-1),
  refused: [refused.status, refused.param],
}));
"""


@pytest.fixture(scope="module")
def stock(gateway, key):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=2) as client:
        yield client


def test_the_stock_python_client_gets_an_answer_and_its_verdict(net, gateway, stock):
    name = net.record.name
    answer = stock.chat.completions.create(
        model=name, messages=QUESTION, max_tokens=8, extra_headers={"x-trine-wait": "verdict"}
    )
    promise = answer.model_extra["trine"]
    receipt = Receipt.from_json(promise["receipt"])
    signature = bytes.fromhex(promise["signature"][2:])
    require_signer(receipt.digest(net.chain().domain), signature, net.operators["honest"].account.address, "receipt")
    assert promise["verdict"] == "accept"
    assert promise["certificate"]["receipt"] == promise["receipt"]
    stream = stock.chat.completions.create(model=name, messages=QUESTION, max_tokens=8, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == answer.choices[0].message.content
    assert stock.completions.create(model=name, prompt="Once upon a time", max_tokens=5).choices[0].text
    assert stock.responses.create(model=name, input="What is a lighthouse?", max_output_tokens=5).output_text
    with pytest.raises(openai.BadRequestError) as refused:
        stock.chat.completions.create(model=name, messages=QUESTION, n=2)
    assert refused.value.param == "n"


@pytest.mark.skipif(not STOCK_JS.exists() or not shutil.which("node"), reason="npm's openai is not installed")
def test_the_stock_javascript_client_works_unchanged(net, gateway, key):
    done = subprocess.run(
        ["node", "--input-type=module", "-e", SCRIPT],
        cwd=ROOT,
        env={**os.environ, "BASE": f"{gateway.url}/v1", "KEY": key, "MODEL": net.record.name},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["whole"] == told["streamed"]
    assert told["tokens"] == 6
    assert told["response"]
    assert (told["first"], told["last"]) == ("response.created", "response.incomplete")
    assert told["refused"] == [400, "n"]
    assert told["receipt"] in {answer["receipt"] for answer in usage(gateway, key)["recent"]}


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_curl_gets_an_answer(net, gateway, key):
    asked = json.dumps({"model": net.record.name, "messages": QUESTION, "max_tokens": 4})
    done = subprocess.run(
        ["curl", "-si", f"{gateway.url}/v1/chat/completions", "-H", f"authorization: Bearer {key}", "-d", asked],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "x-trine-receipt: 0x" in done.stdout
    assert json.loads(done.stdout.rpartition("\n\n")[2])["choices"][0]["message"]["content"]


def test_a_restarted_gateway_goes_on_waiting_for_verdicts_and_keeps_its_secrets(gateway, key):
    asked = usage(gateway, key)["answers"]
    assert asked
    gateway.stop()
    gateway.start()
    eventually(lambda: usage(gateway, key)["verdicts"]["accept"] >= asked, "the verdicts", 240)
    told = gateway.trine("usage", "--json")
    assert json.loads(told)[0]["verdicts"]["accept"] == asked
    for secret in (key, key.rpartition("-")[2]):
        assert secret not in gateway.log()
