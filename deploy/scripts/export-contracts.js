// Copies what the compiler made of the contracts into the Python package, so that nobody but who changes a contract
// needs Node or solc: ABIs, and the code that creates a contract and that stays on the chain.
// `--check` writes nothing and fails when a copy is stale.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

// The contracts that the Ignition module deploys, the factory that creates them, and what is for other chains.
const CONTRACTS = [
  "TrineToken", "Timelock", "Parameters", "Staking", "ModelRegistry", "Reputation", "Payments", "Committees",
  "Calibration", "Batches", "Finality", "Appeals", "Canaries", "Inclusion", "VerifierKeys", "Requests",
  "Erc8004Adapter", "Directory", "Examiners", "RandaoSeeds", "DrandSeeds",
  "deployment/Factory",
  "foreign/CertificateVerifier", "foreign/ExampleConsumer",
];
// ABIs without code: what the two sources of seeds have in common, and what is asked of ERC-8004's registries, which
// belong to others.
const INTERFACES = {
  Seeds: "Seeds.sol/Seeds",
  Erc8004Identity: "interfaces/IErc8004.sol/IErc8004Identity",
  Erc8004Reputation: "interfaces/IErc8004.sol/IErc8004Reputation",
  Erc8004Validation: "interfaces/IErc8004.sol/IErc8004Validation",
};
// Stand-ins for them, which only a devnet deploys.
const DEVELOPMENT = ["IdentityRegistry", "ReputationRegistry", "ValidationRegistry"];
// What the devnet deploys to show how a contract asks.
const EXAMPLES = ["examples/AnswerConsumer"];
const target = "client_sdk/trine/chain";
const development = "deploy/trine_devnet/registries";
const check = process.argv.includes("--check");

const artifactAt = (path) => JSON.parse(readFileSync(`build/artifacts/contracts/${path}.json`, "utf8"));
const artifactOf = (path) => artifactAt(`${path}.sol/${path.split("/").at(-1)}`);

/** Where a contract's constructor writes into its code. The compiler groups them by numbers that mean nothing here. */
const immutablesOf = ({ immutableReferences }) =>
  Object.values(immutableReferences).flat()
    .map(({ start, length }) => ({ length, start }))
    .sort((one, other) => one.start - other.start);

const codeOf = (artifact) => {
  const { contractName, bytecode, deployedBytecode, linkReferences, deployedLinkReferences } = artifact;
  const links = Object.keys({ ...linkReferences, ...deployedLinkReferences });
  if (links.length > 0) throw new Error(`${contractName} must be linked with ${links}, so its code has no address yet`);
  if (bytecode === "0x") throw new Error(`${contractName} cannot be deployed: it has no code`);
  // Keys are sorted.
  return { bytecode, deployedBytecode, immutableReferences: immutablesOf(artifact) };
};

const files = {};
for (const path of CONTRACTS) {
  const artifact = artifactOf(path);
  files[`${target}/abi/${artifact.contractName}.json`] = JSON.stringify(artifact.abi, null, 1) + "\n";
  files[`${target}/bytecode/${artifact.contractName}.json`] = JSON.stringify(codeOf(artifact), null, 1) + "\n";
}

for (const [name, path] of Object.entries(INTERFACES)) {
  files[`${target}/abi/${name}.json`] = JSON.stringify(artifactAt(path).abi, null, 1) + "\n";
}

for (const name of DEVELOPMENT) {
  const artifact = artifactOf(`development/${name}`);
  const shown = { abi: artifact.abi, ...codeOf(artifact) };
  files[`${development}/${name}.json`] = JSON.stringify(shown, null, 1) + "\n";
}

for (const path of EXAMPLES) {
  const { contractName, abi, bytecode } = artifactOf(path);
  files[`deploy/trine_devnet/examples/${contractName}.json`] = JSON.stringify({ abi, bytecode }, null, 1) + "\n";
}

const textOf = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    return undefined;
  }
};

const stale = Object.keys(files).filter((path) => textOf(path) !== files[path]);
if (check && stale.length > 0) {
  console.error(`stale: ${stale.join(", ")}: run \`make abi\` and commit what it writes`);
  process.exit(1);
}
if (!check) {
  for (const path of stale) mkdirSync(dirname(path), { recursive: true });
  for (const path of stale) writeFileSync(path, files[path]);
}
