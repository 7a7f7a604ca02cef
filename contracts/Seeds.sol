// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {ISeeds} from "./interfaces/ISeeds.sol";

/// @title What both sources of seeds have in common
/// @dev Documented in `ISeeds`.
// The rest of the interface is in `RandaoSeeds` and `DrandSeeds`.
// slither-disable-next-line unimplemented-functions
abstract contract Seeds is ISeeds {
    using Address for address;

    /// @inheritdoc ISeeds
    function record(bytes calldata evidence) external {
        _record(evidence);
    }

    /// @inheritdoc ISeeds
    // Nothing is stored after the call.
    // slither-disable-next-line unused-return
    function recordAndCall(bytes calldata evidence, address target, bytes calldata data) external {
        _record(evidence);
        target.functionCall(data);
    }

    function _record(bytes calldata evidence) internal virtual;
}
