// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {BatchRecords} from "./BatchRecords.sol";
import {Guarded} from "./Guarded.sol";
import {IBatches} from "./interfaces/IBatches.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {CertificateLib} from "./libraries/CertificateLib.sol";
import {LeafLib} from "./libraries/LeafLib.sol";
import {Majority} from "./libraries/Majority.sol";
import {Metering} from "./libraries/Metering.sol";
import {SeatsLib} from "./libraries/SeatsLib.sol";
import {BatchId, ChallengeId, Header, Ids, ModelId, OUTCOME, Role} from "./types/Types.sol";

/// @title Life of a batch: anchor, draw, commit, reveal, settle
/// @dev Documented in `IBatches`. Calls only Trine's own contracts and moves no tokens itself: money and stake are in
/// `Staking`. The record is one word: read into memory, changed there, written once.
// States, ballots and hashes are compared for equality, never amounts that others could shift.
// slither-disable-start incorrect-equality
contract Batches is BatchRecords, ReentrancyGuardTransient {
    using SafeCast for uint256;

    /// @notice Blocks after its seed block within which a batch must be drawn: as long as its seed can be shown and the
    /// committees know the weights of the epoch.
    uint256 public immutable DRAW_WINDOW_BLOCKS;
    uint256 private immutable EPOCH_BLOCKS;

    /// @dev Median of what the seats of a calibration report, three times 32 bits.
    mapping(BatchId batchId => uint96) private _distances;
    mapping(BatchId batchId => ChallengeId) private _challenges;

    constructor(Contracts memory contracts_, address owner_, address guardian_)
        BatchRecords(contracts_)
        Guarded(owner_, guardian_)
    {
        DRAW_WINDOW_BLOCKS = contracts_.committees.drawWindowBlocks();
        EPOCH_BLOCKS = contracts_.committees.epochBlocks();
    }

    /// @inheritdoc IBatches
    function anchor(ModelId modelId, bytes32 root, bytes32 canary, uint256 leafCount)
        external
        whenNotPaused
        returns (BatchId batchId)
    {
        require(leafCount > 0 && leafCount <= MAX_LEAVES, BatchesLeafCountOutOfBounds(leafCount, MAX_LEAVES));
        // That it has the minimum stake, too, matters little here: what secures the leaves is locked below.
        uint256 validUntil = CALIBRATION.validUntil(msg.sender, Role.Node, modelId);
        require(validUntil >= block.timestamp, BatchesNotCalibrated(msg.sender, modelId));
        Header memory header = Header(msg.sender, modelId, root, canary);
        Record memory r;
        (batchId, r) = _anchor(header, leafCount, ChallengeId.wrap(0));
        Terms storage terms = _termsOf(r);
        STAKING.secure(msg.sender, terms.stakePerLeafWei * leafCount, _feeOf(terms, root, leafCount));
    }

    /// @inheritdoc IBatches
    // Only the challenge knows the model and how many leaves there are; it is Trine's own contract.
    // slither-disable-next-line reentrancy-benign,reentrancy-no-eth
    function anchorCalibration(ChallengeId challengeId, bytes32 root, bytes32 canary, uint256 outputTokens)
        external
        nonReentrant
        returns (BatchId batchId)
    {
        (ModelId modelId, uint256 leafCount) = CALIBRATION.modelOf(challengeId);
        Header memory header = Header(msg.sender, modelId, root, canary);
        Record memory r;
        (batchId, r) = _anchor(header, leafCount, challengeId);
        _challenges[batchId] = challengeId;
        CALIBRATION.answer(challengeId, msg.sender, batchId, outputTokens);
        STAKING.secure(msg.sender, 0, _feeOf(_termsOf(r), root, leafCount));
    }

    // Below, only Trine's own contracts are called, and what is written afterwards is the record that was read before;
    // all that could be reentered is guarded.
    // slither-disable-start reentrancy-no-eth,reentrancy-benign,reentrancy-events,calls-loop,unused-return
    /// @inheritdoc IBatches
    function draw(Header calldata header) external nonReentrant {
        BatchId batchId = Ids.batch(address(this), header);
        Record memory r = _inState(batchId, State.Anchored);
        Terms storage terms = _termsOf(r);
        (address[] memory verifiers, bytes32 seed,) = _drawn(batchId, header, r);
        (IStaking.Seat[] memory seats, uint256 doneBy) = STAKING.lockSeats(
            verifiers,
            terms.seatStakeWei,
            Metering.workSeconds(header.root, terms.checkTokensPerSecond),
            terms.maxCheckSeconds
        );
        r.state = State.Drawn;
        r.clock = (doneBy + terms.commitSeconds).toUint40();
        r.committee = SeatsLib.hashMemory(seats);
        r.ballots = 0;
        _records[batchId] = r;
        emit CommitteeDrawn(batchId, r.round, seats, seed, r.clock);
    }

    /// @inheritdoc IBatches
    function expire(Header calldata header) external nonReentrant {
        BatchId batchId = Ids.batch(address(this), header);
        Record memory r = _inState(batchId, State.Anchored);
        uint256 lastBlock = r.clock + DRAW_WINDOW_BLOCKS;
        require(block.number > lastBlock, BatchesSeedNotExpired(lastBlock));
        bool drawable = SEEDS.wasShown(r.clock, r.committee, lastBlock);
        _void(batchId, header, r, drawable ? VoidReason.DrawExpired : VoidReason.SeedMissing);
    }

    /// @inheritdoc IBatches
    function commit(BatchId batchId, IStaking.Seat[] calldata seats, uint256 seat, bytes32 commitment) external {
        Record memory r = _inState(batchId, State.Drawn);
        _requireCommittee(batchId, r, seats);
        _requireSeat(batchId, seats, seat);
        require(commitment != 0, BatchesCommitmentZero());
        require(block.timestamp <= r.clock, BatchesDeadlinePassed(r.clock));
        require(_ballotOf(r, seat) == NOTHING, BatchesAlreadyCommitted(batchId, msg.sender));
        _setBallot(r, seat, COMMITTED);
        _ballots[batchId][r.round * SEATS + seat].word = commitment;
        emit VoteCommitted(batchId, msg.sender, r.round, commitment);
        if (_count(r, COMMITTED) == SEATS) {
            r.clock = block.timestamp.toUint40();
            emit RevealOpened(batchId, r.round, block.timestamp + _termsOf(r).revealSeconds);
        }
        _records[batchId] = r;
    }

    /// @inheritdoc IBatches
    function reveal(
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 seat,
        uint256 accepts,
        uint256 rejects,
        uint32 distancePpm,
        bytes32 salt
    ) external nonReentrant {
        BatchId batchId = Ids.batch(address(this), header);
        Record memory r = _inState(batchId, State.Drawn);
        _requireCommittee(batchId, r, seats);
        _requireSeat(batchId, seats, seat);
        _requireRevealing(r);
        uint256 ballot = _ballotOf(r, seat);
        require(ballot != NOTHING, BatchesNotCommitted(batchId, msg.sender));
        require(ballot == COMMITTED, BatchesAlreadyRevealed(batchId, msg.sender));
        uint256 outside = (accepts | rejects) & ~_mask(r);
        require(outside == 0, BatchesVoteOutOfRange(outside, _leafCount(r)));
        _open(batchId, r, seat, accepts, rejects, distancePpm, salt);
        emit VoteRevealed(batchId, msg.sender, r.round, accepts, rejects, distancePpm);
        if (_count(r, ASSENT) == SEATS) _settleVotes(batchId, header, r, seats);
        _records[batchId] = r;
    }

    /// @inheritdoc IBatches
    function settle(Header calldata header, IStaking.Seat[] calldata seats) external nonReentrant {
        BatchId batchId = Ids.batch(address(this), header);
        Record memory r = _inState(batchId, State.Drawn);
        _requireCommittee(batchId, r, seats);
        require(block.timestamp > r.clock, BatchesDeadlineNotReached(r.clock));
        uint256 committed = _count(r, COMMITTED);
        uint256 revealed = _count(r, ASSENT);
        if (committed >= QUORUM && revealed < committed) {
            uint256 deadline = uint256(r.clock) + _termsOf(r).revealSeconds;
            require(block.timestamp > deadline, BatchesDeadlineNotReached(deadline));
        }
        if (revealed >= QUORUM) {
            _settleVotes(batchId, header, r, seats);
            _records[batchId] = r;
        } else {
            _redraw(batchId, header, r, seats, committed >= QUORUM);
        }
    }

    /// @inheritdoc IBatches
    function settleSigned(
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 epoch,
        uint256 accepted,
        uint256 rejected,
        bytes calldata keys,
        bytes calldata signature
    ) external nonReentrant {
        BatchId batchId = Ids.batch(address(this), header);
        Record memory r = _records[batchId];
        // What a calibration records needs the distances that only revealed votes tell.
        require(!_isCalibration(r), BatchesNotForCalibration(batchId));
        // Who was shown nothing has nothing to sign: that is settled by votes.
        require(accepted & rejected == 0, BatchesResultContradicts(accepted & rejected));
        IStaking.Seat[] memory drawn = _signers(batchId, header, r, seats, epoch);
        uint256 outside = (accepted | rejected) & ~_mask(r);
        require(outside == 0, BatchesVoteOutOfRange(outside, _leafCount(r)));
        address[] memory verifiers = new address[](SEATS);
        for (uint256 i = 0; i < SEATS; ++i) {
            verifiers[i] = drawn[i].verifier;
        }
        bytes32 digest = CertificateLib.resultDigest(
            block.chainid, address(this), epoch, BatchId.unwrap(batchId), accepted, rejected
        );
        KEYS.requireSigned(digest, verifiers, keys, signature);

        r.flags |= SIGNED_FLAG;
        r.ballots = ALL_ASSENT;
        r.committee = SeatsLib.hashMemory(drawn);
        _settle(batchId, header, r, drawn, accepted, rejected);
        _records[batchId] = r;
    }

    /// @dev The committee that the seed draws. Pure as soon as the seed is recorded: frozen weights, a seed that nobody
    /// chooses, and calibrations as they were when its block was fixed. So it does not matter who calls it when.
    function _drawn(BatchId batchId, Header calldata header, Record memory r)
        private
        view
        returns (address[] memory verifiers, bytes32 seed, uint256 epoch)
    {
        uint256 seedBlock = r.clock;
        require(block.number > seedBlock, BatchesSeedBlockNotReached(block.number, seedBlock));
        require(block.number <= seedBlock + DRAW_WINDOW_BLOCKS, BatchesSeedExpired(seedBlock + DRAW_WINDOW_BLOCKS));
        seed = keccak256(abi.encode(SEEDS.seedOf(seedBlock, r.committee), batchId, r.round));
        epoch = seedBlock / EPOCH_BLOCKS;
        verifiers =
            COMMITTEES.draw(header.modelId, seed, epoch, r.committee, header.node, SEATS, _isCalibration(r));
    }

    /// @dev Whose signatures settle the batch: those drawn already, or those whom a draw would name.
    function _signers(
        BatchId batchId,
        Header calldata header,
        Record memory r,
        IStaking.Seat[] calldata seats,
        uint256 epoch
    ) private returns (IStaking.Seat[] memory drawn) {
        if (r.state == State.Drawn) {
            _requireCommittee(batchId, r, seats);
            require(r.ballots == 0, BatchesVotesExist(batchId));
            return seats;
        }
        require(r.state != State.None, BatchesUnknownBatch(batchId));
        require(r.state == State.Anchored, BatchesWrongState(batchId, r.state, State.Anchored));
        (address[] memory verifiers, bytes32 seed, uint256 drawnFrom) = _drawn(batchId, header, r);
        // Whoever reads the certificate elsewhere looks up the keys of the epoch that it names.
        require(epoch == drawnFrom, BatchesWrongEpoch(epoch, drawnFrom));
        // They have checked already, and answer for it like those who vote.
        Terms storage terms = _termsOf(r);
        (drawn,) = STAKING.lockSeats(verifiers, terms.seatStakeWei, 0, terms.maxCheckSeconds);
        emit CommitteeDrawn(batchId, r.round, drawn, seed, block.timestamp);
    }

    function _anchor(Header memory header, uint256 leafCount, ChallengeId challengeId)
        private
        returns (BatchId batchId, Record memory r)
    {
        require(header.root != 0, BatchesRootZero());
        batchId = Ids.batch(address(this), header);
        // A void batch was judged by nobody: the same answers may be anchored again.
        State state = _records[batchId].state;
        require(state == State.None || state == State.Void, BatchesAlreadyAnchored(batchId));
        r.state = State.Anchored;
        r.terms = _version;
        r.lastLeaf = uint8(leafCount - 1);
        uint256 tokens = LeafLib.tokensOf(header.root);
        Terms storage terms = _termsOf(r);
        require(tokens <= terms.maxBatchTokens, BatchesTooManyTokens(tokens, terms.maxBatchTokens));
        r.clock = (block.number + terms.drawDelayBlocks).toUint40();
        r.committee = uint160(block.timestamp);
        if (ChallengeId.unwrap(challengeId) != 0) r.flags = CALIBRATION_FLAG;
        _records[batchId] = r;
        emit BatchAnchored(
            batchId,
            header.node,
            header.modelId,
            header.root,
            header.canary,
            leafCount,
            challengeId,
            r.clock,
            r.terms
        );
    }

    function _feeOf(Terms storage terms, bytes32 root, uint256 leafCount) private view returns (uint256) {
        return Metering.fee(leafCount, root, terms.verifierFeePerLeafWei, terms.verifierFeePerTokenWei);
    }

    function _requireSeat(BatchId batchId, IStaking.Seat[] calldata seats, uint256 seat) private view {
        require(
            seat < seats.length && seats[seat].verifier == msg.sender, BatchesNoSeat(batchId, msg.sender)
        );
    }

    function _requireRevealing(Record memory r) private view {
        bool allCommitted = _count(r, COMMITTED) == SEATS;
        // Before the commit deadline, a revealed vote could still be copied.
        require(allCommitted || block.timestamp > r.clock, BatchesDeadlineNotReached(r.clock));
        uint256 deadline = uint256(r.clock) + _termsOf(r).revealSeconds;
        require(block.timestamp <= deadline, BatchesDeadlinePassed(deadline));
    }

    /// @dev Compares a vote with its commitment and puts it in the commitment's place.
    function _open(
        BatchId batchId,
        Record memory r,
        uint256 seat,
        uint256 accepts,
        uint256 rejects,
        uint32 distancePpm,
        bytes32 salt
    ) private {
        Ballot storage ballot = _ballots[batchId][r.round * SEATS + seat];
        bytes32 committed = ballot.word;
        bytes32 revealed = keccak256(
            abi.encode(
                block.chainid, address(this), batchId, r.round, msg.sender, accepts, rejects, distancePpm, salt
            )
        );
        require(revealed == committed, BatchesCommitmentMismatch(committed, revealed));
        uint256 withheld = _mask(r) ^ accepts;
        ballot.word = bytes32(withheld);
        bool assents = withheld | rejects == 0;
        // Also when it is zero: a void batch that is anchored again finds the words of the first time.
        if (!assents) ballot.rejects = rejects;
        _setBallot(r, seat, assents ? ASSENT : DISSENT);
        if (_isCalibration(r)) _distances[batchId] |= uint96(distancePpm) << uint96(32 * seat);
    }

    function _settleVotes(BatchId batchId, Header calldata header, Record memory r, IStaking.Seat[] calldata seats)
        private
    {
        uint256 mask = _mask(r);
        if (r.ballots == ALL_ASSENT) {
            _settle(batchId, header, r, seats, mask, 0);
            return;
        }
        // Zero: a silent seat says nothing of any leaf.
        // slither-disable-start uninitialized-local
        uint256[SEATS] memory accepts;
        uint256[SEATS] memory rejects;
        uint256[SEATS] memory misses;
        // slither-disable-end uninitialized-local
        for (uint256 i = 0; i < SEATS; ++i) {
            if (_ballotOf(r, i) < ASSENT) continue;
            (uint256 withheld, uint256 second) = _vote(batchId, r, i);
            uint256 first = mask & ~withheld;
            (accepts[i], rejects[i], misses[i]) = (first & ~second, second & ~first, first & second);
        }
        uint256 unavailable = Majority.ofThree(misses[0], misses[1], misses[2]);
        _settle(
            batchId,
            header,
            r,
            seats,
            Majority.ofThree(accepts[0], accepts[1], accepts[2]) | unavailable,
            Majority.ofThree(rejects[0], rejects[1], rejects[2]) | unavailable
        );
    }

    /// @dev Writes the result and punishes silence. Who voted stays locked, and unpaid, until nothing can change it.
    /// @param first Leaves that were accepted or, where the second word has their bits, too, are unavailable.
    /// @param second Leaves that were rejected, and the same.
    function _settle(
        BatchId batchId,
        Header calldata header,
        Record memory r,
        IStaking.Seat[] memory seats,
        uint256 first,
        uint256 second
    ) private {
        uint256 withheld = _mask(r) & ~first;
        if (withheld | second != 0) {
            r.flags |= PARTIAL_FLAG;
            if (withheld != 0) _withheld[batchId] = withheld;
            if (second != 0) _rejected[batchId] = second;
        }
        r.state = State.Settled;
        r.clock = block.timestamp.toUint40();
        emit BatchSettled(
            batchId,
            header.node,
            header.modelId,
            first & ~second,
            second & ~first,
            first & second,
            r.flags & SIGNED_FLAG != 0
        );
        for (uint256 i = 0; i < SEATS; ++i) {
            if (_ballotOf(r, i) < ASSENT) _punishSilence(batchId, header, r, seats[i], i);
        }
        if (_isCalibration(r)) {
            CALIBRATION.conclude(_challenges[batchId], first & ~second, _medianDistance(batchId, r));
        }
    }

    /// @dev Fewer than two revealed: who spoke is paid nothing and loses nothing, who was silent pays.
    function _redraw(
        BatchId batchId,
        Header calldata header,
        Record memory r,
        IStaking.Seat[] calldata seats,
        bool couldReveal
    ) private {
        for (uint256 i = 0; i < SEATS; ++i) {
            // With too few commitments nobody could reveal: a committed vote is not silence then.
            bool spoke = _ballotOf(r, i) >= (couldReveal ? ASSENT : COMMITTED);
            if (spoke) {
                if (seats[i].locked > 0) STAKING.unlock(seats[i].verifier, seats[i].locked);
            } else {
                _punishSilence(batchId, header, r, seats[i], i);
            }
        }
        delete _distances[batchId];
        ++r.round;
        if (r.round >= _termsOf(r).maxRounds) {
            _void(batchId, header, r, VoidReason.NoQuorum);
            return;
        }
        r.state = State.Anchored;
        r.committee = uint160(block.timestamp);
        r.ballots = 0;
        r.clock = (block.number + _termsOf(r).drawDelayBlocks).toUint40();
        _records[batchId] = r;
        emit CommitteeRedrawn(batchId, r.round, r.clock);
    }

    function _punishSilence(
        BatchId batchId,
        Header calldata header,
        Record memory r,
        IStaking.Seat memory seat,
        uint256 index
    ) private {
        if (seat.locked > 0) STAKING.unlock(seat.verifier, seat.locked);
        Terms storage terms = _termsOf(r);
        (PenaltyReason reason, uint256 amount) = _ballotOf(r, index) == COMMITTED
            ? (PenaltyReason.NoReveal, terms.noRevealPenaltyWei)
            : (PenaltyReason.NoCommit, terms.noCommitPenaltyWei);
        // Before the slash, which sets the weights of the next epoch by it.
        REPUTATION.record(seat.verifier, Role.Verifier, header.modelId, batchId, 0, 0, OUTCOME);
        (uint256 taken,) = STAKING.slash(seat.verifier, amount, address(0), 0, BatchId.unwrap(batchId));
        emit VerifierPenalized(batchId, seat.verifier, r.round, reason, taken);
    }

    function _void(BatchId batchId, Header calldata header, Record memory r, VoidReason reason) private {
        r.state = State.Void;
        r.committee = 0;
        _records[batchId] = r;
        emit BatchVoided(batchId, reason);
        Terms storage terms = _termsOf(r);
        uint256 fee = _feeOf(terms, header.root, _leafCount(r));
        uint256 stakePerLeaf = _isCalibration(r) ? 0 : terms.stakePerLeafWei;
        if (stakePerLeaf > 0) STAKING.unlock(header.node, stakePerLeaf * _leafCount(r));
        // What nobody could have drawn costs nobody anything.
        if (reason == VoidReason.SeedMissing) {
            if (fee > 0) STAKING.credit(header.node, fee);
            return;
        }
        // Else it must cost: whoever can keep committees from voting would have free redraws of unwelcome ones.
        if (fee > 0) STAKING.burnFees(fee);
        // Waiting until the draw is too late is the node's own doing.
        if (reason == VoidReason.DrawExpired && stakePerLeaf > 0) {
            STAKING.slash(header.node, stakePerLeaf, address(0), 0, BatchId.unwrap(batchId));
        }
    }
    // slither-disable-end reentrancy-no-eth,reentrancy-benign,reentrancy-events,calls-loop,unused-return

    /// @dev Of three reports the middle one, of two the larger: one liar cannot move it beyond an honest report.
    function _medianDistance(BatchId batchId, Record memory r) private view returns (uint256) {
        uint96 reported = _distances[batchId];
        uint256 low = type(uint256).max;
        uint256 high = 0;
        uint256 sum = 0;
        for (uint256 i = 0; i < SEATS; ++i) {
            if (_ballotOf(r, i) < ASSENT) continue;
            uint256 distance = uint32(reported >> uint96(32 * i));
            sum += distance;
            if (distance < low) low = distance;
            if (distance > high) high = distance;
        }
        return _count(r, ASSENT) == SEATS ? sum - low - high : high;
    }
}
// slither-disable-end incorrect-equality
