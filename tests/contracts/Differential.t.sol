// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {IReputation} from "../../contracts/interfaces/IReputation.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {BatchId, Role} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {Check, Vm, vm} from "./Vm.sol";

/// @notice Drives batches that Python made up through the contracts and compares, to the wei, what becomes of them
/// with Python's model of a settlement: tests/vectors/settlement.json, `trine.protocol.settlement`.
contract DifferentialTest is AppealWorld {
    struct Seat {
        uint256 kind; // 0: does not commit; 1: does not reveal; 2: votes
        uint256 accepts;
        uint256 rejects;
        uint256 paid;
        uint256 penalty;
        uint256 counts; // of reputation, as `ReputationChanged` has them
    }

    /// @dev What accounts had before a batch; of the seats once they are drawn.
    struct Before {
        uint256 supply;
        uint256 stake;
        uint256 credit;
        uint256[3] stakes;
    }

    uint256 private constant NO_COMMIT = 0;
    uint256 private constant VOTES = 2;
    uint256 private constant COUNTS = (1 << 192) - 1;

    string private _json;
    uint256 private _runs;
    // Parsing the file takes long: each list is read once.
    mapping(string name => uint256[]) private _lists;
    mapping(BatchId id => mapping(address operator => mapping(uint256 role => uint256))) private _counted;

    function setUp() external {
        _appealWorld();
        _json = vm.readFile("tests/vectors/settlement.json");
        string[35] memory names = [
            "leaves", "stake_per_leaf", "refund_per_leaf", "fee_per_leaf", "wrong_vote_penalty", "no_reveal_penalty",
            "no_commit_penalty", "kind", "accepts", "rejects", "appealedLeaf", "appealVerdict", "settled_accepted",
            "settled_rejected", "final_accepted", "final_rejected", "paid", "penalty", "counts", "fee", "fee_burned",
            "node_lost", "refunds", "node_counts", "tokens", "fee_per_token",
            "concluded_at", "finalized_at", "node_score", "dissent_fine", "overturned_fine",
            "canary_penalty", "canaries", "settled_unavailable", "final_unavailable"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            bytes32[] memory words = vm.parseJsonBytes32Array(_json, string.concat(".", names[i]));
            for (uint256 k = 0; k < words.length; ++k) {
                _lists[names[i]].push(uint256(words[k]));
            }
        }
        _runs = _lists["leaves"].length;
    }

    function testTheContractsDoWhatPythonSays() external {
        Check.yes(_runs >= 40, "there are runs");
        uint256 appealed = 0;
        uint256 withCanaries = 0;
        for (uint256 run = 0; run < _runs; ++run) {
            _run(run);
            if (_of("appealedLeaf", run) > 0) ++appealed;
            if (_of("canaries", run) > 0) ++withCanaries;
        }
        Check.yes(withCanaries >= 5, "some have canaries");
        Check.yes(appealed >= 5 && appealed < _runs, "some are appealed");
    }

    function _run(uint256 run) private {
        uint256 leaves = _of("leaves", run);
        parameters.set(_terms(run));
        // Enough for all leaves, whatever runs before have cost.
        require(token.transfer(NODE, 300 ether));
        vm.startPrank(NODE);
        staking.stake(256 ether);
        staking.addCredit(20 ether);
        vm.stopPrank();
        Before memory before;
        before.supply = token.totalSupply();
        before.stake = staking.stakeOf(NODE).active;
        before.credit = staking.creditOf(NODE);

        BatchId id = _anchor(_root(keccak256(abi.encode("run", run)), _of("tokens", run)), leaves);
        Check.eq(staking.stakeOf(NODE).locked, _of("stake_per_leaf", run) * leaves, "locked for the leaves");
        Check.eq(before.credit - staking.creditOf(NODE), _of("fee", run), "fee");
        _draw(id);
        for (uint256 i = 0; i < 3; ++i) {
            before.stakes[i] = staking.stakeOf(_seatOf(id, i)).active;
        }
        vm.recordLogs();
        _ballots(id, run);
        _count(id);
        Check.eq(uint256(batches.batchOf(id).state), uint256(IBatches.State.Settled), "settled");
        Check.eq(batches.batchOf(id).accepted, _of("settled_accepted", run), "settled: accepted");
        Check.eq(batches.batchOf(id).rejected, _of("settled_rejected", run), "settled: rejected");
        Check.eq(batches.batchOf(id).unavailable, _of("settled_unavailable", run), "settled: unavailable");

        if (_of("canaries", run) > 0) {
            vm.prank(address(canaries));
            finality.noteCanaries(_headerOf(id), _of("canaries", run));
        }
        uint256 appealedLeaf = _of("appealedLeaf", run);
        if (appealedLeaf > 0) _appealTo(id, run, appealedLeaf - 1);
        _waitUntil(_of("finalized_at", run));
        vm.recordLogs();
        _finalizeNow(id);
        _count(id);
        _compareWords(id, run);
        _compareSeats(id, run, before);
        _compareNode(id, run, before);
        if (appealedLeaf > 0) return;
        // An appeal moves bonds and bounties, too.
        uint256 burned = _of("fee_burned", run) + _of("node_lost", run) - _of("refunds", run);
        for (uint256 i = 0; i < 3; ++i) {
            burned += _seatOfRun(run, i).penalty;
        }
        Check.eq(before.supply - token.totalSupply(), burned, "burned");
    }

    /// Votes as the run says; where a seat is silent, its time passes.
    function _ballots(BatchId id, uint256 run) private {
        uint256 committed = 0;
        uint256 revealed = 0;
        for (uint256 i = 0; i < 3; ++i) {
            Seat memory seat = _seatOfRun(run, i);
            if (seat.kind == NO_COMMIT) continue;
            _commit(id, i, seat.accepts, seat.rejects);
            ++committed;
        }
        // With all commitments there, the time to reveal begins at once.
        if (committed < 3) _wait(batches.batchOf(id).clock - timestamp + 1);
        for (uint256 i = 0; i < 3; ++i) {
            Seat memory seat = _seatOfRun(run, i);
            if (seat.kind != VOTES) continue;
            _reveal(id, i, seat.accepts, seat.rejects);
            ++revealed;
        }
        if (revealed == 3) return; // the last vote settled
        _wait(_values().revealSeconds + 1);
        _settle(id);
    }

    /// Somebody appeals, and seven agree.
    function _appealTo(BatchId id, uint256 run, uint256 leaf) private {
        IVerdicts.Verdict verdict = IVerdicts.Verdict(_of("appealVerdict", run));
        _appeal(ALICE, id, leaf, verdict == UNAVAILABLE ? REJECTED : verdict);
        _drawAppeal(id, leaf);
        if (verdict == UNAVAILABLE) _hideFrom(id, leaf);
        else _voteAppeal(id, leaf, verdict == ACCEPTED ? 7 : 0, verdict == REJECTED ? 7 : 0);
        _resolve(id, leaf);
        _waitUntil(_of("concluded_at", run));
        vm.recordLogs();
        _concludeNow(id, leaf);
        _count(id);
    }

    /// Scores depend on the time, so Python says when.
    function _waitUntil(uint256 time) private {
        _wait(time - timestamp);
    }

    function _compareWords(BatchId id, uint256 run) private view {
        (uint256 leaves, uint256 accepted, uint256 rejected, uint256 unavailable,, bool isFinal) = batches.resultOf(id);
        Check.eq(leaves, _of("leaves", run), "leaves");
        Check.eq(accepted, _of("final_accepted", run), "final: accepted");
        Check.eq(rejected, _of("final_rejected", run), "final: rejected");
        Check.eq(unavailable, _of("final_unavailable", run), "final: unavailable");
        Check.yes(isFinal, "final");
    }

    function _compareSeats(BatchId id, uint256 run, Before memory before) private view {
        for (uint256 i = 0; i < 3; ++i) {
            Seat memory seat = _seatOfRun(run, i);
            address verifier = _seatOf(id, i);
            IStaking.Stake memory stake = staking.stakeOf(verifier);
            Check.eq(stake.active, before.stakes[i] + seat.paid - seat.penalty, "a seat's stake");
            Check.eq(stake.locked, 0, "a seat is free");
            Check.eq(_counted[id][verifier][uint256(Role.Verifier)], seat.counts, "a seat's reputation");
        }
    }

    function _compareNode(BatchId id, uint256 run, Before memory before) private view {
        Check.eq(before.stake - staking.stakeOf(NODE).active, _of("node_lost", run), "the node's loss");
        Check.eq(staking.stakeOf(NODE).locked, 0, "the node's stake is free");
        Check.eq(before.credit - staking.creditOf(NODE), _of("fee", run), "the node pays the fee");
        Check.eq(_counted[id][NODE][uint256(Role.Node)], _of("node_counts", run), "the node's reputation");
        Check.eq(reputation.scoreBps(NODE, Role.Node, model), _of("node_score", run), "the node's score");
        uint256 refunds = 0;
        uint256 failed = _of("final_rejected", run) | _of("final_unavailable", run);
        for (uint256 leaf = 0; leaf < _of("leaves", run); ++leaf) {
            if ((failed >> leaf) & 1 == 1) refunds += payments.refundOf(id, leaf);
        }
        Check.eq(refunds, _of("refunds", run), "refunds");
    }

    /// Adds up what the events since the last recording say on the batch.
    function _count(BatchId id) private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != IReputation.ReputationChanged.selector) continue;
            if (logs[i].topics[3] != BatchId.unwrap(id)) continue;
            uint256 change = abi.decode(logs[i].data, (uint256));
            _counted[id][address(uint160(uint256(logs[i].topics[1])))][change >> 208] += change & COUNTS;
        }
    }

    function _terms(uint256 run) private view returns (IParameters.Values memory values) {
        values = _values();
        values.stakePerLeafWei = uint96(_of("stake_per_leaf", run));
        values.refundPerLeafWei = uint96(_of("refund_per_leaf", run));
        values.verifierFeePerLeafWei = uint64(_of("fee_per_leaf", run));
        values.verifierFeePerTokenWei = uint56(_of("fee_per_token", run));
        values.dissentFineWei = uint96(_of("dissent_fine", run));
        values.overturnedFineWei = uint96(_of("overturned_fine", run));
        values.canaryPenaltyWei = uint96(_of("canary_penalty", run));
        values.appealFeePerSeatWei = values.overturnedFineWei / 7;
        values.wrongVotePenaltyWei = uint96(_of("wrong_vote_penalty", run));
        values.noRevealPenaltyWei = uint96(_of("no_reveal_penalty", run));
        values.noCommitPenaltyWei = uint96(_of("no_commit_penalty", run));
    }

    function _seatOfRun(uint256 run, uint256 seat) private view returns (Seat memory) {
        uint256 i = 3 * run + seat;
        return Seat(
            _of("kind", i), _of("accepts", i), _of("rejects", i), _of("paid", i), _of("penalty", i), _of("counts", i)
        );
    }

    function _of(string memory name, uint256 i) private view returns (uint256) {
        return _lists[name][i];
    }
}
