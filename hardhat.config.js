import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ignition from "@nomicfoundation/hardhat-ignition";
import verify from "@nomicfoundation/hardhat-verify";
import { configVariable, defineConfig } from "hardhat/config";

// The compiler is the one that npm installed: nothing is downloaded at build time.
const solc = {
  version: "0.8.37",
  path: fileURLToPath(import.meta.resolve("solc/soljson.js")),
  settings: {
    optimizer: { enabled: true, runs: 800 },
    viaIR: true,
    evmVersion: "prague",
    // Addresses of a CREATE2 deployment must not depend on comments or paths.
    metadata: { bytecodeHash: "none" },
  },
};

// Tests create the contracts that they try from the build (tests/contracts/Built.sol), so how they are compiled
// themselves does not matter: the older code generator without its optimizer takes seconds where `viaIR` takes minutes.
const quick = { ...solc, settings: { ...solc.settings, viaIR: false, optimizer: { enabled: false } } };
// But these contain what they try, a library or a contract whose gas is measured: compiled as what is deployed.
const COMPILED_AS_DEPLOYED = ["Decay.t", "EpochTree.t", "Libraries.t", "Measured"]
  .map((name) => `tests/contracts/${name}.sol`);

// What tests may read.
const fsPermissions = { readDirectory: ["./tests/vectors", "./client_sdk/trine/chain/bytecode"] };

const contracts = readdirSync(new URL("contracts", import.meta.url), { recursive: true })
  .filter((path) => path.endsWith(".sol"))
  .map((path) => `contracts/${path.replaceAll("\\", "/")}`);

// Hardhat compiles together what has the very same settings object: all contracts in one run of the compiler, tests in
// two. Contracts have theirs in common with the profile `production`, so neither profile compiles them again.
const compilation = {
  id: "trine-compilation",
  hookHandlers: {
    config: async () => ({
      default: async () => ({
        async resolveUserConfig(userConfig, resolveVariable, next) {
          const config = await next(userConfig, resolveVariable);
          const { profiles } = config.solidity;
          const [deployed] = profiles.production.compilers;
          profiles.default.overrides =
            Object.fromEntries([...contracts, ...COMPILED_AS_DEPLOYED].map((path) => [path, deployed]));
          return config;
        },
      }),
    }),
  },
};

export default defineConfig({
  plugins: [ignition, verify, compilation],
  paths: {
    sources: "./contracts",
    tests: { solidity: "./tests/contracts" },
    ignition: "./deploy/ignition",
    artifacts: "./build/artifacts",
    cache: "./build/cache",
  },
  solidity: {
    // Whoever starts a chain does not read what tests were compiled to.
    splitTestsCompilation: true,
    profiles: {
      default: { compilers: [quick], toolVersionsInBuildInfo: true },
      // Isolated jobs, the default in production, compile what they share again and again: same bytecode, twice the
      // time.
      production: { ...solc, isolated: false },
    },
  },
  // `--strategy create2` gives deploy/ignition's factory one address on every chain that has CreateX.
  ignition: { strategyConfig: { create2: { salt: `0x${Buffer.from("trine").toString("hex").padEnd(64, "0")}` } } },
  // `trine deploy verify`.
  verify: {
    etherscan: process.env.ETHERSCAN_API_KEY ? { apiKey: process.env.ETHERSCAN_API_KEY } : { enabled: false },
    sourcify: process.env.TRINE_SOURCIFY_URL ? { apiUrl: process.env.TRINE_SOURCIFY_URL } : {},
  },
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
          fsPermissions,
          fuzz: { runs: 128 },
          invariant: { runs: 16, depth: 40, failOnRevert: true },
        },
        // `make invariants`: longer lives, many more of them.
        long: {
          fsPermissions,
          fuzz: { runs: 1000 },
          invariant: { runs: 500, depth: 400, failOnRevert: true },
        },
      },
    },
  },
});
