// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BatchId, Header} from "../types/Types.sol";
import {IStaking} from "./IStaking.sol";
import {IVerdicts} from "./IVerdicts.sol";

/// @title Appeals of single leaves to larger committees
/// @notice Whoever disagrees with a settled verdict on a leaf puts up a bond; a committee of 7 that excludes the node
/// and all who judged before votes on that leaf alone; its outcome can be appealed once more, to 15. When the last
/// window has passed, `conclude` moves money, stake and reputation by the final verdict. The batch becomes final when
/// all its appeals are over. A leaf is appealed at most once at each level.
///
/// A jury to which the answer is not shown says so: where the leaf was accepted or in doubt, it is unavailable then,
/// and the node pays for it as for a rejection. A rejection stands: whoever rejected was shown enough. No juror is
/// right or wrong by that, and whoever claimed that the answer is good should have shown it and loses the bond.
///
/// Whoever was right pays nothing. Lost bonds, and half of what the wrong lose of their stake, pay the jurors who voted
/// what is final, and the rest is the prize of the appellant whose appeal led to it. Where that is less than the fees
/// the jurors share it, but for one case: where a leaf was unavailable, and an appeal shows it, nobody was wrong, and
/// the jurors' fees come from the bond of who appealed; for as many leaves of a batch as those on which a seat's fines
/// for overturned votes end. If no jury had a majority, nobody was shown to be right: bonds go back, and no juror is
/// paid or fined.
interface IAppeals {
    enum Phase {
        None,
        Open, // waiting for the seed block and the draw
        Drawn, // votes are committed, then revealed
        Resolved, // decided, unless appealed again
        Concluded
    }

    /// @notice One committee's work on a leaf.
    struct Level {
        address appellant;
        IVerdicts.Verdict claim;
        IVerdicts.Verdict outcome;
        uint8 round;
        bool unheard; // no committee of maxRounds reached a quorum, or none could be drawn: the bond goes back
        uint160 committee; // hash of the drawn seats
        uint16 committed; // bitmaps by seat
        uint16 revealed;
        uint16 accepts;
        uint16 rejects;
        uint16 misses; // to whom it was not shown
    }

    struct Case {
        Phase phase;
        uint8 level; // 1 or 2
        uint8 terms; // version of the parameters: the batch's
        uint40 clock; // Open: seed block; Drawn: commit deadline or, once all have committed, when they had;
            // Resolved: since when
        IVerdicts.Verdict verdict; // as decided so far
        uint40 fixedAt; // when the seed block was fixed, by which calibrations count; seconds
        Level[2] levels;
    }

    event AppealOpened(
        BatchId indexed batchId,
        uint256 indexed leafIndex,
        address indexed appellant,
        uint256 level,
        IVerdicts.Verdict claim,
        uint256 bond,
        uint256 seedBlock
    );
    event AppealDrawn(
        BatchId indexed batchId,
        uint256 indexed leafIndex,
        uint256 level,
        uint256 round,
        IStaking.Seat[] seats,
        bytes32 seed,
        uint256 commitDeadline
    );
    event AppealVoteCommitted(
        BatchId indexed batchId, uint256 indexed leafIndex, address indexed verifier, bytes32 commitment
    );
    event AppealVoteRevealed(
        BatchId indexed batchId, uint256 indexed leafIndex, address indexed verifier, IVerdicts.Verdict vote
    );
    event AppealSeatPenalized(
        BatchId indexed batchId, uint256 indexed leafIndex, address indexed verifier, uint256 amount
    );
    event AppealRedrawn(BatchId indexed batchId, uint256 indexed leafIndex, uint256 round, uint256 seedBlock);
    event AppealResolved(
        BatchId indexed batchId, uint256 indexed leafIndex, uint256 level, IVerdicts.Verdict verdict, uint256 until
    );
    /// @param winner Whose appeal led to the verdict; zero if nobody's did.
    event AppealConcluded(
        BatchId indexed batchId,
        uint256 indexed leafIndex,
        IVerdicts.Verdict verdict,
        address indexed winner,
        uint256 prize
    );
    event CreditWithdrawn(address indexed account, uint256 amount);

