// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Check, vm} from "./Vm.sol";

/// @notice The code that travels in the Python package is what these tests try: byte for byte what the compiler makes.
contract PackagedTest {
    function testThePackageHasTheCodeThatIsTested() external view {
        string[24] memory names = [
            "TrineToken", "Timelock", "Parameters", "Staking", "ModelRegistry", "Reputation", "Payments", "Committees",
            "Calibration", "Batches", "Finality", "Appeals", "Canaries", "Inclusion", "VerifierKeys", "Requests",
            "Erc8004Adapter", "Directory", "Examiners", "Factory", "RandaoSeeds", "DrandSeeds",
            "CertificateVerifier", "ExampleConsumer"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            string memory json =
                vm.readFile(string.concat("client_sdk/trine/chain/bytecode/", names[i], ".json"));
            string memory stale = string.concat(names[i], " is stale: run `make abi` and commit what it writes");
            Check.eq(keccak256(vm.parseJsonBytes(json, ".bytecode")), keccak256(vm.getCode(names[i])), stale);
            bytes memory deployed = vm.parseJsonBytes(json, ".deployedBytecode");
            Check.eq(keccak256(deployed), keccak256(vm.getDeployedCode(names[i])), stale);
        }
    }
}
