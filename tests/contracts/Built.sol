// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {vm} from "./Vm.sol";

/// @notice Creates contracts from what the build made of them. A test that said `new` would compile the contract once
/// more, as tests are compiled, and try other code than is deployed.
library Built {
    function create(string memory name) internal returns (address) {
        return create(name, "");
    }

    /// @param arguments The constructor's, ABI-encoded.
    function create(string memory name, bytes memory arguments) internal returns (address created) {
        bytes memory initCode = bytes.concat(vm.getCode(name), arguments);
        // Nothing in Solidity deploys bytes. What the constructor reverts with goes on, as it does after `new`.
        assembly ("memory-safe") {
            created := create(0, add(initCode, 32), mload(initCode))
            if iszero(created) {
                let free := mload(0x40)
                returndatacopy(free, 0, returndatasize())
                revert(free, returndatasize())
            }
        }
    }
}
