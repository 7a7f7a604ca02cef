// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IBatches} from "./interfaces/IBatches.sol";
import {IInclusion} from "./interfaces/IInclusion.sol";
import {IParameters} from "./interfaces/IParameters.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {LeafLib, Opening, Receipt} from "./libraries/LeafLib.sol";
import {RequestLib} from "./libraries/RequestLib.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {BatchId} from "./types/Types.sol";

/// @title Answers that were promised and never anchored
/// @dev Documented in `IInclusion`. Nobody owns it.
contract Inclusion is IInclusion, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;
    using LeafLib for Opening;
    using RequestLib for Receipt;

    struct Contracts {
        IERC20 token;
        IStaking staking;
        IBatches batches;
        IParameters parameters;
    }

    uint256 public constant MIN_ANSWER_SECONDS = 10 minutes;
    uint256 public constant MAX_ANSWER_SECONDS = 7 days;
    uint256 public constant MAX_BOND_WEI = 1e24;
    uint256 private constant CLAIM_SECONDS = 7 days;

    IERC20 private immutable TOKEN;
    IStaking private immutable STAKING;
    IBatches private immutable BATCHES;
    IParameters private immutable PARAMETERS;
    uint256 private immutable BOND_WEI;
    uint256 private immutable ANSWER_SECONDS;

    mapping(bytes32 receiptHash => Claim) private _claims;

    /// @param bond Covers what it costs a node to answer. Paid by false claims.
    /// @param window Time to answer, seconds. With the time from a receipt to its `anchorBy` it should be shorter than
    /// stake takes to leave.
    constructor(Contracts memory contracts_, uint256 bond, uint256 window) {
        require(
            address(contracts_.token) != address(0) && address(contracts_.staking) != address(0)
                && address(contracts_.batches) != address(0) && address(contracts_.parameters) != address(0),
            InclusionZeroAddress()
        );
        require(bond > 0 && bond <= MAX_BOND_WEI, InclusionOutOfBounds("bond", bond, 1, MAX_BOND_WEI));
        require(
            window >= MIN_ANSWER_SECONDS && window <= MAX_ANSWER_SECONDS,
            InclusionOutOfBounds("window", window, MIN_ANSWER_SECONDS, MAX_ANSWER_SECONDS)
        );
        TOKEN = contracts_.token;
        STAKING = contracts_.staking;
        BATCHES = contracts_.batches;
        PARAMETERS = contracts_.parameters;
        BOND_WEI = bond;
        ANSWER_SECONDS = window;
    }

    /// @inheritdoc IInclusion
    function claim(Receipt calldata receipt, bytes calldata signature) external nonReentrant {
        require(msg.sender == receipt.client, InclusionNotClient(msg.sender, receipt.client));
        require(block.timestamp > receipt.anchorBy, InclusionTooEarly(receipt.anchorBy));
        uint256 latest = uint256(receipt.anchorBy) + CLAIM_SECONDS;
        require(block.timestamp <= latest, InclusionTooLate(latest));
        bytes32 digest = receipt.digest(address(BATCHES));
        require(Signatures.isBy(receipt.node, digest, signature), InclusionBadSignature(receipt.node));

        bytes32 receiptHash = LeafLib.structHash(receipt);
        Claim storage claim_ = _claims[receiptHash];
        bool again = claim_.state == State.Answered && _stateOf(claim_.answeredIn) == IBatches.State.Void;
        require(claim_.state == State.None || again, InclusionClaimedBefore(receiptHash));
        claim_.state = State.Open;
        claim_.answerBy = (block.timestamp + ANSWER_SECONDS).toUint64();
        emit InclusionClaimed(receiptHash, receipt.node, receipt.client, claim_.answerBy);
        TOKEN.safeTransferFrom(msg.sender, address(this), BOND_WEI);
    }

    /// @inheritdoc IInclusion
    function answer(Opening calldata opening) external nonReentrant {
        bytes32 receiptHash = LeafLib.structHash(opening.receipt);
        Claim storage claim_ = _open(receiptHash);
        uint256 index = opening.index;
        BatchId batchId = opening.batchOf(address(BATCHES));
        require(opening.opens(address(BATCHES), batchId), InclusionBadOpening(batchId, index));
        IBatches.Batch memory batch = BATCHES.batchOf(batchId);
        bool judged = batch.state != IBatches.State.None && batch.state != IBatches.State.Void;
        require(judged && !batch.calibration && index < batch.leafCount, InclusionNotJudged(batchId, index));
        claim_.state = State.Answered;
        claim_.answeredIn = batchId;
        // A claim was false if the answer had been judged when it was made. If it was not, it may have been in no
        // batch, and a node that anchors only what is claimed must not be paid for that.
        bool decided = batch.state == IBatches.State.Settled || batch.state == IBatches.State.Final;
        uint256 decidedBy = batch.clock;
        // A final batch's clock is of that, and it was decided longer before than the time to appeal.
        if (batch.state == IBatches.State.Final) decidedBy -= BATCHES.termsOf(batch.terms).appealWindowSeconds + 1;
        bool wasFalse = decided && decidedBy + ANSWER_SECONDS <= claim_.answerBy;
        emit InclusionAnswered(receiptHash, batchId, index, wasFalse);
        TOKEN.safeTransfer(wasFalse ? opening.receipt.node : opening.receipt.client, BOND_WEI);
    }

    /// @inheritdoc IInclusion
    // `Staking` is Trine's own contract, and all that could be reentered is guarded.
    // slither-disable-next-line reentrancy-events
    function conclude(Receipt calldata receipt) external nonReentrant {
        bytes32 receiptHash = LeafLib.structHash(receipt);
        Claim storage claim_ = _open(receiptHash);
        require(block.timestamp > claim_.answerBy, InclusionDeadlineNotReached(claim_.answerBy));
        claim_.state = State.Broken;
        uint256 amount = PARAMETERS.current().stakePerLeafWei;
        // No answer is sold for more than its rejection costs.
        amount += Math.min(receipt.feeWei, amount);
        // As much as `Staking` lets others have of it: half.
        (uint256 slashed, uint256 compensation) =
            STAKING.slash(receipt.node, amount, receipt.client, amount, receiptHash);
        emit InclusionBroken(receiptHash, receipt.node, receipt.client, slashed, compensation);
        TOKEN.safeTransfer(receipt.client, BOND_WEI);
    }

    /// @inheritdoc IInclusion
    function claimOf(bytes32 receiptHash) external view returns (Claim memory) {
        return _claims[receiptHash];
    }

    /// @inheritdoc IInclusion
    function bondWei() external view returns (uint256) {
        return BOND_WEI;
    }

    /// @inheritdoc IInclusion
    function answerSeconds() external view returns (uint256) {
        return ANSWER_SECONDS;
    }

    /// @inheritdoc IInclusion
    function claimSeconds() external pure returns (uint256) {
        return CLAIM_SECONDS;
    }

    function _open(bytes32 receiptHash) private view returns (Claim storage claim_) {
        claim_ = _claims[receiptHash];
        require(claim_.state == State.Open, InclusionNotOpen(receiptHash, claim_.state));
    }

    function _stateOf(BatchId batchId) private view returns (IBatches.State) {
        return BATCHES.batchOf(batchId).state;
    }
}
