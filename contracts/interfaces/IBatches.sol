// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchId, ChallengeId, ModelId} from "../types/Types.sol";

/// @title Life of a batch: anchor, draw, commit, reveal, settle
interface IBatches {
    enum State {
        None,
        Anchored, // waiting for the seed block and the draw
        Committing, // committee drawn; votes are committed
        Revealing, // all committed, or the commit deadline passed with at least two commitments
        Settled,
        Void // nobody judged it: money and stake went back, nothing else happened
    }

    struct Batch {
        address node;
        uint16 leafCount;
        uint8 round; // 0 for the first committee
        State state;
        ModelId modelId;
        bytes32 root;
        ChallengeId challengeId; // zero: answers for clients
        uint64 anchoredAt; // seconds
        uint64 anchoredBlock;
        uint64 seedBlock; // fixed at anchor time; its hash draws the committee
        uint64 deadline; // of the current state, seconds; zero where there is none
        uint32 policyVersion;
        uint128 stakePerLeaf; // copied at anchor time: later changes of parameters do not reach back
        uint128 verifierFee; // for the whole batch
        uint256 accepted; // bit i: leaf i accepted
        uint256 rejected; // bit i: leaf i rejected
    }

    struct Seat {
        address verifier;
        bool revealed;
        bytes32 commitment; // zero: none
        uint256 accepts;
        uint256 rejects;
    }

    /// @dev Bounded in the constructor; see `Batches`.
    struct Parameters {
        uint128 stakePerLeafWei; // locked per leaf, lost per rejected leaf
        uint128 refundPerLeafWei; // share of it kept for the client, at most half
        uint128 verifierFeePerLeafWei; // paid by the node at anchor, shared by the three seats
        uint128 seatStakeWei; // locked per seat; covers the largest penalty
        uint128 wrongVotePenaltyWei;
        uint128 noRevealPenaltyWei; // >= wrongVotePenaltyWei
        uint128 noCommitPenaltyWei; // <= wrongVotePenaltyWei
        uint32 drawDelayBlocks;
        uint32 commitSeconds;
        uint32 revealSeconds;
        uint8 maxRounds;
    }

    event BatchAnchored(
        BatchId indexed batchId,
        address indexed node,
        ModelId indexed modelId,
        bytes32 root,
        uint256 leafCount,
        ChallengeId challengeId,
        uint256 seedBlock,
        uint32 policyVersion
    );
    event CommitteeDrawn(
        BatchId indexed batchId, uint8 round, address[3] verifiers, bytes32 seed, uint256 commitDeadline
    );
    event VoteCommitted(BatchId indexed batchId, address indexed verifier, uint8 round, bytes32 commitment);
    event RevealOpened(BatchId indexed batchId, uint8 round, uint256 revealDeadline);
    event VoteRevealed(
        BatchId indexed batchId, address indexed verifier, uint8 round, uint256 accepts, uint256 rejects
    );
    event BatchSettled(
        BatchId indexed batchId,
        address indexed node,
        ModelId indexed modelId,
        uint256 accepted,
        uint256 rejected,
        uint256 slashed
    );
    event VerifierPenalized(
        BatchId indexed batchId, address indexed verifier, uint8 round, PenaltyReason reason, uint256 amount
    );
    event CommitteeRedrawn(BatchId indexed batchId, uint8 round, uint256 seedBlock);
    event BatchVoided(BatchId indexed batchId, VoidReason reason);
    event Credited(address indexed account, BatchId indexed batchId, uint256 amount);
    event CreditWithdrawn(address indexed account, uint256 amount);

    enum PenaltyReason {
        NoCommit,
        NoReveal,
        WrongVote
    }

    enum VoidReason {
        DrawExpired, // the node forfeits its stake per leaf: expiry must not be a free redraw
        NoQuorum // maxRounds committees failed
    }

    error BatchesUnknownBatch(BatchId batchId);
    error BatchesAlreadyAnchored(BatchId batchId);
    error BatchesLeafCountOutOfBounds(uint256 leafCount, uint256 maximum);
    error BatchesRootZero();
    error BatchesNotCalibrated(address operator, ModelId modelId);
    error BatchesWrongState(BatchId batchId, State actual, State required);
    error BatchesSeedBlockNotReached(uint256 blockNumber, uint256 seedBlock);
    error BatchesSeedExpired(uint256 seedBlock);
    error BatchesSeedNotExpired(uint256 seedBlock);
    error BatchesNoSeat(BatchId batchId, address verifier);
    error BatchesAlreadyCommitted(BatchId batchId, address verifier);
    error BatchesCommitmentZero();
    error BatchesDeadlinePassed(uint256 deadline);
    error BatchesDeadlineNotReached(uint256 deadline);
    error BatchesNotCommitted(BatchId batchId, address verifier);
    error BatchesAlreadyRevealed(BatchId batchId, address verifier);
    error BatchesCommitmentMismatch(bytes32 committed, bytes32 revealed);
    error BatchesVoteContradicts(uint256 both);
    error BatchesVoteOutOfRange(uint256 bits, uint256 leafCount);
    error BatchesNothingToWithdraw();
    error BatchesParameterOutOfBounds(string name);

    /// @notice Fixes the caller's answers: from here none can change. Locks stake per leaf, takes the verifier fee.
    /// @param root Root of the depth-8 Merkle tree over the leaves (see `LeafLib`).
    /// @param leafCount 1 to 256.
    function anchor(ModelId modelId, bytes32 root, uint256 leafCount) external returns (BatchId batchId);

    /// @notice Like `anchor`, for the answers to a calibration challenge; needs no calibration and locks no stake.
    function anchorCalibration(ChallengeId challengeId, bytes32 root) external returns (BatchId batchId);

    /// @notice Draws the committee with the seed block's hash. Anyone may call.
    function draw(BatchId batchId) external;

    /// @notice Voids a batch whose seed block's hash the chain no longer knows. Anyone may call.
    function expire(BatchId batchId) external;

    /// @param commitment keccak256(abi.encode(chainid, Batches, batchId, round, verifier, accepts, rejects, salt)).
    function commit(BatchId batchId, bytes32 commitment) external;

    /// @notice Opens a committed vote. Allowed once all three have committed, or after the commit deadline.
    function reveal(BatchId batchId, uint256 accepts, uint256 rejects, bytes32 salt) external;

    /// @notice Settles once all committed votes are revealed or the reveal deadline has passed. With fewer than two
    /// reveals (or, after the commit deadline, fewer than two commitments) the silent are penalised and the committee
    /// is redrawn, or the batch voided after `maxRounds`. Anyone may call.
    function settle(BatchId batchId) external;

    /// @notice Pays out what settled batches credited to the caller.
    function withdrawCredit() external;

    function creditOf(address account) external view returns (uint256);

    function batchOf(BatchId batchId) external view returns (Batch memory);

    function seatsOf(BatchId batchId) external view returns (Seat[3] memory);

    function parameters() external view returns (Parameters memory);

    function batchIdOf(address node, bytes32 root) external view returns (BatchId);
}
