import { fileURLToPath } from "node:url";
import ignition from "@nomicfoundation/hardhat-ignition";
import { configVariable, defineConfig } from "hardhat/config";

// The compiler is the one that npm installed: nothing is downloaded at build time.
const solc = {
  version: "0.8.37",
  path: fileURLToPath(import.meta.resolve("solc/soljson.js")),
  settings: {
    viaIR: true,
    optimizer: { enabled: true, runs: 800 },
    evmVersion: "prague",
    // Addresses of a CREATE2 deployment must not depend on comments or paths.
    metadata: { bytecodeHash: "none" },
  },
};

// These tests take the contracts that they call from the build (vm.getCode), so their own compiler settings do not
// matter, and the older code generator takes seconds where `viaIR` takes ten minutes. A test that creates
// one of them with `new` would test other code than is deployed: it does not belong here.
const quick = { ...solc, settings: { ...solc.settings, viaIR: false } };
const quickTests = [
  "Appeals", "Attacks", "Batches", "BatchesSigned", "Calibration", "Canaries", "Differential", "Finality", "Reentrancy",
  "Staking", "Vectors", "invariants/Protocol",
];
const overrides = Object.fromEntries(quickTests.map((name) => [`tests/contracts/${name}.t.sol`, quick]));

export default defineConfig({
  plugins: [ignition],
  paths: {
    sources: "./contracts",
    tests: { solidity: "./tests/contracts" },
    ignition: "./deploy/ignition",
    artifacts: "./build/artifacts",
    cache: "./build/cache",
  },
  // Isolated jobs, the default in production, compile what they share again and again: same bytecode, twice the time.
  solidity: { profiles: { default: { compilers: [solc], overrides }, production: { ...solc, isolated: false } } },
  // `--strategy create2` gives deploy/ignition's factory one address on every chain that has CreateX.
  ignition: { strategyConfig: { create2: { salt: `0x${Buffer.from("trine").toString("hex").padEnd(64, "0")}` } } },
  networks: {
    // `hardhat node`: a block a second even without transactions, because draws wait for later blocks.
    default: {
      type: "edr-simulated",
      chainId: 31337,
      hardfork: "prague",
      mining: { auto: true, interval: 1000 },
    },
    node: {
      type: "edr-simulated",
      chainId: 31337,
      hardfork: "prague",
      mining: { auto: true, interval: 1000 },
      // Several blocks in a second must not put the chain's clock ahead of its users'.
      allowBlocksWithSameTimestamp: true,
    },
    rpc: { type: "http", url: configVariable("TRINE_RPC_URL") },
  },
  test: {
    solidity: {
      // isolate: every call is a transaction of its own, as on a chain (transient storage, gas).
      profiles: {
        default: {
          isolate: true,
          fsPermissions: { readDirectory: ["./tests/vectors"] },
          fuzz: { runs: 128 },
          invariant: { runs: 16, depth: 40, failOnRevert: true },
        },
        // `make invariants`: longer lives, many more of them.
        long: {
          fsPermissions: { readDirectory: ["./tests/vectors"] },
          fuzz: { runs: 1000 },
          invariant: { runs: 500, depth: 400, failOnRevert: true },
        },
      },
    },
  },
});
