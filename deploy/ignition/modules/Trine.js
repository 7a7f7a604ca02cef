// Deploys all of Trine's contracts through a CREATE3 factory: every address follows from factory, deployer and name, so
// contracts take one another's addresses as constructor arguments, circular references too. With `--strategy create2`
// the factory itself has one address on all chains. What constructors take is in deploy/trine_devnet/deployment.json,
// with defaults; others: `--parameters`. Who governs has no default and must be named, and the timelock's constructor
// refuses a delay below a day on any but a development chain.
import { readFileSync } from "node:fs";
import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";

/** See `trine_devnet.contracts.specification`, which deploys from the same file without Ignition. */
const SPECIFICATION = JSON.parse(readFileSync(new URL("../../trine_devnet/deployment.json", import.meta.url)));
/** `TRINE_SEEDS`: where the seeds of draws come from. Which chain takes which: docs/randomness.md. */
const SEEDS = process.env.TRINE_SEEDS || SPECIFICATION.seeds;
if (!(SEEDS in SPECIFICATION.sources)) {
  throw new Error(`TRINE_SEEDS=${SEEDS}: seeds come from one of ${Object.keys(SPECIFICATION.sources).join(", ")}`);
}
const NOBODY = "0x0000000000000000000000000000000000000000";

export const CONTRACTS = Object.keys(SPECIFICATION.constructors);

export const artifactOf = (name) => {
  const file = name === "Seeds" ? SPECIFICATION.sources[SEEDS] : name;
  return JSON.parse(
    readFileSync(new URL(`../../../build/artifacts/contracts/${file}.sol/${file}.json`, import.meta.url)),
  );
};

/** Parameters of a contract's constructor, as its ABI describes them. */
export const inputsOf = (artifact) => artifact.abi.find((entry) => entry.type === "constructor")?.inputs ?? [];

/** Release and name in ASCII, padded to 32 bytes: `trine_devnet.addresses.salt_of` is its twin. */
const saltOf = (name) => {
  const bytes = Buffer.from(`${SPECIFICATION.release}/${name}`, "ascii");
  if (bytes.length > 32) throw new Error(`${bytes}: a salt has 32 bytes, this is longer`);
  return "0x" + bytes.toString("hex").padEnd(64, "0");
};

/**
 * Constructors that ask or tell a counterpart: how long stake takes to leave, how long a draw may wait, which version of
 * the parameters is the first.
 */
const CALLED_BY_CONSTRUCTOR = { Committees: "Staking", Batches: "Committees", Parameters: "Batches" };

/** Constructor inputs that are counterparts, those inside structs too: the input's name to the contract's. */
export const counterpartsOf = (inputs, given) =>
  Object.fromEntries(inputs.flatMap(({ name, type, components }) => {
    if (name in given) return [];
    if (components) return Object.entries(counterpartsOf(components, given));
    const counterpart = SPECIFICATION.counterparts[name.replace(/_$/, "")];
    return type === "address" && counterpart ? [[name, counterpart]] : [];
  }));

/** The arguments in the constructor's order. Throws for what the constructor does not take and for what is missing. */
const argumentsOf = (contract, inputs, given, valueOf) => {
  const counterparts = counterpartsOf(inputs, given);
  const unused = new Set(Object.keys(given));
  const resolve = ({ name, type, components }) => {
    if (components) return Object.fromEntries(components.map((component) => [component.name, resolve(component)]));
    unused.delete(name);
    const word = given[name] ?? counterparts[name] ?? name;
    const values = [word].flat().map(valueOf);
    if (values.includes(undefined)) {
      throw new Error(`${contract}'s constructor takes ${type} ${name}, but nothing is called ${word}: specify it`);
    }
    return Array.isArray(word) ? values : values[0];
  };
  const resolved = inputs.map(resolve);
  if (unused.size > 0) throw new Error(`${contract}'s constructor does not take ${[...unused]}`);
  return resolved;
};

export default buildModule("Trine", (m) => {
  const artifacts = Object.fromEntries(CONTRACTS.map((name) => [name, artifactOf(name)]));
  const deployer = m.getAccount(0);
  const factory = m.contract("Factory");
  const at = Object.fromEntries(
    CONTRACTS.map((name) => {
      const address = m.staticCall(factory, "addressOf", [deployer, saltOf(name)], 0, { id: `${name}_address` });
      return [name, address];
    }),
  );

  const fixed = { ...at, deployer, nobody: NOBODY };
  const parameters = {};
  const valueOf = (word) => {
    if (word in fixed) return fixed[word];
    if (!(word in SPECIFICATION.parameters)) return undefined;
    const fallback = SPECIFICATION.parameters[word];
    // Without a default, Ignition refuses to go on and says which parameter it lacks.
    return (parameters[word] ??= m.getParameter(word, ...(fallback === null ? [] : [fixed[fallback] ?? fallback])));
  };

  // Ignition encodes calls only: each constructor is a function of a contract that is nowhere.
  const constructors = m.contractAt("Constructors", {
    _format: "hh3-artifact-1",
    contractName: "Constructors",
    sourceName: "Constructors.sol",
    abi: CONTRACTS.map((name) => ({
      type: "function", name, inputs: inputsOf(artifacts[name]), outputs: [], stateMutability: "nonpayable",
    })),
    bytecode: "0x",
    deployedBytecode: "0x",
    linkReferences: {},
    deployedLinkReferences: {},
  }, factory);

  const deploy = {};
  const deployed = {};
  for (const name of CONTRACTS) {
    const given = argumentsOf(name, inputsOf(artifacts[name]), SPECIFICATION.constructors[name], valueOf);
    const call = m.encodeFunctionCall(constructors, name, given, { id: `${name}_arguments` });
    deploy[name] = m.call(factory, "deployWith", [saltOf(name), artifacts[name].bytecode, call], {
      id: `${name}_deploy`, after: name in CALLED_BY_CONSTRUCTOR ? [deploy[CALLED_BY_CONSTRUCTOR[name]]] : [],
    });
    deployed[name] = m.contractAt(name, at[name], { after: [deploy[name]] });
  }
  return { factory, ...deployed };
});
