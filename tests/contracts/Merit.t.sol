// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ICommittees} from "../../contracts/interfaces/ICommittees.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {BatchId, Role} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {Check, Vm, vm} from "./Vm.sol";

/// @notice Who is right must gain by saying so, and nobody by saying nothing or by being judged. Each test is one way
/// to earn without work, or to lose by honest work.
contract MeritTest is AppealWorld {
    uint256 private constant ALL = type(uint256).max;
    uint256 private constant FEE = 0.03 ether; // a leaf

    function setUp() external {
        _appealWorld();
    }

    // Paid for being right

    function testAttackVotingNeitherWayOnEverythingEarnsNothing() external {
        for (uint256 i = 0; i < 4; ++i) {
            // 20 leaves and 4,000 tokens: a fee of one token.
            BatchId id = _drawn(_root(keccak256(abi.encode(i)), 4000), 20);
            address idle = _seatOf(id, i % 3);
            uint256 score = _scoreOf(idle);
            uint256 stake = _stakeOf(idle);
            uint256[2][3] memory votes;
            for (uint256 seat = 0; seat < 3; ++seat) {
                if (seat != i % 3) votes[seat][0] = (1 << 20) - 1;
            }
            _vote(id, votes[0][0], 0, votes[1][0], 0, votes[2][0], 0);
            uint256 supply = token.totalSupply();
            _finalize(id);
            Check.eq(_stakeOf(idle), stake, "no fee, and no fine for doubt");
            Check.atMost(_scoreOf(idle), score, "no merit");
            Check.eq(supply - token.totalSupply(), 1 ether - 2 * (uint256(1 ether) / 3), "its share is burned");
            _nextEpoch();
        }
    }

    function testAttackVotingNeitherWayDoesNotRaiseAWeight() external {
        for (uint256 i = 0; i < verifiers; ++i) {
            committees.refresh(model, _verifier(i));
        }
        _nextEpoch();
        ICommittees.Row[] memory before = committees.poolOf(model, true, committees.currentEpoch(), 0, 64);
        for (uint256 i = 0; i < 6; ++i) {
            BatchId id = _drawn(_root(keccak256(abi.encode(i)), 0), 10);
            _vote(id, 0, 0, 0, 0, 0, 0);
            _finalize(id);
            for (uint256 seat = 0; seat < 3; ++seat) {
                committees.refresh(model, _seatOf(id, seat));
            }
            _nextEpoch();
        }
        ICommittees.Row[] memory after_ = committees.poolOf(model, true, committees.currentEpoch(), 0, 64);
        for (uint256 i = 0; i < before.length; ++i) {
            Check.atMost(after_[i].weight, before[i].weight, "a weight");
        }
    }

    function testAttackCheckingHalfOfTheLeavesEarnsHalf() external {
        BatchId id = _drawn("half", 16);
        address lazy = _seatOf(id, 1);
        (uint256 stake, uint256 merit) = (_stakeOf(lazy), _meritOf(lazy));
        _vote(id, 0xffff, 0, 0xff, 0, 0xffff, 0);
        _finalize(id);
        Check.eq(_stakeOf(lazy) - stake, (16 * FEE) / 6, "half of a share");
        // What it had before fades meanwhile.
        Check.atMost(_meritOf(lazy) - merit, 500_000, "half of a merit");
        Check.yes(_meritOf(lazy) + 5000 > merit + 500_000, "but that");
    }

    function testAttackAnInconclusiveVerdictPaysNobody() external {
        BatchId id = _drawn("nobody", 4);
        uint256 owed = _owedByStaking();
        uint256 supply = token.totalSupply();
        // All three say something else of every leaf.
        _vote(id, 15, 0, 0, 15, 0, 0);
        _finalize(id);
        Check.eq(_owedByStaking(), owed, "nobody earns");
        Check.eq(supply - token.totalSupply(), 4 * FEE, "all is burned");
    }

    function testAttackTwoSeatsThatAbstainLeaveAnHonestNodeUnpaidOnlyUntilItAppeals() external {
        BatchId id = _drawn("doubted", 200);
        (address idle, address honest) = (_seatOf(id, 0), _seatOf(id, 2));
        uint256 all = (1 << 200) - 1;
        (uint256 idleStake, uint256 honestStake, uint256 nodeStake) = (_stakeOf(idle), _stakeOf(honest), _stakeOf(NODE));
        _vote(id, 0, 0, 0, 0, all, 0);
        _verdictOf(id, 0, INCONCLUSIVE, false);
        _appeal(NODE, id, 0, ACCEPTED);
        _hear(id, 0, 7, 0);
        _conclude(id, 0);
        _finalize(id);
        _verdictOf(id, 0, ACCEPTED, true);
        Check.eq(_stakeOf(NODE), nodeStake, "no slash");
        Check.atMost(_stakeOf(idle), idleStake, "who abstains earns nothing");
        Check.yes(_stakeOf(honest) > honestStake, "who was right is paid");
        Check.eq(appeals.creditOf(NODE), BOND_1, "bond");
        _verdictOf(id, 1, INCONCLUSIVE, true);
    }

    function testAttackFourJurorsWhoAbstainAreNotPaidByWhoIsRight() external {
        BatchId id = _settled("bad", 1);
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        uint256[] memory stakes = _stakesOf(_jury(id, 0));
        _voteAppeal(id, 0, 0, 3);
        _resolve(id, 0);
        _conclude(id, 0);
        _verdictOf(id, 0, ACCEPTED, true);
        Check.eq(appeals.creditOf(ALICE), BOND_1, "nobody has shown the appellant to be wrong");
        for (uint256 i = 0; i < 7; ++i) {
            Check.eq(_stakeOf(_juror(id, 0, i)), stakes[i], "abstaining earns nothing, seeing it costs nothing");
        }
    }

    function testAttackAJurorWhoAbstainsIsNotPaidWhereOthersDecide() external {
        BatchId id = _settled("bad", 1);
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        uint256[] memory stakes = _stakesOf(_jury(id, 0));
        _voteAppeal(id, 0, 0, 4);
        _resolve(id, 0);
        _conclude(id, 0);
        for (uint256 i = 0; i < 7; ++i) {
            Check.eq(_stakeOf(_juror(id, 0, i)) - stakes[i], i < 4 ? 1 ether : 0, "paid for being right only");
        }
        // Half of three fines, and of what the client leaves of the node's stake, less four fees.
        Check.eq(appeals.creditOf(ALICE), BOND_1 + 12.1 ether - 4 ether, "bond and prize");
    }

    // Fined by the leaf

    function testAttackAnHonestErrorDoesNotCostMoreThanTheBatchEarns() external {
        // Of 256 leaves, an honest verifier rejects one wrongly now and then.
        BatchId id = _drawn("honest", 256);
        address honest = _seatOf(id, 0);
        (uint256 stake, uint256 score) = (_stakeOf(honest), _scoreOf(honest));
        _vote(id, ALL - 1, 1, ALL, 0, ALL, 0);
        _finalize(id);
        uint256 earned = (256 * FEE * 255) / (3 * 256);
        Check.eq(_stakeOf(honest) + 0.1 ether - stake, earned, "255 leaves' fee, one leaf's fine");
        Check.yes(_stakeOf(honest) > stake, "voting pays, errors and all");
        Check.yes(_scoreOf(honest) > score, "also in reputation");
    }

    function testFuzz_attackTheFineForDissentIsByLeafAndCapped(uint256 wrong) external {
        BatchId id = _drawn("many", 256);
        address liar = _seatOf(id, 2);
        uint256 stake = _stakeOf(liar);
        _vote(id, ALL, 0, ALL, 0, ALL & ~wrong, wrong);
        _finalize(id);
        uint256 leaves = 0;
        for (uint256 i = 0; i < 256; ++i) {
            leaves += (wrong >> i) & 1;
        }
        uint256 fine = leaves * 0.1 ether < 20 ether ? leaves * 0.1 ether : 20 ether;
        Check.eq(_stakeOf(liar) + fine, stake + (256 * FEE * (256 - leaves)) / (3 * 256), "to the wei");
    }

    function testAttackRejectingEverythingCostsTheCap() external {
        BatchId id = _drawn("all", 256);
        uint256 stake = _stakeOf(_seatOf(id, 2));
        _vote(id, ALL, 0, ALL, 0, 0, ALL);
        _finalize(id);
        Check.eq(stake - _stakeOf(_seatOf(id, 2)), 20 ether, "no more than silence after a commitment");
    }

    function testAttackASecondLieInABatchIsNotFree() external {
        BatchId id = _settled("two", 2);
        uint256 stake = _stakeOf(_seatOf(id, 0));
        _appeal(ALICE, id, 0, REJECTED);
        _appeal(ALICE, id, 1, REJECTED);
        _hear(id, 0, 0, 7);
        _hear(id, 1, 0, 7);
        _conclude(id, 0);
        uint256 once = stake - _stakeOf(_seatOf(id, 0));
        _concludeNow(id, 1);
        Check.eq(stake - _stakeOf(_seatOf(id, 0)), 2 * once, "each leaf that an appeal turned");
        Check.yes(once > 0, "is fined");
    }

    function testAttackAFineDoesNotBuyOffACanary() external {
        // Both leaves are bad and accepted by all; one is a canary, the other an appeal has turned before.
        BatchId id = _settled("canary", 2);
        uint256 stake = _stakeOf(_seatOf(id, 0));
        vm.prank(address(canaries));
        finality.noteCanaries(_headerOf(id), 2);
        _appeal(ALICE, id, 0, REJECTED);
        _appeal(ALICE, id, 1, REJECTED);
        _hear(id, 0, 0, 7);
        _hear(id, 1, 0, 7);
        _conclude(id, 0);
        Check.eq(stake - _stakeOf(_seatOf(id, 0)), 8 ether, "a wrong vote");
        _concludeNow(id, 1);
        Check.eq(stake - _stakeOf(_seatOf(id, 0)), 30 ether, "and up to a canary's penalty");
    }

    // Who was right pays nothing

    function testAttackRightAppealsInABatchCostTheirAppellantNothing() external {
        BatchId id = _settled("bad", 2);
        uint256 before = token.balanceOf(ALICE) + appeals.creditOf(ALICE);
        for (uint256 leaf = 0; leaf < 2; ++leaf) {
            _appeal(ALICE, id, leaf, REJECTED);
        }
        for (uint256 leaf = 0; leaf < 2; ++leaf) {
            _hear(id, leaf, 0, 7);
        }
        _conclude(id, 0);
        uint256 after_ = token.balanceOf(ALICE) + appeals.creditOf(ALICE) + BOND_1;
        Check.yes(after_ > before, "the first wins a prize");
        _concludeNow(id, 1);
        Check.yes(token.balanceOf(ALICE) + appeals.creditOf(ALICE) > after_, "and so does the second");
    }

    function testAttackAWrongRejectionCostsTheNodeThatAppealsNothing() external {
        BatchId id = _drawn("good", 1);
        _vote(id, 0, 1, 0, 1, 1, 0);
        uint256 before = _wealthOf(NODE);
        _appeal(NODE, id, 0, ACCEPTED);
        _hear(id, 0, 7, 0);
        _conclude(id, 0);
        _finalize(id);
        // The two who were wrong pay the jury, and one more.
        Check.eq(_wealthOf(NODE) - before, 1 ether, "a prize");
    }

    function testAttackAnHonestThirdSeatGainsByAppealing() external {
        BatchId id = _drawn("bad", 1);
        _vote(id, 1, 0, 1, 0, 0, 1);
        address honest = _seatOf(id, 2);
        uint256 before = _wealthOf(honest);
        _appeal(honest, id, 0, REJECTED);
        _hear(id, 0, 0, 7);
        _conclude(id, 0);
        _finalize(id);
        // Its share of the fee, and what two fines and the node's stake leave after the jury.
        Check.eq(_wealthOf(honest) - before, FEE / 3 + 1.1 ether, "and pays nothing");
    }

    function testAttackWhereTheWrongHaveNothingLeftTheJurySharesThat() external {
        BatchId id = _settled("bad", 1);
        for (uint256 i = 0; i < 3; ++i) {
            uint256 has = _stakeOf(_seatOf(id, i));
            address broke = _seatOf(id, i);
            vm.prank(address(batches));
            staking.slash(broke, has - 2 ether, address(0), 0, 0);
        }
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        uint256[] memory stakes = _stakesOf(_jury(id, 0));
        _voteAppeal(id, 0, 0, 7);
        _resolve(id, 0);
        _conclude(id, 0);
        uint256 pot = 3 ether + 0.1 ether; // half of what there was, and the node's part
        for (uint256 i = 0; i < 7; ++i) {
            Check.eq(_stakeOf(_juror(id, 0, i)) - stakes[i], pot / 7, "what there is");
        }
        Check.eq(appeals.creditOf(ALICE), BOND_1 + pot % 7, "who was right has the bond back");
    }

    // Nobody gains by being judged

    /// Whoever joins forces, node, client, seats, appellants and jurors: of stake that an appeal takes, half is gone.
    function testFuzz_attackNoCoalitionGainsByAppealingAgainstItself(uint256 random) external {
        uint256 before = _wealthOfAll();
        BatchId id = _drawn("coalition", 2);
        uint256[2][3] memory votes;
        for (uint256 i = 0; i < 3; ++i) {
            votes[i][0] = (random >> (4 * i)) & 3;
            votes[i][1] = (random >> (4 * i + 2)) & 3 & ~votes[i][0];
        }
        _vote(id, votes[0][0], votes[0][1], votes[1][0], votes[1][1], votes[2][0], votes[2][1]);
        for (uint256 leaf = 0; leaf < 2; ++leaf) {
            _appealAgainstItself(id, leaf, uint64(random >> (16 + 64 * leaf)));
        }
        _wait(_values().appealWindowSeconds + 1);
        vm.recordLogs();
        _concludeNow(id, 0);
        _concludeNow(id, 1);
        _finalize(id);
        uint256 slashed = _slashedByHalves();
        // Fees that nobody earned are gone as well, and what the client has is counted.
        Check.atMost(_wealthOfAll() + slashed / 2, before, "half of what was slashed is nobody's");
    }

    /// A node that has itself rejected, with its client, its seats and an appellant of its own; only the jury is not.
    function testAttackANodeAppealsAgainstItselfWithItsOwnSeats() external {
        BatchId id = _settled("own", 1);
        uint256 before = _wealthOf(NODE) + _wealthOf(ALICE);
        for (uint256 i = 0; i < 3; ++i) {
            before += _wealthOf(_seatOf(id, i));
        }
        _appeal(ALICE, id, 0, REJECTED);
        _hear(id, 0, 0, 7);
        _conclude(id, 0);
        _finalize(id);
        uint256 after_ = _wealthOf(NODE) + _wealthOf(ALICE) + payments.refundOf(id, 0);
        for (uint256 i = 0; i < 3; ++i) {
            after_ += _wealthOf(_seatOf(id, i));
        }
        // Half of 25 and seven fees.
        Check.eq(before - after_, 12.5 ether + 7 ether, "costs it");
    }

    /// An appeal that is lost on purpose: a bond may come back to the node, a fine never does.
    function testAttackLosingAnAppealOnPurposeTakesNothingFromWhoDissented() external {
        BatchId id = _drawn("dissent", 1);
        _vote(id, 1, 0, 1, 0, 0, 1);
        uint256 before = _wealthOf(NODE) + _wealthOf(ALICE);
        _appeal(ALICE, id, 0, REJECTED);
        // Three jurors are wrong, too.
        _hear(id, 0, 4, 3);
        _conclude(id, 0);
        Check.eq(before - _wealthOf(NODE) - _wealthOf(ALICE), 4 ether, "the jury's fees");
    }

    // Helpers

    /// Appeals a leaf, and mostly again, with juries that say anything.
    function _appealAgainstItself(BatchId id, uint256 leaf, uint64 random) private {
        IVerdicts.Verdict verdict = _verdictNow(id, leaf);
        IVerdicts.Verdict claim = verdict == ACCEPTED || (verdict != REJECTED && random % 2 == 0) ? REJECTED : ACCEPTED;
        _appeal(random % 3 == 0 ? NODE : ALICE, id, leaf, claim);
        uint256 accepts = (random >> 8) % 8;
        _hear(id, leaf, accepts, (random >> 16) % (8 - accepts));
        if (random % 4 == 0) return;
        verdict = appeals.caseOf(id, leaf).verdict;
        claim = verdict == ACCEPTED || (verdict != REJECTED && random % 5 == 0) ? REJECTED : ACCEPTED;
        _appealAgain(BOB, id, leaf, claim);
        accepts = (random >> 24) % 16;
        _hear(id, leaf, accepts, (random >> 32) % (16 - accepts));
    }

    function _verdictNow(BatchId id, uint256 leaf) private view returns (IVerdicts.Verdict verdict) {
        (verdict,) = finality.verdictOf(id, leaf);
    }

    /// Of all slashes that were recorded; each has given away half at most.
    function _slashedByHalves() private returns (uint256 sum) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != IStaking.Slashed.selector) continue;
            (, uint256 taken, uint256 given,,,) =
                abi.decode(logs[i].data, (uint256, uint256, uint256, uint256, uint256, uint256));
            Check.atMost(2 * given, taken, "half at most");
            sum += taken;
        }
    }

    function _wealthOfAll() private view returns (uint256 sum) {
        sum = _wealthOf(NODE) + _wealthOf(ALICE) + _wealthOf(BOB) + token.balanceOf(address(payments));
        for (uint256 i = 0; i < verifiers; ++i) {
            sum += _wealthOf(_verifier(i));
        }
    }

    function _wealthOf(address who) private view returns (uint256) {
        IStaking.Stake memory stake = staking.stakeOf(who);
        return token.balanceOf(who) + stake.active + stake.unbonding + staking.creditOf(who) + appeals.creditOf(who);
    }

    function _stakesOf(IStaking.Seat[] memory seats) private view returns (uint256[] memory stakes) {
        stakes = new uint256[](seats.length);
        for (uint256 i = 0; i < seats.length; ++i) {
            stakes[i] = _stakeOf(seats[i].verifier);
        }
    }

    function _stakeOf(address who) private view returns (uint256) {
        return staking.stakeOf(who).active;
    }

    function _scoreOf(address who) private view returns (uint256) {
        return reputation.scoreBps(who, Role.Verifier, model);
    }

    function _meritOf(address who) private view returns (uint256) {
        return reputation.recordOf(who, Role.Verifier, model).acceptedMicro;
    }
}
