// SPDX-License-Identifier: MIT
// solhint-disable-next-line compiler-version
pragma solidity ^0.8.27;

import {BatchId} from "../types/Types.sol";

/// @title What was decided on a leaf: all that contracts need which act on answers
/// @notice A verdict is settled first and may be appealed; final means that nothing changes it any more.
interface IVerdicts {
    enum Verdict {
        None, // no such batch or leaf, or nobody judged it (void)
        Pending,
        Accepted,
        Rejected,
        Inconclusive,
        Unavailable // what the leaf stands for was not shown: costs its node what a rejection does, and nobody else
    }

    /// @return verdict As decided so far.
    /// @return isFinal Whether the time to appeal is over and no appeal is open.
    function verdictOf(BatchId batchId, uint256 leafIndex) external view returns (Verdict verdict, bool isFinal);

    /// @notice The batch's words as decided so far: bit i is set in one of them, or in none.
    /// @return leafCount Zero for an unknown batch.
    /// @return accepted As decided so far.
    /// @return rejected As decided so far.
    /// @return unavailable As decided so far.
    /// @return settled False while committees are at work, and for a void batch.
    /// @return isFinal Whether the whole batch can change no more.
    function resultOf(BatchId batchId)
        external
        view
        returns (
            uint256 leafCount,
            uint256 accepted,
            uint256 rejected,
            uint256 unavailable,
            bool settled,
            bool isFinal
        );
}
