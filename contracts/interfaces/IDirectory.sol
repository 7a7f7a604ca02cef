// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ModelId, Role} from "../types/Types.sol";

/// @title Who serves what: all that a client needs to begin, in pages, whatever the chain's age
/// @notice Holds nothing and decides nothing; it reads the registry, calibration, staking and reputation. Nobody needs
/// to go through events to find a model or an operator.
interface IDirectory {
    struct ModelEntry {
        ModelId modelId;
        string name;
        uint128 pricePerTokenWei;
        uint32 policyVersion;
    }

    struct OperatorEntry {
        address operator;
        string endpoint;
        bool calibrated;
        uint256 validUntil;
        uint256 scoreBps;
        uint256 activeStake;
    }

    error DirectoryPageTooLarge(uint256 limit, uint256 maximum);
    error DirectoryZeroAddress();

    /// @notice Registered models, oldest first.
    /// @param offset How many to leave out.
    /// @param limit How many at most, up to 256.
    /// @return page Empty beyond the last.
    /// @return total How many there are.
    function models(uint256 offset, uint256 limit)
        external
        view
        returns (ModelEntry[] memory page, uint256 total);

    /// @notice Everybody who has ever passed in the role, who first passed first; `calibrated` says who may work now.
    /// @param offset How many to leave out.
    /// @param limit How many at most, up to 256.
    /// @return page Empty beyond the last.
    /// @return total How many there are.
    function operators(ModelId modelId, Role role, uint256 offset, uint256 limit)
        external
        view
        returns (OperatorEntry[] memory page, uint256 total);
}
