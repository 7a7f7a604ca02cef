// Deploys all of Trine's contracts through a CREATE3 factory: every address follows from factory, deployer and name, so
// contracts take one another's addresses as constructor arguments, circular references too. With `--strategy create2`
// the factory itself has one address on all chains. Defaults suit a development network; others: `--parameters`.
import { readFileSync } from "node:fs";
import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";

// Part of every address. A release that deploys anew on a chain that has an older one needs another name.
const RELEASE = "trine-1";
const DAY = 86_400;
const NOBODY = "0x0000000000000000000000000000000000000000";

const tokens = (n) => (BigInt(Math.round(n * 1e6)) * 10n ** 12n).toString();

export const artifactOf = (name) =>
  JSON.parse(readFileSync(new URL(`../../../build/artifacts/contracts/${name}.sol/${name}.json`, import.meta.url)));

/** Parameters of a contract's constructor, as its ABI describes them. */
export const inputsOf = (artifact) => artifact.abi.find((entry) => entry.type === "constructor")?.inputs ?? [];

/** The name in ASCII, padded to 32 bytes: `trine_devnet.addresses.salt_of` is its twin. */
const saltOf = (name) => {
  const bytes = Buffer.from(`${RELEASE}/${name}`, "ascii");
  if (bytes.length > 32) throw new Error(`${name}: a salt has 32 bytes, ${RELEASE}/${name} is longer`);
  return "0x" + bytes.toString("hex").padEnd(64, "0");
};

/** Values of `IParameters.Values`; each is a module parameter of its name. */
const values = (p) => ({
  stakePerLeafWei: p("stakePerLeafWei", tokens(5)),
  refundPerLeafWei: p("refundPerLeafWei", tokens(2)),
  verifierFeePerLeafWei: p("verifierFeePerLeafWei", tokens(0.03)),
  seatStakeWei: p("seatStakeWei", tokens(60)),
  wrongVotePenaltyWei: p("wrongVotePenaltyWei", tokens(20)),
  noRevealPenaltyWei: p("noRevealPenaltyWei", tokens(25)),
  noCommitPenaltyWei: p("noCommitPenaltyWei", tokens(10)),
  appealBondPerSeatWei: p("appealBondPerSeatWei", tokens(4)),
  appealFeePerSeatWei: p("appealFeePerSeatWei", tokens(1)),
  canaryPenaltyWei: p("canaryPenaltyWei", tokens(30)),
  appealWindowSeconds: p("appealWindowSeconds", 600),
  commitSeconds: p("commitSeconds", 120),
  revealSeconds: p("revealSeconds", 60),
  drawDelayBlocks: p("drawDelayBlocks", 2),
  maxRounds: p("maxRounds", 3),
  minNodeStakeWei: p("minNodeStakeWei", tokens(100)),
  minVerifierStakeWei: p("minVerifierStakeWei", tokens(200)),
  calibrationValiditySeconds: p("validitySeconds", 30 * DAY),
  calibrationAnswerSeconds: p("answerSeconds", 600),
  promptsPerChallenge: p("promptsPerChallenge", 2),
  seedDelayBlocks: p("seedDelayBlocks", 2),
});

/** Whom constructors mean by a parameter of type address: these are filled in by name. */
export const COUNTERPARTS = {
  token: "TrineToken",
  staking: "Staking",
  registry: "ModelRegistry",
  parameters: "Parameters",
  reputation: "Reputation",
  payments: "Payments",
  committees: "Committees",
  calibration: "Calibration",
  batches: "Batches",
  finality: "Finality",
  appeals: "Appeals",
  canaries: "Canaries",
  keys: "VerifierKeys",
  requests: "Requests",
};

/**
 * What each constructor takes besides counterparts, by the names of its parameters. `p(name, fallback)` is a module
 * parameter, `v` the first version's values, `at` addresses by contract name.
 */
