// Has an explorer verify the sources of a deployment: `trine deploy verify` runs it with `hardhat run --network rpc`.
// TRINE_SOURCES names the list of contracts, addresses and constructor arguments, TRINE_EXPLORER who verifies. One that
// fails does not keep the others from being tried.
import { readFileSync } from "node:fs";
import { verifyContract } from "@nomicfoundation/hardhat-verify/verify";
import hre from "hardhat";

const listed = JSON.parse(readFileSync(process.env.TRINE_SOURCES, "utf8"));
const provider = process.env.TRINE_EXPLORER;
const failed = [];
for (const { contract, address, arguments: constructorArgs } of listed) {
  try {
    await verifyContract({ address, constructorArgs, contract, provider }, hre);
  } catch (error) {
    console.error(`${contract} at ${address}: ${error.message}`);
    failed.push(contract);
  }
}
if (failed.length > 0) {
  console.error(`${failed.length} of ${listed.length} not verified: ${failed.join(", ")}`);
  process.exitCode = 1;
}
