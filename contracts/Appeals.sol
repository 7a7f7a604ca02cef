// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IAppeals} from "./interfaces/IAppeals.sol";
import {IBatches} from "./interfaces/IBatches.sol";
import {ICommittees} from "./interfaces/ICommittees.sol";
import {IFinality} from "./interfaces/IFinality.sol";
import {IParameters} from "./interfaces/IParameters.sol";
import {IReputation} from "./interfaces/IReputation.sol";
import {ISeeds} from "./interfaces/ISeeds.sol";
import {IStakeToken} from "./interfaces/IStakeToken.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {IVerdicts} from "./interfaces/IVerdicts.sol";
import {Majority} from "./libraries/Majority.sol";
import {Metering} from "./libraries/Metering.sol";
import {SeatsLib} from "./libraries/SeatsLib.sol";
import {BatchId, Header, Ids, ModelId, OUTCOME, Role} from "./types/Types.sol";

/// @title Appeals of single leaves to larger committees
/// @dev Documented in `IAppeals`. Appeals are rare: this favours what can be read over gas.
contract Appeals is IAppeals, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    struct Contracts {
        IStakeToken token;
        IStaking staking;
        IBatches batches;
        IFinality finality;
        ICommittees committees;
        IReputation reputation;
        IParameters parameters;
        ISeeds seeds;
    }

    /// @dev A case's end, and what there is for who was right.
    struct End {
        IVerdicts.Verdict verdict;
        bool decided; // by a majority of a jury; else nobody was shown to be right or wrong
        bool unseen; // the answer had not been shown to the batch's committee
        uint256 right; // jurors who voted what is final
        uint256 fines; // half of what the wrong have lost of their stake
        uint256 bonds; // of appellants who were wrong
    }

    uint256 public constant LEVELS = 2;

    IStakeToken private immutable TOKEN;
    IStaking private immutable STAKING;
    IBatches private immutable BATCHES;
    IFinality private immutable FINALITY;
    ICommittees private immutable COMMITTEES;
    IReputation private immutable REPUTATION;
    IParameters private immutable PARAMETERS;
    ISeeds private immutable SEEDS;

    mapping(BatchId batchId => mapping(uint256 leafIndex => Case)) private _cases;
    /// @dev By level, round and seat.
    mapping(BatchId batchId => mapping(uint256 leafIndex => mapping(uint256 ballot => bytes32))) private _commitments;
    mapping(address account => uint256) private _credits;

    constructor(Contracts memory contracts_) {
        require(
            address(contracts_.token) != address(0) && address(contracts_.staking) != address(0)
                && address(contracts_.batches) != address(0) && address(contracts_.finality) != address(0)
                && address(contracts_.committees) != address(0)
                && address(contracts_.reputation) != address(0) && address(contracts_.parameters) != address(0)
                && address(contracts_.seeds) != address(0),
            AppealsZeroAddress()
        );
        TOKEN = contracts_.token;
        STAKING = contracts_.staking;
        BATCHES = contracts_.batches;
        FINALITY = contracts_.finality;
        COMMITTEES = contracts_.committees;
        REPUTATION = contracts_.reputation;
        PARAMETERS = contracts_.parameters;
        SEEDS = contracts_.seeds;
    }

    // Only Trine's own contracts are called; whatever could be reentered is guarded.
    // slither-disable-start reentrancy-no-eth,reentrancy-benign,reentrancy-events,calls-loop,unused-return
    /// @inheritdoc IAppeals
    function appeal(
        Header calldata header,
        IStaking.Seat[] calldata seats,
        uint256 leafIndex,
        IVerdicts.Verdict claim
    ) external nonReentrant {
        // Refuses what cannot be appealed, or has been.
        (IVerdicts.Verdict verdict, uint8 terms) = FINALITY.openAppeal(header, seats, leafIndex);
        BatchId batchId = _idOf(header);
        Case storage case_ = _cases[batchId][leafIndex];
        case_.terms = terms;
        case_.verdict = verdict;
        _openLevel(batchId, leafIndex, case_, 1, claim);
    }

    /// @inheritdoc IAppeals
    function appealAgain(BatchId batchId, uint256 leafIndex, IVerdicts.Verdict claim) external nonReentrant {
        Case storage case_ = _inPhase(batchId, leafIndex, Phase.Resolved);
        require(case_.level < LEVELS, AppealsLastLevel(batchId, leafIndex));
        uint256 deadline = case_.clock + _valuesOf(case_).appealWindowSeconds;
        require(block.timestamp <= deadline, AppealsDeadlinePassed(deadline));
        _openLevel(batchId, leafIndex, case_, case_.level + 1, claim);
    }

    /// @inheritdoc IAppeals
    function draw(Header calldata header, uint256 leafIndex, IStaking.Seat[][] calldata judges) external nonReentrant {
        BatchId batchId = _idOf(header);
        Case storage case_ = _inPhase(batchId, leafIndex, Phase.Open);
        uint256 seedBlock = case_.clock;
        require(block.number > seedBlock, AppealsSeedBlockNotReached(block.number, seedBlock));
        uint256 lastBlock = seedBlock + COMMITTEES.drawWindowBlocks();
        require(block.number <= lastBlock, AppealsSeedExpired(lastBlock));
        Level storage level = _levelOf(case_);
        address[] memory excluded = _excluded(header.node, batchId, case_, judges);
        bytes32 seed = keccak256(
            abi.encode(SEEDS.seedOf(seedBlock, case_.fixedAt), batchId, leafIndex, case_.level, level.round)
        );
        address[] memory jury = _drawn(header.modelId, seed, seedBlock, case_, excluded);
        if (jury.length == 0) {
            // There are too few, whoever asks: nobody was heard, and the bond goes back. Else who has seats in a small
            // pool could leave it once a verdict is appealed, and have the bond lost.
            level.unheard = true;
            _resolve(batchId, leafIndex, case_, case_.verdict);
            return;
        }
        IParameters.Values memory values = _valuesOf(case_);
        // No leaf has more tokens than its batch.
        (IStaking.Seat[] memory seats, uint256 doneBy) = STAKING.lockSeats(
            jury,
            values.seatStakeWei,
            Metering.workSeconds(header.root, values.checkTokensPerSecond),
            values.maxCheckSeconds
        );
        level.committee = SeatsLib.hashMemory(seats);
        case_.phase = Phase.Drawn;
        case_.clock = (doneBy + values.commitSeconds).toUint40();
        emit AppealDrawn(batchId, leafIndex, case_.level, level.round, seats, seed, case_.clock);
    }

    /// @inheritdoc IAppeals
    function expire(BatchId batchId, uint256 leafIndex) external nonReentrant {
        Case storage case_ = _inPhase(batchId, leafIndex, Phase.Open);
        uint256 lastBlock = case_.clock + COMMITTEES.drawWindowBlocks();
        require(block.number > lastBlock, AppealsSeedNotExpired(lastBlock));
        // Whoever appealed could have drawn: the bond is lost, so that waiting is no free redraw. Without a seed nobody
        // could: nobody was heard, and the bond goes back.
        if (!SEEDS.wasShown(case_.clock, case_.fixedAt, lastBlock)) _levelOf(case_).unheard = true;
        _resolve(batchId, leafIndex, case_, case_.verdict);
    }

    /// @inheritdoc IAppeals
    function commit(
        BatchId batchId,
        uint256 leafIndex,
        IStaking.Seat[] calldata seats,
        uint256 seat,
        bytes32 commitment
    ) external {
        Case storage case_ = _inPhase(batchId, leafIndex, Phase.Drawn);
        Level storage level = _levelOf(case_);
        uint16 bit = _bitOf(batchId, case_, seats, seat);
        require(commitment != 0, AppealsCommitmentZero());
        require(block.timestamp <= case_.clock, AppealsDeadlinePassed(case_.clock));
        require(level.committed & bit == 0, AppealsAlreadyCommitted(msg.sender));
        level.committed |= bit;
        _commitments[batchId][leafIndex][_ballot(case_, level, seat)] = commitment;
        if (level.committed == (1 << seats.length) - 1) case_.clock = block.timestamp.toUint40();
        emit AppealVoteCommitted(batchId, leafIndex, msg.sender, commitment);
    }

    /// @inheritdoc IAppeals
    function reveal(
        BatchId batchId,
        uint256 leafIndex,
        IStaking.Seat[] calldata seats,
        uint256 seat,
        IVerdicts.Verdict vote,
        bytes32 salt
    ) external {
        Case storage case_ = _inPhase(batchId, leafIndex, Phase.Drawn);
        Level storage level = _levelOf(case_);
        uint16 bit = _bitOf(batchId, case_, seats, seat);
        require(vote >= IVerdicts.Verdict.Accepted, AppealsBadVote(vote));
        bool allCommitted = level.committed == (1 << seats.length) - 1;
        require(allCommitted || block.timestamp > case_.clock, AppealsDeadlineNotReached(case_.clock));
        uint256 deadline = case_.clock + _valuesOf(case_).revealSeconds;
        require(block.timestamp <= deadline, AppealsDeadlinePassed(deadline));
        require(level.committed & bit != 0, AppealsNotCommitted(msg.sender));
        require(level.revealed & bit == 0, AppealsAlreadyRevealed(msg.sender));
        bytes32 committed = _commitments[batchId][leafIndex][_ballot(case_, level, seat)];
        bytes32 revealed = keccak256(
            abi.encode(
                block.chainid, address(this), batchId, leafIndex, case_.level, level.round, msg.sender, vote, salt
            )
        );
        require(revealed == committed, AppealsCommitmentMismatch(committed, revealed));
        level.revealed |= bit;
        if (vote == IVerdicts.Verdict.Accepted) level.accepts |= bit;
        if (vote == IVerdicts.Verdict.Rejected) level.rejects |= bit;
        if (vote == IVerdicts.Verdict.Unavailable) level.misses |= bit;
        emit AppealVoteRevealed(batchId, leafIndex, msg.sender, vote);
    }

    /// @inheritdoc IAppeals
    function resolve(Header calldata header, uint256 leafIndex, IStaking.Seat[] calldata seats) external nonReentrant {
        BatchId batchId = _idOf(header);
        Case storage case_ = _inPhase(batchId, leafIndex, Phase.Drawn);
        Level storage level = _levelOf(case_);
        _requireCommittee(batchId, case_, seats);
        uint256 quorum = seats.length / 2 + 1;
        uint256 committed = Majority.popcount(level.committed);
        uint256 revealed = Majority.popcount(level.revealed);
        if (committed < seats.length) {
            require(block.timestamp > case_.clock, AppealsDeadlineNotReached(case_.clock));
        }
        if (committed >= quorum && revealed < committed) {
            uint256 deadline = case_.clock + _valuesOf(case_).revealSeconds;
            require(block.timestamp > deadline, AppealsDeadlineNotReached(deadline));
        }
        // With too few commitments nobody could reveal: a committed vote is not silence then.
        uint16 spoke = committed >= quorum ? level.revealed : level.committed;
        _punishSilence(batchId, leafIndex, header, case_, seats, spoke);
        if (revealed < quorum) {
            _redraw(batchId, leafIndex, case_, seats, spoke);
        } else if (Majority.popcount(level.accepts) >= quorum) {
            _resolve(batchId, leafIndex, case_, IVerdicts.Verdict.Accepted);
        } else if (Majority.popcount(level.rejects) >= quorum) {
            _resolve(batchId, leafIndex, case_, IVerdicts.Verdict.Rejected);
        } else if (Majority.popcount(level.misses) >= quorum && case_.verdict != IVerdicts.Verdict.Rejected) {
            _resolve(batchId, leafIndex, case_, IVerdicts.Verdict.Unavailable);
        } else {
            _resolve(batchId, leafIndex, case_, case_.verdict);
        }
    }

    /// @inheritdoc IAppeals
    function conclude(Header calldata header, uint256 leafIndex, IStaking.Seat[][] calldata committees)
        external
        nonReentrant
    {
        BatchId batchId = _idOf(header);
        Case storage case_ = _inPhase(batchId, leafIndex, Phase.Resolved);
        if (case_.level < LEVELS) {
            uint256 deadline = case_.clock + _valuesOf(case_).appealWindowSeconds;
            require(block.timestamp > deadline, AppealsDeadlineNotReached(deadline));
        }
        require(committees.length == case_.level + 1, AppealsWrongCommittee(batchId, committees.length));
        case_.phase = Phase.Concluded;
        // slither-disable-next-line uninitialized-local
        End memory end;
        (end.verdict, end.decided) = (case_.verdict, _isDecided(case_));
        end.unseen = BATCHES.batchOf(batchId).unavailable & (1 << leafIndex) != 0;
        end.fines = FINALITY.concludeAppeal(header, committees[0], leafIndex, end.verdict);
        for (uint256 i = 1; i <= case_.level; ++i) {
            Level storage level = case_.levels[i - 1];
            if (level.committee != 0) {
                require(SeatsLib.hash(committees[i]) == level.committee, AppealsWrongCommittee(batchId, i));
                _judgeJury(batchId, leafIndex, header, case_, level, committees[i], end);
            }
            _settleBond(level, bondOf(i, case_.terms), _wasUnseen(case_, i - 1, end), end);
        }
        address winner = _winnerOf(case_, end);
        uint256 fee = _valuesOf(case_).appealFeePerSeatWei;
        if (winner != address(0) && end.unseen && _paysJury(batchId, case_)) {
            // Nobody was wrong who was shown nothing: whoever shows it now pays. Its bond is among its credits.
            uint256 missing = Math.saturatingSub(fee * end.right, end.bonds + end.fines);
            missing = Math.min(missing, bondOf(1, case_.terms));
            _credits[winner] -= missing;
            end.bonds += missing;
        }
        // Whoever was right pays nothing: where the wrong have less than the fees, the jurors share that.
        if (end.right > 0) fee = Math.min(fee, (end.bonds + end.fines) / end.right);
        for (uint256 i = 1; i <= case_.level; ++i) {
            Level storage level = case_.levels[i - 1];
            if (level.committee != 0) _payJury(batchId, header, level, committees[i], end, fee);
        }
        _award(batchId, leafIndex, header, winner, end, fee * end.right);
    }

    /// @inheritdoc IAppeals
    function withdrawCredit() external nonReentrant {
        uint256 amount = _credits[msg.sender];
        require(amount > 0, AppealsNothingToWithdraw());
        _credits[msg.sender] = 0;
        emit CreditWithdrawn(msg.sender, amount);
        IERC20(TOKEN).safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IAppeals
    function creditOf(address account) external view returns (uint256) {
        return _credits[account];
    }

    /// @inheritdoc IAppeals
    function caseOf(BatchId batchId, uint256 leafIndex) external view returns (Case memory) {
        return _cases[batchId][leafIndex];
    }

    /// @inheritdoc IAppeals
    function bondOf(uint256 level, uint8 terms) public view returns (uint256) {
        return seatsAt(level) * PARAMETERS.valuesOf(terms).appealBondPerSeatWei;
    }

    /// @inheritdoc IAppeals
    function seatsAt(uint256 level) public pure returns (uint256) {
        return level == 1 ? 7 : 15;
    }

    function _openLevel(
        BatchId batchId,
        uint256 leafIndex,
        Case storage case_,
        uint8 number,
        IVerdicts.Verdict claim
    ) private {
        bool possible = claim == IVerdicts.Verdict.Accepted || claim == IVerdicts.Verdict.Rejected;
        require(possible && claim != case_.verdict, AppealsBadClaim(claim, case_.verdict));
        uint256 bond = bondOf(number, case_.terms);
        case_.phase = Phase.Open;
        case_.level = number;
        case_.clock = (block.number + _valuesOf(case_).drawDelayBlocks).toUint40();
        case_.fixedAt = block.timestamp.toUint40();
        Level storage level = case_.levels[number - 1];
        level.appellant = msg.sender;
        level.claim = claim;
        emit AppealOpened(batchId, leafIndex, msg.sender, number, claim, bond, case_.clock);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), bond);
    }

    /// @dev Notes the outcome of a level; the time to appeal again begins.
    function _resolve(BatchId batchId, uint256 leafIndex, Case storage case_, IVerdicts.Verdict verdict) private {
        case_.phase = Phase.Resolved;
        case_.clock = block.timestamp.toUint40();
        case_.verdict = verdict;
        _levelOf(case_).outcome = verdict;
        uint256 until = case_.level < LEVELS ? case_.clock + _valuesOf(case_).appealWindowSeconds : case_.clock;
        emit AppealResolved(batchId, leafIndex, case_.level, verdict, until);
    }

    function _redraw(
        BatchId batchId,
        uint256 leafIndex,
        Case storage case_,
        IStaking.Seat[] calldata seats,
        uint16 spoke
    ) private {
        Level storage level = _levelOf(case_);
        for (uint256 i = 0; i < seats.length; ++i) {
            if (spoke & (1 << i) != 0) STAKING.unlock(seats[i].verifier, seats[i].locked);
        }
        (level.committee, level.committed, level.revealed) = (0, 0, 0);
        (level.accepts, level.rejects, level.misses) = (0, 0, 0);
        IParameters.Values memory values = _valuesOf(case_);
        if (++level.round >= values.maxRounds) {
            level.unheard = true;
            _resolve(batchId, leafIndex, case_, case_.verdict);
            return;
        }
        case_.phase = Phase.Open;
        case_.clock = (block.number + values.drawDelayBlocks).toUint40();
        case_.fixedAt = block.timestamp.toUint40();
        emit AppealRedrawn(batchId, leafIndex, level.round, case_.clock);
    }

    /// @dev At once, whatever the verdict will be: silence is wrong in any case.
    function _punishSilence(
        BatchId batchId,
        uint256 leafIndex,
        Header calldata header,
        Case storage case_,
        IStaking.Seat[] calldata seats,
        uint16 spoke
    ) private {
        Level storage level = _levelOf(case_);
        IParameters.Values memory values = _valuesOf(case_);
        for (uint256 i = 0; i < seats.length; ++i) {
            if (spoke & (1 << i) != 0) continue;
            STAKING.unlock(seats[i].verifier, seats[i].locked);
            uint256 penalty =
                level.committed & (1 << i) != 0 ? values.noRevealPenaltyWei : values.noCommitPenaltyWei;
            _penalize(batchId, leafIndex, header, seats[i].verifier, penalty, false);
        }
    }

    /// @dev A bond is lost by who claimed what a jury found wrong, by who did not have the jury drawn, by who called
    /// good what was not shown, and by who asked again about what is not shown again.
    function _settleBond(Level storage level, uint256 bond, bool wasUnseen, End memory end) private {
        bool right = level.committee != 0 && (!end.decided || level.claim == end.verdict);
        bool hidden = 2 * Majority.popcount(level.misses) > Majority.popcount(level.revealed);
        if (end.verdict == IVerdicts.Verdict.Unavailable) {
            // A jury that was shown it and cannot tell has shown nobody to be right or wrong.
            bool undecided = level.outcome == IVerdicts.Verdict.Unavailable && !hidden;
            right = right && (wasUnseen ? undecided : level.claim == IVerdicts.Verdict.Rejected);
        }
        if (hidden && level.claim == IVerdicts.Verdict.Accepted) right = false;
        if (level.unheard || right) _credits[level.appellant] += bond;
        else end.bonds += bond;
    }

    /// @dev Whose appeal led to the verdict, the first if there are two. Whoever says that an answer is bad which is
    /// then not shown is as right as can be known.
    function _winnerOf(Case storage case_, End memory end) private view returns (address) {
        for (uint256 i = 0; i < case_.level; ++i) {
            Level storage level = case_.levels[i];
            if (level.outcome != case_.verdict) continue;
            bool hidden = case_.verdict == IVerdicts.Verdict.Unavailable && !_wasUnseen(case_, i, end);
            bool exposed = hidden && level.claim == IVerdicts.Verdict.Rejected;
            if (exposed || level.claim == case_.verdict) return level.appellant;
        }
        return address(0);
    }

    /// @dev Whether who shows what had not been shown pays the jury: for as many leaves of a batch as those on which a
    /// seat's fines end. Without a limit, two seats could say of all of a node's leaves that they were shown nothing,
    /// lose their fee, and have it pay for a jury each, of which verifiers have the fees.
    function _paysJury(BatchId batchId, Case storage case_) private view returns (bool) {
        IParameters.Values memory values = _valuesOf(case_);
        IFinality.Marks memory marks = FINALITY.marksOf(batchId);
        uint256 shown = BATCHES.batchOf(batchId).unavailable & (marks.accepted | marks.rejected);
        return Majority.popcount(shown) * values.overturnedFineWei <= values.wrongVotePenaltyWei;
    }

    /// @dev Whether the leaf was unavailable already when its appeal came to the level of that index.
    function _wasUnseen(Case storage case_, uint256 index, End memory end) private view returns (bool) {
        return index == 0 ? end.unseen : case_.levels[index - 1].outcome == IVerdicts.Verdict.Unavailable;
    }

    /// @dev Counts a jury's right votes and fines the wrong ones. Without a decision none is either.
    function _judgeJury(
        BatchId batchId,
        uint256 leafIndex,
        Header calldata header,
        Case storage case_,
        Level storage level,
        IStaking.Seat[] calldata seats,
        End memory end
    ) private {
        (uint16 right, uint16 wrong) = _judged(level, end);
        end.right += Majority.popcount(right);
        uint256 penalty = _valuesOf(case_).wrongVotePenaltyWei;
        for (uint256 i = 0; i < seats.length; ++i) {
            if (wrong & (1 << i) == 0) continue;
            STAKING.unlock(seats[i].verifier, seats[i].locked);
            end.fines += _penalize(batchId, leafIndex, header, seats[i].verifier, penalty, true);
        }
    }

    /// @dev Frees the seats of a jury and pays those that voted what is final. The wrong are free already, and the
    /// silent were freed and punished when the level was resolved.
    function _payJury(
        BatchId batchId,
        Header calldata header,
        Level storage level,
        IStaking.Seat[] calldata seats,
        End memory end,
        uint256 fee
    ) private {
        (uint16 right, uint16 wrong) = _judged(level, end);
        IStaking.Seat[] memory freed = seats;
        uint256[] memory rewards = new uint256[](seats.length);
        for (uint256 i = 0; i < seats.length; ++i) {
            if ((level.revealed & ~wrong) & (1 << i) == 0) freed[i].locked = 0;
            if (right & (1 << i) == 0) continue;
            rewards[i] = fee;
            REPUTATION.record(seats[i].verifier, Role.Verifier, header.modelId, batchId, OUTCOME, 0, 0);
        }
        uint256 spent = fee * Majority.popcount(right);
        if (spent > 0) IERC20(TOKEN).safeTransfer(address(STAKING), spent);
        STAKING.paySeats(freed, rewards, BatchId.unwrap(batchId));
    }

    /// @dev Half of a fine for a wrong vote comes here, for who was right; the rest is burned.
    /// @param voted Wrongly; else not at all.
    function _penalize(
        BatchId batchId,
        uint256 leafIndex,
        Header calldata header,
        address verifier,
        uint256 amount,
        bool voted
    ) private returns (uint256 received) {
        (uint64 rejected, uint64 missed) = voted ? (OUTCOME, uint64(0)) : (uint64(0), OUTCOME);
        // Before the slash, which sets the weights of the next epoch by it.
        REPUTATION.record(verifier, Role.Verifier, header.modelId, batchId, 0, rejected, missed);
        uint256 shared = voted ? amount : 0; // of which `Staking` gives half
        uint256 taken;
        (taken, received) = STAKING.slash(verifier, amount, address(this), shared, BatchId.unwrap(batchId));
        emit AppealSeatPenalized(batchId, leafIndex, verifier, taken);
    }

    /// @dev What is left is the prize of the appellant who was right. Without one, fines are burned, and lost bonds go
    /// to the node if it was cleared, else they are burned, too.
    function _award(
        BatchId batchId,
        uint256 leafIndex,
        Header calldata header,
        address winner,
        End memory end,
        uint256 spent
    ) private {
        uint256 prize = end.bonds + end.fines - spent;
        bool cleared = winner == address(0) && end.verdict == IVerdicts.Verdict.Accepted;
        uint256 burned = winner != address(0) ? 0 : cleared ? Math.min(end.fines, prize) : prize;
        prize -= burned;
        emit AppealConcluded(batchId, leafIndex, end.verdict, winner, prize);
        if (burned > 0) TOKEN.burn(burned);
        if (prize == 0) return;
        if (cleared) {
            IERC20(TOKEN).safeTransfer(address(STAKING), prize);
            STAKING.credit(header.node, prize);
        } else {
            _credits[winner] += prize;
        }
    }
    // slither-disable-end reentrancy-no-eth,reentrancy-benign,reentrancy-events,calls-loop,unused-return

    /// @dev Bitmaps of the seats that voted what a jury found, and the opposite.
    function _judged(Level storage level, End memory end) private view returns (uint16 right, uint16 wrong) {
        if (!end.decided) return (0, 0);
        (right, wrong) = (level.accepts, level.rejects);
        if (end.verdict == IVerdicts.Verdict.Rejected) (right, wrong) = (wrong, right);
    }

    /// @dev Whether a majority of any jury said what is final. Without one the verdict has only stayed.
    function _isDecided(Case storage case_) private view returns (bool) {
        if (case_.verdict == IVerdicts.Verdict.Unavailable) return false;
        for (uint256 i = 0; i < case_.level; ++i) {
            Level storage level = case_.levels[i];
            uint256 quorum = seatsAt(i + 1) / 2 + 1;
            bool accepted = Majority.popcount(level.accepts) >= quorum;
            if (accepted || Majority.popcount(level.rejects) >= quorum) return true;
        }
        return false;
    }

    /// @dev A level's jury; nobody where the pool cannot fill it.
    function _drawn(
        ModelId modelId,
        bytes32 seed,
        uint256 seedBlock,
        Case storage case_,
        address[] memory excluded
    ) private view returns (address[] memory) {
        try COMMITTEES.drawExcluding(
            modelId, seed, COMMITTEES.epochAt(seedBlock), case_.fixedAt, excluded, seatsAt(case_.level), false
        ) returns (
            address[] memory verifiers
        ) {
            return verifiers;
        } catch (bytes memory reason) {
            // Nothing else, which may pass, ends an appeal: too little gas has no reason.
            require(bytes4(reason) == ICommittees.CommitteesTooFew.selector, AppealsNotDrawn(reason));
            return new address[](0);
        }
    }

    /// @dev The node and all who judged before.
    function _excluded(address node, BatchId batchId, Case storage case_, IStaking.Seat[][] calldata judges)
        private
        view
        returns (address[] memory excluded)
    {
        require(judges.length == case_.level, AppealsWrongCommittee(batchId, judges.length));
        require(SeatsLib.hash(judges[0]) == BATCHES.batchOf(batchId).committee, AppealsWrongCommittee(batchId, 0));
        uint256 count = 1 + judges[0].length;
        // A first appeal that nobody heard has no committee.
        bool both = case_.level == LEVELS && case_.levels[0].committee != 0;
        if (both) {
            require(SeatsLib.hash(judges[1]) == case_.levels[0].committee, AppealsWrongCommittee(batchId, 1));
            count += judges[1].length;
        }
        excluded = new address[](count);
        excluded[0] = node;
        uint256 next = 1;
        for (uint256 i = 0; i < (both ? 2 : 1); ++i) {
            for (uint256 j = 0; j < judges[i].length; ++j) {
                excluded[next++] = judges[i][j].verifier;
            }
        }
    }

    function _inPhase(BatchId batchId, uint256 leafIndex, Phase required) private view returns (Case storage case_) {
        case_ = _cases[batchId][leafIndex];
        require(case_.phase == required, AppealsWrongPhase(batchId, leafIndex, case_.phase, required));
    }

    function _bitOf(BatchId batchId, Case storage case_, IStaking.Seat[] calldata seats, uint256 seat)
        private
        view
        returns (uint16)
    {
        _requireCommittee(batchId, case_, seats);
        require(seat < seats.length && seats[seat].verifier == msg.sender, AppealsNoSeat(msg.sender));
        return uint16(1 << seat);
    }

    function _requireCommittee(BatchId batchId, Case storage case_, IStaking.Seat[] calldata seats) private view {
        require(SeatsLib.hash(seats) == _levelOf(case_).committee, AppealsWrongCommittee(batchId, case_.level));
    }

    function _levelOf(Case storage case_) private view returns (Level storage) {
        return case_.levels[case_.level - 1];
    }

    function _valuesOf(Case storage case_) private view returns (IParameters.Values memory) {
        return PARAMETERS.valuesOf(case_.terms);
    }

    function _idOf(Header calldata header) private view returns (BatchId) {
        return Ids.batch(address(BATCHES), header);
    }

    function _ballot(Case storage case_, Level storage level, uint256 seat) private view returns (uint256) {
        return (uint256(case_.level) << 16) | (uint256(level.round) << 8) | seat;
    }
}
