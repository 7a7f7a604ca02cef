// Compiles contracts with one source file changed and runs test files against them, all in memory: `mutants.py` starts
// one and asks it line by line, in JSON. What is compiled, and how tests are run, is what hardhat.config.js says.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { relative, sep } from "node:path";
import solc from "solc";

// Standard output is for answers only.
console.log = console.error;
const { default: hre } = await import("hardhat");
const fromHardhat = createRequire(import.meta.resolve("hardhat"));
const { EdrContext, L1_CHAIN_TYPE, l1SolidityTestRunnerFactory } = fromHardhat("@nomicfoundation/edr");
// Not part of Hardhat's interface, and the only place that knows how its runner is configured; Hardhat's version is fixed.
const internals = new URL("./internal/builtin-plugins/solidity-test/", import.meta.resolve("hardhat"));
const { solidityTestConfigToSolidityTestRunnerConfigArgs: runnerConfig, isTestSuiteArtifact } =
  await import(new URL("helpers.js", internals));
const { buildEdrArtifactsWithMetadata } = await import(new URL("edr-artifacts.js", internals));
const { ArtifactManagerImplementation } =
  await import(new URL("../artifacts/artifact-manager.js", internals));

const root = hre.config.paths.root;
const nameOf = (path) => relative(root, path).split(sep).join("/");

// Contracts as the build made them, and the compiler's input of every file of its own. Test files are compiled when they
// are run first.
await hre.tasks.getTask("build").run({ noTests: true, quiet: true });
const artifacts = new Map(); // "path:name" -> what the runner takes
const manager = new ArtifactManagerImplementation(await hre.solidity.getArtifactsDirectory("contracts"));
for (const { edrArtifact, userSourceName } of await buildEdrArtifactsWithMetadata(manager)) {
  artifacts.set(`${userSourceName}:${edrArtifact.id.name}`, edrArtifact);
}
const inputs = new Map(); // path -> compiler's input
for (const scope of ["contracts", "tests"]) {
  const roots = (await hre.solidity.getRootFilePaths({ scope })).filter((path) => !path.startsWith("npm:"));
  const jobs = await hre.solidity.getCompilationJobs(roots, { force: true, quiet: true, scope });
  if (!jobs.success) throw new Error(jobs.formattedReason ?? "no compilation jobs");
  for (const [path, job] of jobs.indexedIndividualJobs) inputs.set(nameOf(path), await job.getSolcInput());
}
const context = new EdrContext();
await context.registerSolidityTestRunnerFactory(L1_CHAIN_TYPE, l1SolidityTestRunnerFactory());

const sourceName = (path) => `project/${path}`;
const codeOf = ({ contract }) => (contract.bytecode ?? "0x").slice(2);
const isTest = (path) => path.startsWith("tests/");
const has = (path) => [...artifacts].some(([name, artifact]) => name.startsWith(`${path}:`) && codeOf(artifact) !== "");

class Refused extends Error {
  constructor({ formattedMessage, sourceLocation }) {
    super(formattedMessage);
    this.location = sourceLocation;
  }
}

/** A file's artifacts, with `change` instead of what a source is. */
function compile(path, change, settings = {}) {
  const input = structuredClone(inputs.get(path));
  Object.assign(input.settings, settings);
  if (change !== undefined) input.sources[sourceName(change.path)].content = change.source;
  const wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"];
  input.settings.outputSelection = { [sourceName(path)]: { "*": wanted } };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const errors = (output.errors ?? []).filter(({ severity }) => severity === "error");
  if (errors.length > 0) throw new Refused(errors[0]);
  const made = new Map();
  for (const [name, { abi, evm }] of Object.entries(output.contracts?.[sourceName(path)] ?? {})) {
    const contract = {
      abi: JSON.stringify(abi),
      bytecode: `0x${evm.bytecode.object}`,
      deployedBytecode: `0x${evm.deployedBytecode.object}`,
      linkReferences: {},
      deployedLinkReferences: {},
    };
    const id = { name, solcVersion: solc.version().split("+")[0], source: sourceName(path) };
    made.set(`${path}:${name}`, { id, contract });
  }
  return made;
}

let change; // that is tried
let changed = new Map(); // artifacts that it makes
let compiledTests = new Set(); // with it
const known = new Set(); // test files that are compiled as they are

const concerns = (path) => inputs.get(path).sources[sourceName(change.path)] !== undefined;

const affected = (path) =>
  [...inputs.keys()].filter((each) => !isTest(each) && concerns(each) && (each === path || has(each)));

/** Test files that contain the changed source, or say the name of a contract that does: others cannot notice. */
function reached(path) {
  const names = affected(path).flatMap((each) => namesIn(each).map((name) => new RegExp(`["/]${name}(\\.sol)?[":]`)));
  const says = (file) =>
    Object.values(inputs.get(file).sources).some(({ content }) => names.some((name) => name.test(content)));
  return [...inputs.keys()].filter((each) => each.endsWith(".t.sol") && (concerns(each) || says(each)));
}
const namesIn = (path) =>
  [...artifacts.keys()].filter((name) => name.startsWith(`${path}:`)).map((name) => name.slice(path.length + 1));

