// Checks what Ignition deployed: `TRINE_RPC_URL=… node deploy/scripts/check-deployment.js <deployment folder>`.
// Each contract's code on the chain must be the build's, and its immutables must hold every counterpart's address.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CONTRACTS, artifactOf, counterpartsOf, inputsOf } from "../ignition/modules/Trine.js";

const url = process.env.TRINE_RPC_URL;
const folder = process.argv[2];
if (!url || !folder) {
  console.error("usage: TRINE_RPC_URL=… node deploy/scripts/check-deployment.js deploy/ignition/deployments/<id>");
  process.exit(2);
}
const addresses = JSON.parse(readFileSync(join(folder, "deployed_addresses.json"), "utf8"));

const codesOf = async (names) => {
  const requests = names.map((name, id) => ({
    jsonrpc: "2.0", id, method: "eth_getCode", params: [addresses[`Trine#${name}`], "latest"],
  }));
  const response = await fetch(url, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(requests),
  });
  const answers = await response.json();
  if (!Array.isArray(answers)) throw new Error(`${url}: ${JSON.stringify(answers)}`);
  return Object.fromEntries(answers.map(({ id, result }) => [names[id], result]));
};

/** What is wrong with one contract's code. */
const problemsOf = (name, code) => {
  const { deployedBytecode, immutableReferences, ...artifact } = artifactOf(name);
  const places = Object.values(immutableReferences ?? {}).flat();
  const bytes = Buffer.from(code.slice(2), "hex");
  const expected = Buffer.from(deployedBytecode.slice(2), "hex");
  if (bytes.length === 0) return [`${name}: no code at ${addresses[`Trine#${name}`]}`];
  if (bytes.length !== expected.length) return [`${name}: not the build's code`];
  const immutables = new Set(places.map(({ start, length }) => bytes.subarray(start, start + length).toString("hex")));
  for (const { start, length } of places) bytes.fill(0, start, start + length);
  const problems = bytes.equals(expected) ? [] : [`${name}: not the build's code`];
  const inputs = inputsOf(artifact);
  for (const [parameter, counterpart] of Object.entries(counterpartsOf(inputs, {}))) {
    const word = addresses[`Trine#${counterpart}`].slice(2).toLowerCase().padStart(64, "0");
    if (!immutables.has(word)) problems.push(`${name}: does not know ${counterpart} (${parameter})`);
  }
  return problems;
};

const names = CONTRACTS;
const missing = names.filter((name) => !(`Trine#${name}` in addresses));
if (missing.length > 0) {
  console.error(`not deployed: ${missing.join(", ")}`);
  process.exit(1);
}
const codes = await codesOf(names);
const problems = names.flatMap((name) => problemsOf(name, codes[name] ?? "0x"));
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(`${names.length} contracts: code and counterparts as built`);
