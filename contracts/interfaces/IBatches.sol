// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchId, ChallengeId, Header, ModelId} from "../types/Types.sol";
import {IStaking} from "./IStaking.sol";
import {IVerdicts} from "./IVerdicts.sol";

/// @title Life of a batch: anchor, draw, commit, reveal, settle
/// @notice Storage holds one word a batch and a word a seat while it votes. What is fixed (the header, the drawn
/// committee) is kept as a hash: events tell it, callers show it again, the contract compares. Parameters are those of
/// the version in force when the batch was anchored. What follows a settlement is in `IFinality`.
interface IBatches is IVerdicts {
    enum State {
        None,
        Anchored, // waiting for the seed block and the draw
        Drawn, // votes are committed, then revealed
        Settled, // decided, open to appeals
        Final, // the node's stake is free or slashed, verifiers are paid; both wait for leaves under appeal
        Void // nobody judged it: stake went back, the fee is burned
    }

    struct Batch {
        State state;
        bool calibration;
        bool signed; // settled by the committee's aggregate signature
        bool marked; // `Finality` has marks of it
        bool reopened; // an appeal has turned a verdict: the time to appeal began anew
        uint8 round; // 0 for the first committee
        uint8 terms; // version of the parameters
        uint16 leafCount;
        uint40 clock; // Anchored: seed block; Drawn: commit deadline or, once all have committed, when they had;
            // Settled: since when, or since it was reopened; Final: since when; seconds
        uint8 ballots; // two bits a seat: nothing, committed, accepted all, revealed otherwise
        uint8 penalised; // bit i: seat i was found wrong on a leaf
        uint160 committee; // hash of the drawn seats
        uint256 accepted; // as settled; appeals do not touch it
        uint256 rejected;
        uint256 unavailable;
    }

    /// @notice Parameters as far as batches need them; see `IParameters.Values`.
    struct Terms {
        uint96 stakePerLeafWei;
        uint64 verifierFeePerLeafWei;
        uint56 verifierFeePerTokenWei;
        uint24 maxBatchTokens;
        uint8 drawDelayBlocks;
        uint8 maxRounds;
        uint96 seatStakeWei;
        uint32 commitSeconds;
        uint32 revealSeconds;
        uint32 checkTokensPerSecond;
        uint32 maxCheckSeconds;
        uint32 appealWindowSeconds;
        uint96 refundPerLeafWei;
        uint96 dissentFineWei;
        uint96 overturnedFineWei;
        uint96 wrongVotePenaltyWei;
        uint96 noRevealPenaltyWei;
        uint96 noCommitPenaltyWei;
        uint96 canaryPenaltyWei;
    }

    event BatchAnchored(
        BatchId indexed batchId,
        address indexed node,
        ModelId indexed modelId,
        bytes32 root,
        bytes32 canary,
        uint256 leafCount,
        ChallengeId challengeId,
        uint256 seedBlock,
        uint256 terms
    );
    event CommitteeDrawn(
        BatchId indexed batchId, uint256 round, IStaking.Seat[] seats, bytes32 seed, uint256 commitDeadline
    );
    event VoteCommitted(BatchId indexed batchId, address indexed verifier, uint256 round, bytes32 commitment);
    /// @notice All have committed: from here on votes are revealed.
    event RevealOpened(BatchId indexed batchId, uint256 round, uint256 revealDeadline);
    event VoteRevealed(
        BatchId indexed batchId,
        address indexed verifier,
        uint256 round,
        uint256 accepts,
        uint256 rejects,
        uint256 distancePpm
    );
    event BatchSettled(
        BatchId indexed batchId,
        address indexed node,
        ModelId indexed modelId,
        uint256 accepted,
        uint256 rejected,
        uint256 unavailable,
        bool signed
    );
    event VerifierPenalized(
        BatchId indexed batchId, address indexed verifier, uint256 round, PenaltyReason reason, uint256 amount
    );
    event CommitteeRedrawn(BatchId indexed batchId, uint256 round, uint256 seedBlock);
    event BatchVoided(BatchId indexed batchId, VoidReason reason);
    event TermsAdopted(uint8 indexed version);

    enum PenaltyReason {
        NoCommit,
        NoReveal
    }

    enum VoidReason {
        DrawExpired, // the node forfeits its fee and a leaf's stake: expiry must not be a free redraw
        NoQuorum, // maxRounds committees failed; the fee is burned: a redraw must cost who could hope for one
        SeedMissing // nobody could have drawn: costs nothing
    }

