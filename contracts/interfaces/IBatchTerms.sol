// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IParameters} from "./IParameters.sol";

/// @title Where new terms go that are read for every batch
interface IBatchTerms {
    /// @notice Takes over the values for batches anchored from now on; those open keep theirs. Only `Parameters`.
    function adopt(uint8 version, IParameters.Values calldata values) external;
}