/** Compiles every contract that the changed file is part of; answers whether that makes the code that is there. */
function applyChange({ path, source }) {
  [change, changed, compiledTests] = [{ path, source }, new Map(), new Set()];
  for (const each of affected(path)) for (const [name, made] of compile(each, change)) changed.set(name, made);
  const same = [...changed].every(([name, made]) => codeOf(made) === codeOf(artifacts.get(name)));
  return { same, files: reached(path) };
}

// The older code generator without its optimizer takes a fifth of the time, where it can.
const QUICK = { viaIR: false, optimizer: { enabled: false } };
const needsIr = new Set();

/** The same for a source with switches (`schemata.py`). Answers which of their keys are in no code, or where the compiler
 * stumbled. */
function applySchema({ path, source, keys }) {
  [change, changed, compiledTests] = [{ path, source }, new Map(), new Set()];
  for (const each of affected(path)) {
    let made;
    try {
      made = compile(each, change, needsIr.has(each) ? {} : QUICK);
    } catch (error) {
      if (!(error instanceof Refused) || !error.message.includes("Stack too deep")) throw error;
      needsIr.add(each);
      made = compile(each, change);
    }
    for (const [name, artifact] of made) changed.set(name, artifact);
  }
  const codes = [...changed.values()].map(codeOf);
  return { missing: keys.filter((key) => !codes.some((code) => code.includes(key))), files: reached(path) };
}

/** Code with the switch `on` that is written in 64 digits, and all others off. */
const switchedTo = (on, keys) => (artifact) => {
  const write = (code) => code.replaceAll(keys, (key) => (key === on ? "f" : "0").repeat(64));
  const { bytecode, deployedBytecode } = artifact.contract;
  const contract = { ...artifact.contract, bytecode: write(bytecode), deployedBytecode: write(deployedBytecode) };
  return { ...artifact, contract };
};

/** A test file, and contracts beside it that tests create by name; anew where they contain the changed source. */
function compileTests(file, unchanged) {
  const doubles = [...inputs.keys()].filter((each) => isTest(each) && !each.endsWith(".t.sol"));
  for (const each of [file, ...doubles]) {
    if (!known.has(each)) {
      known.add(each);
      for (const [name, made] of compile(each)) artifacts.set(name, made);
    }
    if (unchanged || change === undefined || compiledTests.has(each) || !concerns(each)) continue;
    compiledTests.add(each);
    for (const [name, made] of compile(each, change)) changed.set(name, made);
  }
}

async function runTests({ file, unchanged, on, keys, runs }) {
  compileTests(file, unchanged);
  const write = keys === undefined ? (each) => each : switchedTo(on, new RegExp(keys.join("|"), "g"));
  const with_ = (name) => (!unchanged && changed.has(name) ? write(changed.get(name)) : undefined);
  const now = [...artifacts].map(([name, artifact]) => [name, with_(name) ?? artifact]);
  const suites = now.filter(([name, each]) => name.startsWith(`${file}:`) && isTestSuiteArtifact(each));
  if (suites.length === 0) return { tests: 0, failed: [] }; // proofs for another tool
  const profile = { ...hre.config.test.solidity.profiles.default };
  if (runs !== undefined) profile.fuzz = { ...profile.fuzz, runs };
  const testSourcePaths = Object.fromEntries(suites.map(([, { id }]) => [id.source, `${root}/${file}`]));
  const config = await runnerConfig({
    chainType: "l1", projectRoot: root, config: profile, verbosity: 0, generateGasReport: false,
    eip712CanonicalTypes: [], testSourcePaths, testProfile: "default",
    declaredTestProfiles: Object.keys(hre.config.test.solidity.profiles),
  });
  const results = [];
  await new Promise((resolve, reject) => {
    const onSuite = (suite) => {
      results.push(...suite.testResults);
      if (--left === 0) resolve();
    };
    let left = suites.length;
    context
      .runSolidityTests(L1_CHAIN_TYPE, now.map(([, each]) => each), suites.map(([, { id }]) => id), config, {}, onSuite)
      .catch(reject);
  });
  const failed = results.filter(({ status }) => status === "Failure");
  return { tests: results.length, failed: failed.map(({ name, reason }) => `${name} ${reason ?? ""}`.trim()) };
}

const tasks = { change: applyChange, schema: applySchema, test: runTests };
const answer = (content) => process.stdout.write(`${JSON.stringify(content)}\n`);

answer({ files: [...inputs.keys()].filter((path) => path.endsWith(".t.sol")) });
for await (const line of createInterface({ input: process.stdin })) {
  const { task, ...content } = JSON.parse(line);
  try {
    answer(await tasks[task](content));
  } catch (error) {
    answer({ error: String(error.message ?? error), at: error.location?.start });
  }
}
process.exit(0);
