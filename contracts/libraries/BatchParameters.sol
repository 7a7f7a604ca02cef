// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatches} from "../interfaces/IBatches.sol";

/// @title Bounds of the parameters of `Batches`
library BatchParameters {
    uint256 internal constant MAX_DRAW_DELAY_BLOCKS = 64;
    uint256 internal constant MAX_WINDOW_SECONDS = 7 days;
    uint256 internal constant MAX_ROUNDS = 8;
    /// @dev So that 256 leaves' worth fits the 128 bits that batches store.
    uint256 internal constant MAX_WEI_PER_LEAF = type(uint112).max;
    /// @dev So that what is locked for a seat shares a word with its verifier.
    uint256 internal constant MAX_SEAT_STAKE_WEI = type(uint88).max;

    /// @notice Reverts `BatchesParameterOutOfBounds`, naming the first parameter that is out of bounds.
    function requireBounds(IBatches.Parameters memory p) internal pure {
        _require(p.stakePerLeafWei > 0 && p.stakePerLeafWei <= MAX_WEI_PER_LEAF, "stakePerLeafWei");
        // At most half goes to clients: a node and a client in league must always lose by a rejection.
        _require(p.refundPerLeafWei <= p.stakePerLeafWei / 2, "refundPerLeafWei");
        _require(p.verifierFeePerLeafWei <= MAX_WEI_PER_LEAF, "verifierFeePerLeafWei");
        // Silence after a commitment must cost at least a wrong vote, or the last to reveal has a free option.
        _require(p.noRevealPenaltyWei >= p.wrongVotePenaltyWei, "noRevealPenaltyWei");
        _require(p.noCommitPenaltyWei <= p.wrongVotePenaltyWei, "noCommitPenaltyWei");
        _require(p.seatStakeWei >= p.noRevealPenaltyWei && p.seatStakeWei <= MAX_SEAT_STAKE_WEI, "seatStakeWei");
        _require(p.drawDelayBlocks > 0 && p.drawDelayBlocks <= MAX_DRAW_DELAY_BLOCKS, "drawDelayBlocks");
        _require(p.commitSeconds > 0 && p.commitSeconds <= MAX_WINDOW_SECONDS, "commitSeconds");
        _require(p.revealSeconds > 0 && p.revealSeconds <= MAX_WINDOW_SECONDS, "revealSeconds");
        _require(p.maxRounds > 0 && p.maxRounds <= MAX_ROUNDS, "maxRounds");
    }

    function _require(bool within, string memory name) private pure {
        require(within, IBatches.BatchesParameterOutOfBounds(name));
    }
}
