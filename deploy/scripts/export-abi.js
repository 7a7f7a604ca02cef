// Copies the contracts' ABIs into the Python package, so that SDK users need no Node.
// `--check` writes nothing and fails when a copy is stale.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

// The contracts that the Ignition module deploys.
const CONTRACTS = [
  "TrineToken", "Timelock", "Parameters", "Staking", "ModelRegistry", "Reputation", "Payments", "Committees",
  "Calibration", "Batches", "Finality", "Appeals", "Canaries", "VerifierKeys", "Requests", "Erc8004Adapter",
];
const target = "client_sdk/trine/chain/abi";
const check = process.argv.includes("--check");

mkdirSync(target, { recursive: true });
const stale = CONTRACTS.filter((name) => {
  const { abi } = JSON.parse(readFileSync(`build/artifacts/contracts/${name}.sol/${name}.json`, "utf8"));
  const text = JSON.stringify(abi, null, 1) + "\n";
  const path = `${target}/${name}.json`;
  let previous = "";
  try {
    previous = readFileSync(path, "utf8");
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  if (previous !== text && !check) writeFileSync(path, text);
  return previous !== text;
});
if (check && stale.length > 0) {
  console.error(`ABIs of ${stale.join(", ")} are stale: run \`npm run build && npm run abi\` and commit ${target}`);
  process.exit(1);
}
