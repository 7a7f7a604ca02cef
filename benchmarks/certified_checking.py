"""What a certificate costs whoever checks it: offline in Python, in JavaScript, and in gas on another chain. For
`certified.py`.

Certificates of tests/vectors/certificate.json (3, 7 and 15 signers, after no
hand-over, one and two). Times are processor time of one core, the median of `--times` checks.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from eth_account import Account

from trine.chain.foreign import ForeignChain, deploy_verifier
from trine.protocol.portable import PortableCertificate
from trine_devnet.processes import free_port, start
from trine_devnet.rpc import Rpc
from trine_devnet.toolchain import anvil, project_root

ROOT = project_root()
VECTORS = ROOT / "tests" / "vectors" / "certificate.json"
FUNDED_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
TARGET_MS = 10.0
JAVASCRIPT = """
import { readFileSync } from "node:fs";
import { verifyCertificate } from %(package)s;
const { certificates, at } = JSON.parse(readFileSync(%(vectors)s, "utf8"));
console.log(JSON.stringify(certificates.map(({ document, rootId }) => {
  const spent = [];
  for (let i = 0; i < %(times)d + 10; i++) {
    const before = process.cpuUsage();
    verifyCertificate(document, { root: rootId, at });
    const { user, system } = process.cpuUsage(before);
    spent.push((user + system) / 1e3);
  }
  return spent.slice(10);
})));
"""


def checking(times: int) -> list[dict[str, Any]]:
    vectors = json.loads(VECTORS.read_text())
    held = [PortableCertificate.from_json(each["document"]) for each in vectors["certificates"]]
    python = [median_ms(each, vectors["at"], times) for each in held]
    javascript = javascript_ms(times)
    gas = gas_of(held)
    return [
        {
            "signers": len(each.certificate.members),
            "handovers": len(each.handovers),
            "bytes": len(json.dumps(each.to_json(), separators=(",", ":"))),
            "python_ms": round(one, 2),
            "javascript_ms": round(other, 2),
            **spent,
        }
        for each, one, other, spent in zip(held, python, javascript, gas, strict=True)
    ]


def median_ms(portable: PortableCertificate, at: int, times: int) -> float:
    """From the document's JSON to the result."""
    text, root_id, spent = json.dumps(portable.to_json()), portable.root_id, []
    for _ in range(times):
        began = time.process_time()
        PortableCertificate.from_json(json.loads(text)).verify(root_id, at)
        spent.append((time.process_time() - began) * 1e3)
    return statistics.median(spent)


def javascript_ms(times: int) -> list[float]:
    package, vectors = (json.dumps(str(path)) for path in (ROOT / "client_sdk" / "js" / "index.js", VECTORS))
    script = JAVASCRIPT % {"package": package, "vectors": vectors, "times": times}
    done = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    return [statistics.median(spent) for spent in json.loads(done.stdout)]


def gas_of(held: list[PortableCertificate]) -> list[dict[str, int]]:
    """Of a whole transaction that checks the certificate, and of one that installs its first hand-over."""
    port = free_port()
    found = []
    with tempfile.TemporaryDirectory() as folder, Rpc(f"http://127.0.0.1:{port}") as rpc:
        command = [anvil(), "--port", str(port), "--chain-id", "31338", "--hardfork", "prague", "--silent"]
        child = start("certified", command, Path(folder) / "log", cwd=Path(folder))
        try:
            wait_for(rpc)
            for portable in held:
                found.append(gas_on(rpc, portable))
        finally:
            child.stop()
    return found


def gas_on(rpc: Rpc, portable: PortableCertificate) -> dict[str, int]:
    last, hard = portable.key_sets[-1], portable.certificate
    account = Account.from_key(FUNDED_KEY)
    source = {"chain_id": hard.chain_id, "batches": hard.batches, "max_age_epochs": 64}
    there = deploy_verifier(rpc.url, account, genesis=last, **source)
    data = there._contract("CertificateVerifier").encode_abi("check", args=[hard.to_call()])
    check = int(rpc.call("eth_estimateGas", {"from": account.address, "to": there.verifier, "data": data}), 16)
    if not portable.handovers:
        return {"check_gas": check}
    first: ForeignChain = deploy_verifier(rpc.url, account, genesis=replace(portable.key_sets[0]), **source)
    handover = portable.handovers[0]
    gas = first.advance_gas(portable.key_sets[1], handover)
    return {"check_gas": check, "advance_signers": len(handover.members), "advance_gas": gas}


def wait_for(rpc: Rpc) -> None:
    for _ in range(200):
        try:
            rpc.call("eth_chainId")
        except Exception:  # noqa: BLE001  (it is starting)
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the chain has not started")


def show_checking(rows: list[dict[str, Any]]) -> None:
    print("signers  hand-overs    bytes  Python ms  JavaScript ms  check gas  advance gas (signers)")
    for row in rows:
        advance = f"{row['advance_gas']:,} ({row['advance_signers']})" if "advance_gas" in row else "-"
        print(
            f"{row['signers']:>7}  {row['handovers']:>10}  {row['bytes']:>7,}  {row['python_ms']:>9.2f}  "
            f"{row['javascript_ms']:>13.2f}  {row['check_gas']:>9,}  {advance}"
        )