export const CONTRACTS = {
  // The governor announces changes and may cancel them; anyone executes them after the delay.
  Timelock: ({ p, governor }) => ({
    delaySeconds: p("timelockSeconds", 0), proposers: [governor], executors: [NOBODY],
  }),
  TrineToken: ({ p, deployer }) => ({ holder: deployer, supply: p("supplyWei", tokens(1e9)) }),
  Staking: ({ p }) => ({ delay: p("unbondingSeconds", DAY) }),
  // The registrar need not wait for the timelock: a new model changes nothing for those that exist.
  ModelRegistry: ({ at, governor }) => ({ owner: at.Timelock, registrar_: governor }),
  Reputation: ({ p }) => ({ halfLife: p("halfLifeSeconds", 30 * DAY) }),
  Payments: ({ at, p }) => ({ notice: p("noticeSeconds", DAY), owner: at.Timelock }),
  // As many blocks as a draw may wait: fewer than the chain remembers the hashes of.
  Committees: ({ p }) => ({ blocks: p("epochBlocks", 64) }),
  Calibration: () => ({}),
  VerifierKeys: () => ({}),
  // The guardian stops new work at once, and only that.
  Requests: ({ at, p, deployer }) => ({ owner_: at.Timelock, guardian_: p("guardian", deployer) }),
  Appeals: () => ({}),
  Canaries: () => ({}),
  Finality: () => ({}),
  Batches: ({ at, p, deployer }) => ({ owner_: at.Timelock, guardian_: p("guardian", deployer) }),
  Parameters: ({ at, p, v }) => ({
    owner: at.Timelock, unbondingSeconds_: p("unbondingSeconds", DAY), values: v,
  }),
  // Registries of others, by default absent.
  Erc8004Adapter: ({ p }) => ({
    identityRegistry: p("erc8004Identity", NOBODY),
    reputationRegistry: p("erc8004Reputation", NOBODY),
    validationRegistry: p("erc8004Validation", NOBODY),
  }),
};

/** Constructors that ask or tell a counterpart: how long a draw may wait, which version of the parameters is the first. */
const CALLED_BY_CONSTRUCTOR = { Batches: "Committees", Parameters: "Batches" };

/** Constructor parameters that are counterparts, those inside structs too: parameter name to contract name. */
export const counterpartsOf = (inputs, given) =>
  Object.fromEntries(inputs.flatMap(({ name, type, components }) => {
    if (name in given) return [];
    if (components) return Object.entries(counterpartsOf(components, given));
    const counterpart = COUNTERPARTS[name.replace(/_$/, "")];
    return type === "address" && counterpart ? [[name, counterpart]] : [];
  }));

/** The arguments in the constructor's order. Throws for what the constructor does not take and for what is missing. */
const argumentsOf = (contract, inputs, given, at) => {
  const counterparts = counterpartsOf(inputs, given);
  const unused = new Set(Object.keys(given));
  const resolve = ({ name, type, components }) => {
    unused.delete(name);
    if (name in given) return given[name];
    if (name in counterparts) return at[counterparts[name]];
    if (components) return Object.fromEntries(components.map((component) => [component.name, resolve(component)]));
    throw new Error(`${contract}'s constructor takes ${type} ${name}: add it to CONTRACTS in ${import.meta.filename}`);
  };
  const resolved = inputs.map(resolve);
  if (unused.size > 0) throw new Error(`${contract}'s constructor does not take ${[...unused]}`);
  return resolved;
};

export default buildModule("Trine", (m) => {
  const names = Object.keys(CONTRACTS);
  const artifacts = Object.fromEntries(names.map((name) => [name, artifactOf(name)]));
  const parameters = {};
  const p = (name, fallback) => (parameters[name] ??= m.getParameter(name, fallback));

  const deployer = m.getAccount(0);
  const governor = p("governor", deployer);
  const factory = m.contract("Factory");
  const at = Object.fromEntries(
    names.map((name) => [name, m.staticCall(factory, "addressOf", [deployer, saltOf(name)], 0, { id: `${name}_address` })]),
  );

  // Ignition encodes calls only: each constructor is a function of a contract that is nowhere.
  const constructors = m.contractAt("Constructors", {
    _format: "hh3-artifact-1",
    contractName: "Constructors",
    sourceName: "Constructors.sol",
    abi: names.map((name) => ({
      type: "function", name, inputs: inputsOf(artifacts[name]), outputs: [], stateMutability: "nonpayable",
    })),
    bytecode: "0x",
    deployedBytecode: "0x",
    linkReferences: {},
    deployedLinkReferences: {},
  }, factory);

  const context = { at, p, v: values(p), deployer, governor };
  const deploy = {};
  const deployed = {};
  for (const name of names) {
    const given = argumentsOf(name, inputsOf(artifacts[name]), CONTRACTS[name](context), at);
    const call = m.encodeFunctionCall(constructors, name, given, { id: `${name}_arguments` });
    deploy[name] = m.call(factory, "deployWith", [saltOf(name), artifacts[name].bytecode, call], {
      id: `${name}_deploy`, after: name in CALLED_BY_CONSTRUCTOR ? [deploy[CALLED_BY_CONSTRUCTOR[name]]] : [],
    });
    deployed[name] = m.contractAt(name, at[name], { after: [deploy[name]] });
  }
  return { factory, ...deployed };
});
