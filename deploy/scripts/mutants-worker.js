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

/** A file's artifacts, with `change` instead of what a source is. */
function compile(path, change) {
  const input = structuredClone(inputs.get(path));
  if (change !== undefined) input.sources[sourceName(change.path)].content = change.source;
  const wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"];
  input.settings.outputSelection = { [sourceName(path)]: { "*": wanted } };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const errors = (output.errors ?? []).filter(({ severity }) => severity === "error");
  if (errors.length > 0) throw new Error(errors[0].formattedMessage);
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

/** Compiles every contract that the changed file is part of; answers whether that makes the code that is there. */
function applyChange({ path, source }) {
  [change, changed, compiledTests] = [{ path, source }, new Map(), new Set()];
  const affected = [...inputs.keys()].filter((each) => !isTest(each) && concerns(each) && (each === path || has(each)));
  for (const each of affected) for (const [name, made] of compile(each, change)) changed.set(name, made);
  return { same: [...changed].every(([name, made]) => codeOf(made) === codeOf(artifacts.get(name))) };
}

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

async function runTests({ file, unchanged }) {
  compileTests(file, unchanged);
  const now = [...artifacts].map(([name, artifact]) => [name, (!unchanged && changed.get(name)) || artifact]);
  const suites = now.filter(([name, each]) => name.startsWith(`${file}:`) && isTestSuiteArtifact(each));
  if (suites.length === 0) return { tests: 0, failed: [] }; // proofs for another tool
  const profile = hre.config.test.solidity.profiles.default;
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

const tasks = { change: applyChange, test: runTests };
const answer = (content) => process.stdout.write(`${JSON.stringify(content)}\n`);

answer({ files: [...inputs.keys()].filter((path) => path.endsWith(".t.sol")) });
for await (const line of createInterface({ input: process.stdin })) {
  const { task, ...content } = JSON.parse(line);
  try {
    answer(await tasks[task](content));
  } catch (error) {
    answer({ error: String(error.message ?? error) });
  }
}
process.exit(0);