    error AppealsZeroAddress();
    error AppealsBadClaim(IVerdicts.Verdict claim, IVerdicts.Verdict verdict);
    error AppealsWrongPhase(BatchId batchId, uint256 leafIndex, Phase actual, Phase required);
    error AppealsLastLevel(BatchId batchId, uint256 leafIndex);
    error AppealsWrongCommittee(BatchId batchId, uint256 level);
    error AppealsSeedBlockNotReached(uint256 blockNumber, uint256 seedBlock);
    error AppealsSeedExpired(uint256 lastBlock);
    error AppealsSeedNotExpired(uint256 lastBlock);
    error AppealsNotDrawn(bytes reason);
    error AppealsNoSeat(address verifier);
    error AppealsCommitmentZero();
    error AppealsAlreadyCommitted(address verifier);
    error AppealsNotCommitted(address verifier);
    error AppealsAlreadyRevealed(address verifier);
    error AppealsCommitmentMismatch(bytes32 committed, bytes32 revealed);
    error AppealsBadVote(IVerdicts.Verdict vote);
    error AppealsDeadlinePassed(uint256 deadline);
    error AppealsDeadlineNotReached(uint256 deadline);
    error AppealsNothingToWithdraw();

    /// @notice Appeals a settled leaf to a committee of 7. Takes `bondOf(1, terms)` from the caller.
    /// @param seats The batch's committee.
    /// @param claim Accepted or Rejected, and not what was decided.
    function appeal(
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 leafIndex,
        IVerdicts.Verdict claim
    ) external;

    /// @notice Appeals the outcome of the first appeal to a committee of 15. Takes `bondOf(2, terms)`.
    function appealAgain(BatchId batchId, uint256 leafIndex, IVerdicts.Verdict claim) external;

    /// @notice Draws the committee. Anyone may call. Where too few verifiers are left to fill it, the verdict stays and
    /// the bond goes back.
    /// @param judges The seats that judged before: the batch's, then those of the first appeal if this is the second.
    function draw(Header calldata header, uint256 leafIndex, IStaking.Seat[][] calldata judges) external;

    /// @notice Ends an appeal that was not drawn in time, as if it had been lost. Anyone may call, and draw.
    function expire(BatchId batchId, uint256 leafIndex) external;

    /// @param commitment keccak256(abi.encode(chainid, Appeals, batchId, leafIndex, level, round, verifier, vote,
    /// salt)).
    function commit(
        BatchId batchId,
        uint256 leafIndex,
        IStaking.Seat[] calldata seats,
        uint256 seat,
        bytes32 commitment
    ) external;

    /// @param vote Accepted, Rejected or Inconclusive.
    function reveal(
        BatchId batchId,
        uint256 leafIndex,
        IStaking.Seat[] calldata seats,
        uint256 seat,
        IVerdicts.Verdict vote,
        bytes32 salt
    ) external;

    /// @notice Counts the votes once all are revealed or the time is over. More than half of the seats decide; without
    /// such a majority the verdict stays. With fewer reveals than that the committee is redrawn. Anyone may call.
    function resolve(Header calldata header, uint256 leafIndex, IStaking.Seat[] calldata seats) external;

    /// @notice Makes the verdict final and moves what depends on it, when it was not appealed again in time.
    /// @param committees The batch's seats, then each level's.
    function conclude(Header calldata header, uint256 leafIndex, IStaking.Seat[][] calldata committees) external;

    /// @notice Pays out what concluded appeals credited to the caller.
    function withdrawCredit() external;

    function creditOf(address account) external view returns (uint256);

    function caseOf(BatchId batchId, uint256 leafIndex) external view returns (Case memory);

    /// @notice What an appeal to a level costs under a version of the parameters, wei.
    function bondOf(uint256 level, uint8 terms) external view returns (uint256);

    /// @notice Seats of a level's committee: 7, then 15.
    function seatsAt(uint256 level) external pure returns (uint256);
}