    error BatchesZeroAddress();
    error BatchesUnauthorized(address caller);
    error BatchesUnknownBatch(BatchId batchId);
    error BatchesAlreadyAnchored(BatchId batchId);
    error BatchesLeafCountOutOfBounds(uint256 leafCount, uint256 maximum);
    error BatchesRootZero();
    error BatchesTooManyTokens(uint256 tokens, uint256 maximum);
    error BatchesNotCalibrated(address operator, ModelId modelId);
    error BatchesWrongState(BatchId batchId, State actual, State required);
    error BatchesWrongCommittee(BatchId batchId);
    error BatchesSeedBlockNotReached(uint256 blockNumber, uint256 seedBlock);
    error BatchesSeedExpired(uint256 lastBlock);
    error BatchesSeedNotExpired(uint256 lastBlock);
    error BatchesNoSeat(BatchId batchId, address verifier);
    error BatchesAlreadyCommitted(BatchId batchId, address verifier);
    error BatchesCommitmentZero();
    error BatchesDeadlinePassed(uint256 deadline);
    error BatchesDeadlineNotReached(uint256 deadline);
    error BatchesNotCommitted(BatchId batchId, address verifier);
    error BatchesAlreadyRevealed(BatchId batchId, address verifier);
    error BatchesCommitmentMismatch(bytes32 committed, bytes32 revealed);
    error BatchesResultContradicts(uint256 both);
    error BatchesVoteOutOfRange(uint256 bits, uint256 leafCount);
    error BatchesNotForCalibration(BatchId batchId);
    error BatchesVotesExist(BatchId batchId);
    error BatchesWrongEpoch(uint256 epoch, uint256 required);
    error BatchesTermsExist(uint8 version);

    /// @notice Fixes the caller's answers: from here none can change. Locks stake per leaf and takes the verifiers'
    /// fee from the caller's credit with `Staking`.
    /// @param root Root of the depth-8 Merkle tree over the leaves (see `LeafLib`).
    /// @param canary keccak256(abi.encode(leaves, salt)) of the leaves that are known to be bad, or random: nobody can
    /// tell which before it is opened.
    /// @param leafCount 1 to 256.
    function anchor(ModelId modelId, bytes32 root, bytes32 canary, uint256 leafCount)
        external
        returns (BatchId batchId);

    /// @notice Like `anchor`, for the answers to a calibration challenge; needs no calibration and locks no stake.
    /// @param outputTokens Tokens of all answers together: what the operator's speed is reckoned from. Verifiers
    /// reject a batch whose answers have fewer.
    function anchorCalibration(ChallengeId challengeId, bytes32 root, bytes32 canary, uint256 outputTokens)
        external
        returns (BatchId batchId);

    /// @notice Draws the committee with the seed that `ISeeds` has for the seed block, from the weights of that block's
    /// epoch. Anyone may call, once the seed is recorded: see `ISeeds.recordAndCall`.
    function draw(Header calldata header) external;

    /// @notice Voids a batch that was not drawn in time. Costs the node, unless nothing shows that its seed was there
    /// to be recorded. Anyone may call.
    function expire(Header calldata header) external;

    /// @param seats The drawn seats, as `CommitteeDrawn` told.
    /// @param seat Index of the caller's.
    /// @param commitment keccak256(abi.encode(chainid, Batches, batchId, round, verifier, accepts, rejects,
    /// distancePpm, salt)).
    function commit(BatchId batchId, IStaking.Seat[] calldata seats, uint256 seat, bytes32 commitment) external;

    /// @notice Opens a committed vote. Allowed once all three have committed, or after the commit deadline. The last
    /// reveal settles the batch.
    /// @param accepts Bit i: leaf i is what the model produces.
    /// @param rejects Bit i: it is not. Neither bit: inconclusive. Both: unavailable, what the leaf stands for was not
    /// shown in time.
    /// @param distancePpm Largest fingerprint deviation of any leaf, in millionths; recorded for calibrations.
    function reveal(
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 seat,
        uint256 accepts,
        uint256 rejects,
        uint32 distancePpm,
        bytes32 salt
    ) external;

    /// @notice Settles after a deadline has passed. With fewer than two reveals the silent are penalised and the
    /// committee is redrawn, or the batch voided after `maxRounds`. Anyone may call.
    function settle(Header calldata header, IStaking.Seat[] calldata seats) external;

    /// @notice Settles at once on the signatures of all three drawn verifiers, aggregated: no draw, no votes. Their
    /// seats are locked all the same. Anyone may call while the seed block's hash is at hand, or after `draw` as long
    /// as nobody has committed.
    /// @param seats The drawn seats; empty if nobody has called `draw`.
    /// @param epoch That of the seed block.
    /// @param keys The verifiers' BLS keys in order of their seats, 256 bytes each (EIP-2537 encoding).
    /// @param signature 128 bytes. Over `CertificateLib.resultDigest`.
    function settleSigned(
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 epoch,
        uint256 accepted,
        uint256 rejected,
        bytes calldata keys,
        bytes calldata signature
    ) external;

    /// @notice Makes a settled batch final and notes what became of its seats. Only `Finality`.
    function finish(BatchId batchId, uint8 penalised) external;

    /// @notice Notes that there are marks of a batch, and what became of its seats. Only `Finality`.
    /// @param reopen Whether the time to appeal begins anew.
    function note(BatchId batchId, uint8 penalised, bool reopen) external;

    function batchOf(BatchId batchId) external view returns (Batch memory);

    /// @notice When the seed block of a batch that waits for its draw was fixed, seconds: who was calibrated then can
    /// be drawn. Reverts in any other state.
    function fixedAt(BatchId batchId) external view returns (uint256);

    /// @notice A seat's vote as far as it was revealed: both bits mean unavailable.
    function voteOf(BatchId batchId, uint256 round, uint256 seat)
        external
        view
        returns (bool revealed, uint256 accepts, uint256 rejects);

    function termsOf(uint8 version) external view returns (Terms memory);

    function batchIdOf(Header calldata header) external view returns (BatchId);
}
