// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Credits} from "./Credits.sol";
import {IBatches} from "./interfaces/IBatches.sol";
import {ICalibration} from "./interfaces/ICalibration.sol";
import {ICommittees} from "./interfaces/ICommittees.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IPayments} from "./interfaces/IPayments.sol";
import {IReputation} from "./interfaces/IReputation.sol";
import {IStakeToken} from "./interfaces/IStakeToken.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {BatchParameters} from "./libraries/BatchParameters.sol";
import {Majority} from "./libraries/Majority.sol";
import {BatchId, ChallengeId, Ids, ModelId, Role} from "./types/Types.sol";

/// @title Life of a batch: anchor, draw, commit, reveal, settle
/// @dev Documented in `IBatches`. Calls only Trine's own contracts and the token; guarded all the same.
contract Batches is Credits {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    uint256 public constant MAX_LEAVES = 256;
    uint256 public constant SEATS = 3;
    uint256 public constant QUORUM = 2;
    /// @notice How far back `blockhash` reaches.
    uint256 public constant BLOCKHASH_WINDOW = 256;
    uint256 public constant MAX_DRAW_DELAY_BLOCKS = BatchParameters.MAX_DRAW_DELAY_BLOCKS;
    uint256 public constant MAX_WINDOW_SECONDS = BatchParameters.MAX_WINDOW_SECONDS;
    uint256 public constant MAX_ROUNDS = BatchParameters.MAX_ROUNDS;

    struct Contracts {
        IStakeToken token;
        IStaking staking;
        IModelRegistry registry;
        ICalibration calibration;
        ICommittees committees;
        IReputation reputation;
        IPayments payments;
    }

    /// @dev `Seat` with what was really locked for it, in the verifier's word: releasing the nominal seat stake
    /// instead would free stake that secures the operator's other work.
    struct StoredSeat {
        address verifier;
        uint88 locked;
        bool revealed;
        bytes32 commitment;
        uint256 accepts;
        uint256 rejects;
    }

    IStaking private immutable STAKING;
    IModelRegistry private immutable REGISTRY;
    ICalibration private immutable CALIBRATION;
    ICommittees private immutable COMMITTEES;
    IReputation private immutable REPUTATION;
    IPayments private immutable PAYMENTS;

    Parameters private _parameters;
    mapping(BatchId batchId => Batch) private _batches;
    mapping(BatchId batchId => StoredSeat[3]) private _seats;

    error BatchesZeroAddress();

    constructor(Contracts memory contracts_, Parameters memory parameters_) Credits(contracts_.token) {
        BatchParameters.requireBounds(parameters_);
        STAKING = contracts_.staking;
        REGISTRY = contracts_.registry;
        CALIBRATION = contracts_.calibration;
        COMMITTEES = contracts_.committees;
        REPUTATION = contracts_.reputation;
        PAYMENTS = contracts_.payments;
        require(
            address(TOKEN) != address(0) && address(STAKING) != address(0) && address(REGISTRY) != address(0)
                && address(CALIBRATION) != address(0) && address(COMMITTEES) != address(0)
                && address(REPUTATION) != address(0) && address(PAYMENTS) != address(0),
            BatchesZeroAddress()
        );
        _parameters = parameters_;
    }

    /// @inheritdoc IBatches
    function anchor(ModelId modelId, bytes32 root, uint256 leafCount)
        external
        nonReentrant
        returns (BatchId batchId)
    {
        require(leafCount > 0 && leafCount <= MAX_LEAVES, BatchesLeafCountOutOfBounds(leafCount, MAX_LEAVES));
        require(
            CALIBRATION.isCalibrated(msg.sender, Role.Node, modelId), BatchesNotCalibrated(msg.sender, modelId)
        );
        uint128 stakePerLeaf = _parameters.stakePerLeafWei;
        batchId = _anchor(modelId, root, leafCount, ChallengeId.wrap(0), stakePerLeaf);
        STAKING.lock(msg.sender, stakePerLeaf * leafCount);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), _batches[batchId].verifierFee);
    }

    /// @inheritdoc IBatches
    // Guarded; only the challenge knows the model and how many leaves there are.
    // slither-disable-next-line reentrancy-benign
    function anchorCalibration(ChallengeId challengeId, bytes32 root) external nonReentrant returns (BatchId batchId) {
        batchId = batchIdOf(msg.sender, root);
        (ModelId modelId, uint256 leafCount) = CALIBRATION.answer(challengeId, msg.sender, batchId);
        _anchor(modelId, root, leafCount, challengeId, 0);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), _batches[batchId].verifierFee);
    }

    /// @inheritdoc IBatches
    // Guarded; the seats are known only after the draw.
    // slither-disable-next-line reentrancy-benign
    function draw(BatchId batchId) external nonReentrant {
        Batch storage batch = _inState(batchId, State.Anchored);
        require(block.number > batch.seedBlock, BatchesSeedBlockNotReached(block.number, batch.seedBlock));
        bytes32 blockHash = blockhash(batch.seedBlock);
        require(blockHash != 0, BatchesSeedExpired(batch.seedBlock));
        uint8 round = batch.round;
        bytes32 seed = keccak256(abi.encode(blockHash, batchId, round));

        batch.state = State.Committing;
        batch.deadline = (block.timestamp + _parameters.commitSeconds).toUint64();
        address[3] memory verifiers = COMMITTEES.draw(batch.modelId, seed, batch.node, _isCalibration(batch));
        emit CommitteeDrawn(batchId, round, verifiers, seed, batch.deadline);
        for (uint256 i = 0; i < SEATS; ++i) {
            _seats[batchId][i] = StoredSeat(verifiers[i], _lockSeat(verifiers[i]), false, 0, 0, 0);
        }
    }

    /// @inheritdoc IBatches
    function expire(BatchId batchId) external nonReentrant {
        Batch storage batch = _inState(batchId, State.Anchored);
        require(block.number > batch.seedBlock + BLOCKHASH_WINDOW, BatchesSeedNotExpired(batch.seedBlock));
        _void(batchId, batch, VoidReason.DrawExpired);
    }

    /// @inheritdoc IBatches
    function commit(BatchId batchId, bytes32 commitment) external {
        Batch storage batch = _inState(batchId, State.Committing);
        require(commitment != 0, BatchesCommitmentZero());
        require(block.timestamp <= batch.deadline, BatchesDeadlinePassed(batch.deadline));
        StoredSeat storage seat = _seatOf(batchId, msg.sender);
        require(seat.commitment == 0, BatchesAlreadyCommitted(batchId, msg.sender));
        seat.commitment = commitment;
        emit VoteCommitted(batchId, msg.sender, batch.round, commitment);
        if (_countCommitted(batchId) == SEATS) _openReveal(batchId, batch);
    }

    /// @inheritdoc IBatches
    function reveal(BatchId batchId, uint256 accepts, uint256 rejects, bytes32 salt) external {
        Batch storage batch = _batches[batchId];
        if (batch.state == State.Committing && block.timestamp > batch.deadline && _countCommitted(batchId) >= QUORUM) {
            _openReveal(batchId, batch);
        }
        _inState(batchId, State.Revealing);
        require(block.timestamp <= batch.deadline, BatchesDeadlinePassed(batch.deadline));
        StoredSeat storage seat = _seatOf(batchId, msg.sender);
        require(seat.commitment != 0, BatchesNotCommitted(batchId, msg.sender));
        require(!seat.revealed, BatchesAlreadyRevealed(batchId, msg.sender));
        bytes32 revealed = keccak256(
            abi.encode(block.chainid, address(this), batchId, batch.round, msg.sender, accepts, rejects, salt)
        );
        require(revealed == seat.commitment, BatchesCommitmentMismatch(seat.commitment, revealed));
        require(accepts & rejects == 0, BatchesVoteContradicts(accepts & rejects));
        uint256 outside = (accepts | rejects) & ~Majority.mask(batch.leafCount);
        require(outside == 0, BatchesVoteOutOfRange(outside, batch.leafCount));
        seat.revealed = true;
        seat.accepts = accepts;
        seat.rejects = rejects;
        emit VoteRevealed(batchId, msg.sender, batch.round, accepts, rejects);
    }

    /// @inheritdoc IBatches
    function settle(BatchId batchId) external nonReentrant {
        Batch storage batch = _batches[batchId];
        uint256 committed = _countCommitted(batchId);
        uint256 revealed = _countRevealed(batchId);
        if (batch.state == State.Committing) {
            require(block.timestamp > batch.deadline, BatchesDeadlineNotReached(batch.deadline));
            if (committed >= QUORUM) {
                // Nobody has revealed yet: their time starts now.
                _openReveal(batchId, batch);
                return;
            }
        } else {
            _inState(batchId, State.Revealing);
            require(
                revealed == committed || block.timestamp > batch.deadline, BatchesDeadlineNotReached(batch.deadline)
            );
        }
        if (revealed >= QUORUM) {
            _settle(batchId, batch);
        } else {
            _redraw(batchId, batch);
        }
    }

    /// @inheritdoc IBatches
    function batchOf(BatchId batchId) external view returns (Batch memory) {
        return _batches[batchId];
    }

    /// @inheritdoc IBatches
    function seatsOf(BatchId batchId) external view returns (Seat[3] memory seats) {
        for (uint256 i = 0; i < SEATS; ++i) {
            StoredSeat storage seat = _seats[batchId][i];
            seats[i] = Seat(seat.verifier, seat.revealed, seat.commitment, seat.accepts, seat.rejects);
        }
    }

    /// @inheritdoc IBatches
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @inheritdoc IBatches
    function batchIdOf(address node, bytes32 root) public view returns (BatchId) {
        return Ids.batch(address(this), node, root);
    }

    function _anchor(ModelId modelId, bytes32 root, uint256 leafCount, ChallengeId challengeId, uint128 stakePerLeaf)
        private
        returns (BatchId batchId)
    {
        require(root != 0, BatchesRootZero());
        batchId = batchIdOf(msg.sender, root);
        Batch storage batch = _batches[batchId];
        // A void batch was judged by nobody: the same answers may be anchored again.
        require(batch.state == State.None || batch.state == State.Void, BatchesAlreadyAnchored(batchId));
        batch.node = msg.sender;
        batch.round = 0;
        batch.deadline = 0;
        batch.leafCount = leafCount.toUint16();
        batch.state = State.Anchored;
        batch.modelId = modelId;
        batch.root = root;
        batch.challengeId = challengeId;
        batch.anchoredAt = block.timestamp.toUint64();
        batch.anchoredBlock = block.number.toUint64();
        batch.seedBlock = (block.number + _parameters.drawDelayBlocks).toUint64();
        batch.policyVersion = REGISTRY.modelOf(modelId).policyVersion;
        batch.stakePerLeaf = stakePerLeaf;
        batch.verifierFee = (uint256(_parameters.verifierFeePerLeafWei) * leafCount).toUint128();
        emit BatchAnchored(
            batchId, msg.sender, modelId, root, leafCount, challengeId, batch.seedBlock, batch.policyVersion
        );
    }

    // Below, only Trine's own contracts are called, for three seats, and only `draw`, `expire` and `settle`, which are
    // guarded, get there. What is slashed is what there is, so there is nothing to check in what `slash` returns.
    // slither-disable-start calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events,unused-return
    function _openReveal(BatchId batchId, Batch storage batch) private {
        batch.state = State.Revealing;
        batch.deadline = (block.timestamp + _parameters.revealSeconds).toUint64();
        emit RevealOpened(batchId, batch.round, batch.deadline);
    }

    function _settle(BatchId batchId, Batch storage batch) private {
        StoredSeat[3] memory seats = _seats[batchId];
        uint256 accepted = Majority.ofThree(seats[0].accepts, seats[1].accepts, seats[2].accepts);
        uint256 rejected = Majority.ofThree(seats[0].rejects, seats[1].rejects, seats[2].rejects);
        batch.state = State.Settled;
        batch.deadline = 0;
        batch.accepted = accepted;
        batch.rejected = rejected;

        uint256 slashed = _isCalibration(batch) ? 0 : _judgeNode(batchId, batch);
        emit BatchSettled(batchId, batch.node, batch.modelId, accepted, rejected, slashed);

        uint256 share = batch.verifierFee / SEATS;
        uint256 paid = 0;
        for (uint256 i = 0; i < SEATS; ++i) {
            if (_judgeSeat(batchId, batch, seats[i], accepted, rejected)) {
                _credit(seats[i].verifier, batchId, share);
                paid += share;
            }
        }
        if (_isCalibration(batch)) CALIBRATION.conclude(batch.challengeId, accepted);
        // What silent or wrong seats would have earned is burned: nobody gains by silencing another.
        if (batch.verifierFee > paid) TOKEN.burn(batch.verifierFee - paid);
    }

    /// @dev Releases the node's stake, slashes it for rejected leaves and records both.
    function _judgeNode(BatchId batchId, Batch storage batch) private returns (uint256 slashed) {
        uint256 rejections = Majority.popcount(batch.rejected);
        STAKING.unlock(batch.node, uint256(batch.stakePerLeaf) * batch.leafCount);
        if (rejections > 0) {
            uint256 compensated;
            (slashed, compensated) = STAKING.slash(
                batch.node,
                uint256(batch.stakePerLeaf) * rejections,
                address(PAYMENTS),
                uint256(_parameters.refundPerLeafWei) * rejections,
                BatchId.unwrap(batchId)
            );
            PAYMENTS.fundRefunds(batchId, compensated / rejections);
            COMMITTEES.refresh(batch.modelId, batch.node);
        }
        REPUTATION.record(
            batch.node,
            Role.Node,
            batch.modelId,
            batchId,
            Majority.popcount(batch.accepted).toUint64(),
            rejections.toUint64(),
            0
        );
    }

    /// @dev Releases a seat and punishes silence and contradiction. Returns whether the seat earned its share.
    function _judgeSeat(
        BatchId batchId,
        Batch storage batch,
        StoredSeat memory seat,
        uint256 accepted,
        uint256 rejected
    ) private returns (bool) {
        STAKING.unlock(seat.verifier, seat.locked);
        if (!seat.revealed) {
            _punishSilence(batchId, batch, seat);
            return false;
        }
        bool wrong = Majority.contradicts(seat.accepts, seat.rejects, accepted, rejected);
        if (wrong) _penalize(batchId, batch, seat.verifier, PenaltyReason.WrongVote);
        REPUTATION.record(
            seat.verifier, Role.Verifier, batch.modelId, batchId, wrong ? 0 : 1, wrong ? 1 : 0, 0
        );
        return !wrong;
    }

    /// @dev Fewer than two revealed: who spoke is paid nothing and loses nothing, who was silent pays.
    function _redraw(BatchId batchId, Batch storage batch) private {
        StoredSeat[3] memory seats = _seats[batchId];
        for (uint256 i = 0; i < SEATS; ++i) {
            STAKING.unlock(seats[i].verifier, seats[i].locked);
            // With too few commitments nobody could reveal: a committed vote is not silence then.
            bool spoke = batch.state == State.Committing ? seats[i].commitment != 0 : seats[i].revealed;
            if (!spoke) _punishSilence(batchId, batch, seats[i]);
        }
        delete _seats[batchId];
        uint8 round = batch.round + 1;
        if (round >= _parameters.maxRounds) {
            _void(batchId, batch, VoidReason.NoQuorum);
            return;
        }
        batch.round = round;
        batch.state = State.Anchored;
        batch.deadline = 0;
        batch.seedBlock = (block.number + _parameters.drawDelayBlocks).toUint64();
        emit CommitteeRedrawn(batchId, round, batch.seedBlock);
    }

    function _void(BatchId batchId, Batch storage batch, VoidReason reason) private {
        batch.state = State.Void;
        batch.deadline = 0;
        emit BatchVoided(batchId, reason);
        uint256 fee = batch.verifierFee;
        bool expired = reason == VoidReason.DrawExpired;
        bool calibration = _isCalibration(batch);
        // Expiry must cost: otherwise waiting it out would be a free redraw of an unwelcome committee. Clients' batches
        // lose the stake of one leaf, calibration batches, which have none at stake, their fee.
        if (!(expired && calibration)) _credit(batch.node, batchId, fee);
        STAKING.unlock(batch.node, uint256(batch.stakePerLeaf) * batch.leafCount);
        if (!expired) return;
        if (calibration) {
            if (fee > 0) TOKEN.burn(fee);
        } else {
            STAKING.slash(batch.node, batch.stakePerLeaf, address(0), 0, BatchId.unwrap(batchId));
            COMMITTEES.refresh(batch.modelId, batch.node);
        }
    }

    function _punishSilence(BatchId batchId, Batch storage batch, StoredSeat memory seat) private {
        _penalize(
            batchId,
            batch,
            seat.verifier,
            seat.commitment == 0 ? PenaltyReason.NoCommit : PenaltyReason.NoReveal
        );
        REPUTATION.record(seat.verifier, Role.Verifier, batch.modelId, batchId, 0, 0, 1);
    }

    function _penalize(BatchId batchId, Batch storage batch, address verifier, PenaltyReason reason) private {
        uint256 amount = reason == PenaltyReason.NoCommit
            ? _parameters.noCommitPenaltyWei
            : reason == PenaltyReason.NoReveal ? _parameters.noRevealPenaltyWei : _parameters.wrongVotePenaltyWei;
        (uint256 taken,) = STAKING.slash(verifier, amount, address(0), 0, BatchId.unwrap(batchId));
        emit VerifierPenalized(batchId, verifier, batch.round, reason, taken);
        COMMITTEES.refresh(batch.modelId, verifier);
    }

    /// @dev A drawn verifier that cannot cover a seat must not stop the draw: it locks what it has free.
    function _lockSeat(address verifier) private returns (uint88 locked) {
        locked = Math.min(STAKING.freeStakeOf(verifier), _parameters.seatStakeWei).toUint88();
        STAKING.lock(verifier, locked);
    }

    function _inState(BatchId batchId, State required) private view returns (Batch storage batch) {
        batch = _batches[batchId];
        require(batch.state != State.None, BatchesUnknownBatch(batchId));
        require(batch.state == required, BatchesWrongState(batchId, batch.state, required));
    }

    function _seatOf(BatchId batchId, address verifier) private view returns (StoredSeat storage) {
        StoredSeat[3] storage seats = _seats[batchId];
        for (uint256 i = 0; i < SEATS; ++i) {
            if (seats[i].verifier == verifier) return seats[i];
        }
        revert BatchesNoSeat(batchId, verifier);
    }

    function _countCommitted(BatchId batchId) private view returns (uint256 count) {
        for (uint256 i = 0; i < SEATS; ++i) {
            if (_seats[batchId][i].commitment != 0) ++count;
        }
    }

    function _countRevealed(BatchId batchId) private view returns (uint256 count) {
        for (uint256 i = 0; i < SEATS; ++i) {
            if (_seats[batchId][i].revealed) ++count;
        }
    }
    // slither-disable-end calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events,unused-return

    function _isCalibration(Batch storage batch) private view returns (bool) {
        return ChallengeId.unwrap(batch.challengeId) != 0;
    }
}
