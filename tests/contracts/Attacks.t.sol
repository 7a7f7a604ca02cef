// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAppeals} from "../../contracts/interfaces/IAppeals.sol";
import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {ISeeds} from "../../contracts/interfaces/ISeeds.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerifierKeys} from "../../contracts/interfaces/IVerifierKeys.sol";
import {CertificateLib} from "../../contracts/libraries/CertificateLib.sol";
import {LeafLib, Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, Header, ModelId, Role} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {BlsSigner} from "./BlsSigner.sol";
import {Trees} from "./Trees.sol";
import {Check, vm} from "./Vm.sol";

/// @notice Who tries what, and what it costs: balances are compared over all accounts of the attacker together.
contract AttacksTest is AppealWorld {
    uint256 private constant CLIENT_KEY = 0xC11E47;
    uint256 private constant FEE_WEI = 0.3 ether;

    address private _client;
    address[] private _gang;
    uint256 private _chain; // here, because the compiler reads the block's again whenever it likes

    function setUp() external {
        _calibratedWorld(14);
        _fund(ALICE);
        _client = vm.addr(CLIENT_KEY);
        _fund(_client);
        vm.prank(NODE);
        staking.openDelegation(type(uint256).max, 0);
        _chain = block.chainid;
    }

    // Votes

    function testAttackCopyingACommitmentCostsASilentVote() external {
        BatchId id = _drawn("root", 2);
        address copier = _seatOf(id, 1);
        IStaking.Seat[] memory seats = _seatsOf(id);
        bytes32 copied = _commitment(id, seats[0].verifier, 3, 0);
        _commit(id, 0, 3, 0);
        vm.prank(copier);
        batches.commit(id, seats, 1, copied);
        _commit(id, 2, 3, 0);
        _reveal(id, 0, 3, 0);
        vm.expectPartialRevert(IBatches.BatchesCommitmentMismatch.selector);
        _reveal(id, 1, 3, 0);
        _reveal(id, 2, 3, 0);
        _is(copier);
        uint256 before = _wealth();
        _wait(61);
        _settle(id);
        _finalize(id);
        Check.eq(before - _wealth(), 25 ether, "silence after a commitment");
    }

    function testAttackCopyingARevealIsTooLate() external {
        BatchId id = _drawn("root", 2);
        _commit(id, 0, 3, 0);
        // Nothing is told as long as anybody can commit.
        vm.expectPartialRevert(IBatches.BatchesDeadlineNotReached.selector);
        _reveal(id, 0, 3, 0);
        _wait(121);
        _reveal(id, 0, 3, 0);
        vm.expectPartialRevert(IBatches.BatchesDeadlinePassed.selector);
        _tryCommit(id, 1);
    }

    function testAttackOneSilentOfThreeStopsNothingAndCostsMoreThanAWrongVote() external {
        BatchId id = _drawn("root", 2);
        _is(_seatOf(id, 0));
        uint256 before = _wealth();
        for (uint256 i = 0; i < 3; ++i) {
            _commit(id, i, 3, 0);
        }
        _reveal(id, 1, 3, 0);
        _reveal(id, 2, 3, 0);
        _wait(61);
        _settle(id);
        _finalize(id);
        Check.eq(batches.batchOf(id).accepted, 3, "settled without it");
        uint256 silent = before - _wealth();
        _nextEpoch();
        BatchId other = _drawn("other", 2);
        _is(_seatOf(other, 0));
        before = _wealth();
        _vote(other, 0, 3, 3, 0, 3, 0);
        _finalize(other);
        uint256 wrong = before - _wealth();
        Check.eq(wrong, 0.2 ether, "two wrong leaves");
        Check.eq(silent, 25 ether, "silence is dearer");
    }

    function testAttackTwoSilentOfThreeEachPayAndOnlyDelay() external {
        BatchId id = _drawn("root", 2);
        _is(_seatOf(id, 0));
        _gang.push(_seatOf(id, 1));
        address honest = _seatOf(id, 2);
        uint256 stake = staking.stakeOf(honest).active;
        uint256 before = _wealth();
        for (uint256 i = 0; i < 3; ++i) {
            _commit(id, i, 3, 0);
        }
        _reveal(id, 2, 3, 0);
        _wait(61);
        _settle(id);
        Check.eq(before - _wealth(), 50 ether, "25 each");
        Check.eq(staking.stakeOf(honest).active, stake, "who spoke loses nothing");
        Check.eq(staking.stakeOf(honest).locked, 0, "and is free");
        _draw(id);
        _vote(id, 3, 0, 3, 0, 3, 0);
        Check.eq(_state(id), uint256(IBatches.State.Settled), "by the next committee");
    }

    function testAttackVoidingABatchBySilenceCostsTheSilentTenTimesWhatItCostsTheNode() external {
        BatchId id = _anchor("root", 2);
        _is(NODE);
        uint256 before = _wealth();
        uint256 lost = 0;
        for (uint256 round = 0; round < 2; ++round) {
            _draw(id);
            uint256 stakes = 0;
            for (uint256 i = 0; i < 3; ++i) {
                stakes += staking.stakeOf(_seatOf(id, i)).active;
            }
            _wait(121);
            _settle(id);
            for (uint256 i = 0; i < 3; ++i) {
                stakes -= staking.stakeOf(_seatOf(id, i)).active;
            }
            lost += stakes;
        }
        Check.eq(_state(id), uint256(IBatches.State.Void), "nobody judged it");
        Check.eq(lost, 60 ether, "10 each");
        Check.eq(_wealth(), before, "the node has lost the fee that it had paid, no more");
        Check.eq(staking.stakeOf(NODE).locked, 0, "its stake is free");
    }

    function testAttackAVoteOfAVoidBatchIsNobodysWhenTheBatchIsAnchoredAgain() external {
        BatchId id = _drawn("root", 2);
        for (uint256 round = 0; round < 2; ++round) {
            // One of three votes, and rejects leaf 0.
            _commit(id, 0, 2, 1);
            _commit(id, 1, 2, 1);
            _wait(121);
            _reveal(id, 0, 2, 1);
            _wait(61);
            _settle(id);
            if (round == 0) _draw(id);
        }
        Check.eq(_state(id), uint256(IBatches.State.Void), "nobody judged it");
        _nextEpoch();
        _drawn("root", 2);
        // Seat 0 cannot tell what leaf 1 is; the others reject it.
        _vote(id, 1, 0, 1, 2, 1, 2);
        (, uint256 accepts, uint256 rejects) = batches.voteOf(id, 0, 0);
        Check.eq(accepts, 1, "accepted leaf 0");
        Check.eq(rejects, 0, "and rejected none");
        Check.eq(batches.batchOf(id).accepted, 1, "accepted");
        Check.eq(batches.batchOf(id).rejected, 2, "rejected");
    }

    // Stake

    function testAttackLeavingBeforeTheSlash() external {
        _is(NODE);
        BatchId id = _drawn("root", 4);
        uint256 before = _wealth();
        vm.startPrank(NODE);
        staking.unbond(NODE, STAKE);
        vm.expectPartialRevert(IStaking.StakingStillUnbonding.selector);
        staking.withdraw(NODE);
        vm.stopPrank();
        _vote(id, 0, 15, 0, 15, 0, 15);
        _finalize(id);
        Check.eq(before - _wealth(), 4 ether, "slashed all the same");
        _wait(UNBONDING);
        vm.prank(NODE);
        Check.eq(staking.withdraw(NODE), STAKE - 4 ether, "what is left");
        Check.eq(staking.stakeOf(NODE).active, 0, "nothing else");
    }

    function testAttackLeavingWhileNobodySettles() external {
        BatchId id = _drawn("root", 4);
        vm.prank(NODE);
        staking.unbond(NODE, STAKE);
        _wait(UNBONDING);
        // Time alone does not release what is locked, and a part of a ticket cannot be had.
        vm.startPrank(NODE);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StakingStillLocked.selector, 0, 4 ether));
        staking.withdraw(NODE);
        vm.stopPrank();
        _settle(id);
        _draw(id);
        _vote(id, 0, 15, 0, 15, 0, 15);
        _finalize(id);
        vm.prank(NODE);
        Check.eq(staking.withdraw(NODE), STAKE - 4 ether, "slashed");
    }

    function testAttackMakingASlashFailByWhatAnOperatorChooses() external {
        for (uint256 kind = 0; kind < 5; ++kind) {
            BatchId id = _anchor(bytes32(kind + 1), 4);
            vm.startPrank(NODE);
            if (kind == 0) staking.setEndpoint(string(new bytes(256)));
            if (kind == 1) staking.setCommission(5000);
            vm.stopPrank();
            if (kind == 2) _delegateTo(NODE, 1e9);
            // A contract that refuses every call.
            if (kind == 3) vm.etch(NODE, hex"5f5ffd");
            if (kind == 4) _unbond(NODE, NODE, staking.stakeOf(NODE).own);
            _draw(id);
            _vote(id, 0, 15, 0, 15, 0, 15);
            uint256 before = staking.stakeOf(NODE).active + staking.stakeOf(NODE).unbonding;
            _finalize(id);
            uint256 left = staking.stakeOf(NODE).active + staking.stakeOf(NODE).unbonding;
            Check.eq(before - left, 4 ether, "slashed");
            _nextEpoch();
        }
    }

    function testAttackLeavingDustBehind() external {
        // Everything but a gwei unbonds, and the slash takes from both pools in proportion.
        BatchId id = _anchor("root", 4);
        _unbond(NODE, NODE, STAKE - 1e9);
        _draw(id);
        _vote(id, 0, 15, 0, 15, 0, 15);
        _finalize(id);
        IStaking.Stake memory stake = staking.stakeOf(NODE);
        Check.eq(stake.active + stake.unbonding, STAKE - 4 ether, "slashed");
    }

    function testAttackExitByOverflowingPeriods() external {
        address[8] memory eight = [ALICE, ALICE, ALICE, ALICE, ALICE, ALICE, ALICE, ALICE];
        bytes memory code = vm.getCode("Staking");
        uint256[4] memory delays = [uint256(0), 59, 90 days + 1, type(uint256).max];
        for (uint256 i = 0; i < 4; ++i) {
            Check.eq(_create(bytes.concat(code, abi.encode(eight, delays[i]))), address(0), "unbonding delay");
        }
        Check.yes(_create(bytes.concat(code, abi.encode(eight, 90 days))) != address(0), "within bounds");
        address[5] memory five = [ALICE, ALICE, ALICE, ALICE, ALICE];
        code = vm.getCode("Payments");
        uint256[4] memory notices = [uint256(0), 1 hours - 1, 30 days + 1, type(uint64).max];
        for (uint256 i = 0; i < 4; ++i) {
            Check.eq(_create(bytes.concat(code, abi.encode(five, notices[i], ALICE))), address(0), "notice");
        }
        vm.startPrank(ALICE);
        vm.expectPartialRevert(IStaking.StakingCommissionOutOfBounds.selector);
        staking.setCommission(5001);
        vm.expectPartialRevert(IStaking.StakingCommissionOutOfBounds.selector);
        staking.setCommission(type(uint16).max);
        vm.stopPrank();
        // Nor does governance outlast the delay by values that are each within bounds.
        for (uint256 i = 0; i < 4; ++i) {
            IParameters.Values memory values = _values();
            if (i == 0) values.commitSeconds = 7 days;
            if (i == 1) values.revealSeconds = 7 days;
            if (i == 2) values.appealWindowSeconds = 7 days;
            if (i == 3) (values.maxRounds, values.commitSeconds) = (8, 1 days);
            vm.expectPartialRevert(IParameters.ParametersLifeTooLong.selector);
            parameters.set(values);
        }
    }

    function testAttackASecondTicketDoesNotShortenTheFirst() external {
        _unbond(ALICE, ALICE, 100 ether);
        _wait(UNBONDING - 1);
        _unbond(ALICE, ALICE, 1e9);
        _wait(1);
        vm.startPrank(ALICE);
        vm.expectPartialRevert(IStaking.StakingStillUnbonding.selector);
        staking.withdraw(ALICE);
        vm.stopPrank();
    }

    function testAttackSlashingOneselfAsAnExit() external {
        // Node and client are one: 200 leaves are bad on purpose, and refunded.
        _is(NODE);
        _gang.push(_client);
        uint256 before = _wealth();
        Receipt[] memory receipts = _receipts(200, 1 ether);
        BatchId id = _rejected(receipts);
        for (uint256 i = 0; i < 200; i += 10) {
            payments.refund(id, Trees.open(receipts, i, NO_CANARY));
        }
        uint256 refunded = 20 * 0.4 ether;
        Check.eq(before - _wealth(), 200 ether + 6 ether - refunded, "all of the stake, less the refunds");
        Check.yes(2 * 0.4 ether <= 1 ether, "of which there is less than half");
        // And it was not faster than unbonding for the rest.
        Check.eq(staking.stakeOf(NODE).active, STAKE - 200 ether, "the rest is where it was");
    }

    function testAttackAppealingAgainstOneselfAsAnExit() external {
        BatchId id = _drawn("root", 1);
        _vote(id, 1, 0, 1, 0, 1, 0);
        // All three judges and the appellant are one.
        _is(_seatOf(id, 0));
        _gang.push(_seatOf(id, 1));
        _gang.push(_seatOf(id, 2));
        uint256 before = _wealth();
        _appeal(_gang[0], id, 0, REJECTED);
        _hear(id, 0, 0, 7);
        _conclude(id, 0);
        _finalize(id);
        Check.eq(before - _wealth(), 12 ether + 7 ether - 0.1 ether, "half of the fines, and the jury's fees");
    }

    function testAttackStealingBySharesThatAreRounded() external {
        // A delegator with dust, a thousand wei at a time, in a pool whose price is odd after a slash.
        BatchId id = _drawn("root", 3);
        _vote(id, 0, 7, 0, 7, 0, 7);
        _finalize(id);
        (uint256 victim,) = staking.delegationOf(NODE, NODE);
        _is(ALICE);
        uint256 before = _wealth();
        uint256 held = 0;
        for (uint256 i = 0; i < 40; ++i) {
            vm.prank(ALICE);
            staking.delegate(NODE, 1e9 + i * 7919, 0);
            held += 1e9 + i * 7919;
            (uint256 some,) = staking.delegationOf(NODE, ALICE);
            _unbond(ALICE, NODE, some > 1e9 ? 1e9 : some);
        }
        (uint256 worth,) = staking.delegationOf(NODE, ALICE);
        (, uint256 ticket) = staking.ticketOf(NODE, ALICE);
        Check.atMost(worth + ticket, held, "never more than was put in");
        Check.atMost(held - worth - ticket, 200, "a few wei are lost on the way");
        (uint256 now_,) = staking.delegationOf(NODE, NODE);
        Check.yes(now_ >= victim, "the pool loses nothing");
        Check.atMost(_wealth() + worth + ticket, before, "all together");
    }

    function testFuzz_attackInAndOutOfAPoolNeverPays(uint256 a, uint256 b, uint256 c) external {
        BatchId id = _drawn("root", 3);
        _vote(id, 0, 7, 0, 7, 0, 7);
        a = 1e9 + a % 100 ether;
        (uint256 victim,) = staking.delegationOf(NODE, NODE);
        vm.prank(ALICE);
        staking.delegate(NODE, a, 0);
        (uint256 worth,) = staking.delegationOf(NODE, ALICE);
        Check.atMost(worth, a, "worth");
        b = 1e9 + b % worth;
        if (b > worth) b = worth;
        _unbond(ALICE, NODE, b);
        (worth,) = staking.delegationOf(NODE, ALICE);
        (, uint256 ticket) = staking.ticketOf(NODE, ALICE);
        Check.atMost(worth + ticket, a, "in and out");
        (uint256 now_,) = staking.delegationOf(NODE, NODE);
        Check.yes(now_ >= victim, "the victim's");
        // A slash between does not change that.
        _finalize(id);
        (worth,) = staking.delegationOf(NODE, ALICE);
        if (c % 2 == 0 && worth > 0) _unbond(ALICE, NODE, worth > 1e9 ? 1e9 : worth);
        (worth,) = staking.delegationOf(NODE, ALICE);
        (, ticket) = staking.ticketOf(NODE, ALICE);
        Check.atMost(worth + ticket, a, "after a slash");
    }

    function testAttackDustDelegatedToANodeTakesNothingFromIt() external {
        _delegateTo(NODE, 1e9);
        _is(NODE);
        uint256 before = _wealth();
        _deposit(NODE, 10 ether);
        _collect(NODE, 10 ether);
        _wait(7 days);
        // What the node earns goes to its pool now, of which the dust has next to nothing.
        uint256 gained = _wealth() - before;
        Check.atMost(10 ether - gained, 1e8, "the node's all the same");
        (uint256 worth,) = staking.delegationOf(NODE, ALICE);
        Check.atMost(worth, 1e9 + 1e8, "not the delegator's");
    }

    // Randomness

    function testAttackMovingADrawWithStakeOnceTheSeedIsKnown() external {
        BatchId id = _anchor("root", 1);
        uint256 seedBlock = batches.batchOf(id).clock;
        address[] memory before = _named(id);
        for (uint256 i = 0; i < 5; ++i) {
            vm.prank(_verifier(i));
            staking.stake(STAKE);
            committees.refresh(model, _verifier(i));
            _unbond(_verifier(i + 5), _verifier(i + 5), STAKE);
        }
        // Not even at the end of the window, in the next epoch.
        _reach(seedBlock + EPOCH_BLOCKS);
        _draw(id);
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(_seatOf(id, i), before[i], "the same committee");
        }
    }

    function testAttackLeavingThePoolSoThatNoJuryCanBeDrawnTakesNoBond() external {
        BatchId id = _settled("cheat", 1);
        // The seed's block is of the next epoch, so who leaves in this one does not weigh there.
        _reach((blockNumber / EPOCH_BLOCKS + 1) * EPOCH_BLOCKS - 1);
        _appeal(ALICE, id, 0, REJECTED);
        for (uint256 i = 0; i < 5; ++i) {
            address leaving = _outside(id, i);
            _unbond(leaving, leaving, STAKE);
        }
        IAppeals.Case memory appealed = appeals.caseOf(id, 0);
        _reach(appealed.clock + 1);
        _showSeed(appealed.clock, appealed.fixedAt);
        appeals.draw(_headerOf(id), 0, _judges(id, 0, 1));
        Check.eq(uint256(appeals.caseOf(id, 0).phase), uint256(IAppeals.Phase.Resolved), "there is no jury");
        _verdictOf(id, 0, ACCEPTED, false);
        uint256 supply = token.totalSupply();
        _conclude(id, 0);
        Check.eq(appeals.creditOf(ALICE), BOND_1, "nobody was heard");
        Check.eq(token.totalSupply(), supply, "nothing is burned");
        _finalize(id);
    }

    function testOnlyAPoolThatIsTooSmallEndsAnAppealWithoutAJury() external {
        BatchId id = _settled("cheat", 1);
        _appeal(ALICE, id, 0, REJECTED);
        IAppeals.Case memory appealed = appeals.caseOf(id, 0);
        _reach(appealed.clock + 1);
        Header memory header = _headerOf(id);
        IStaking.Seat[][] memory judges = _judges(id, 0, 1);
        vm.expectPartialRevert(ISeeds.SeedsNotRecorded.selector);
        appeals.draw(header, 0, judges);
        _showSeed(appealed.clock, appealed.fixedAt);
        // With little gas the draw fails inside: that says nothing of the pool.
        bytes memory call = abi.encodeCall(IAppeals.draw, (header, 0, judges));
        for (uint256 gas_ = 100_000; gas_ <= 400_000; gas_ += 20_000) {
            uint256 before = vm.snapshotState();
            (bool done,) = address(appeals).call{gas: gas_}(call);
            IAppeals.Phase phase = appeals.caseOf(id, 0).phase;
            Check.yes(phase == (done ? IAppeals.Phase.Drawn : IAppeals.Phase.Open), "drawn or nothing");
            require(vm.revertToState(before));
        }
    }

    function testAttackNeitherNodeNorClientKnowsTheSeedWhenTheRootIsFixed() external {
        BatchId id = _anchor("root", 1);
        Check.yes(batches.batchOf(id).clock > blockNumber, "a later block's hash");
        Header memory header = _headerOf(id);
        vm.expectPartialRevert(IBatches.BatchesSeedBlockNotReached.selector);
        batches.draw(header);
        // Not even when it is the current block.
        _reach(batches.batchOf(id).clock);
        vm.expectPartialRevert(IBatches.BatchesSeedBlockNotReached.selector);
        batches.draw(header);
    }

    function testAttackLettingADrawExpireCostsTheFeeAndALeafsStake() external {
        _is(NODE);
        uint256 before = _wealth();
        BatchId id = _anchor("root", 10);
        _reach(batches.batchOf(id).clock + EPOCH_BLOCKS + 1);
        _expire(id);
        Check.eq(before - _wealth(), 0.3 ether + 1 ether, "each time");
        _anchor("root", 10);
        _reach(batches.batchOf(id).clock + EPOCH_BLOCKS + 1);
        _expire(id);
        Check.eq(before - _wealth(), 2.6 ether, "again");
    }

    function testAttackAnchoringTheSameRootAgainIsNoSecondDraw() external {
        BatchId id = _anchor("root", 1);
        bytes memory refused = abi.encodeWithSelector(IBatches.BatchesAlreadyAnchored.selector, id);
        vm.startPrank(NODE);
        vm.expectRevert(refused);
        batches.anchor(model, "root", NO_CANARY, 1);
        // With another number of leaves it is the same batch, too.
        vm.expectRevert(refused);
        batches.anchor(model, "root", NO_CANARY, 2);
        vm.stopPrank();
        _draw(id);
        _vote(id, 0, 1, 0, 1, 0, 1);
        vm.prank(NODE);
        vm.expectRevert(refused);
        batches.anchor(model, "root", NO_CANARY, 1);
        _finalize(id);
        vm.prank(NODE);
        vm.expectRevert(refused);
        batches.anchor(model, "root", NO_CANARY, 1);
    }

    function testAttackAnchoringTheSameAnswersUnderManyCommitmentsIsJudgedEachTime() external {
        // Ten canary words give ten draws, and ten verdicts: bad answers are slashed ten times.
        _is(NODE);
        uint256 before = _wealth();
        for (uint256 i = 0; i < 10; ++i) {
            BatchId id = _anchor("root", bytes32(i + 1), 1);
            _draw(id);
            _vote(id, 0, 1, 0, 1, 0, 1);
            _finalize(id);
            _nextEpoch();
        }
        Check.eq(before - _wealth(), 10 * 1.03 ether, "fee and stake, each time");
    }

    // Merkle trees

    function testAttackAnInnerNodeOrPaddingIsNoLeaf() external {
        Receipt[] memory receipts = _receipts(4, FEE_WEI);
        BatchId id = _anchor(Trees.root(receipts), 2);
        _draw(id);
        _vote(id, 0, 3, 0, 3, 0, 3);
        _finalize(id);
        // Shorter and longer ways to the root.
        Opening memory opening = Trees.open(receipts, 0, NO_CANARY);
        bytes32[] memory proof = opening.proof;
        opening.proof = new bytes32[](7);
        for (uint256 i = 0; i < 7; ++i) {
            opening.proof[i] = proof[i + 1];
        }
        _notRefunded(id, opening, IPayments.PaymentsBadOpening.selector);
        opening.proof = new bytes32[](9);
        _notRefunded(id, opening, IPayments.PaymentsBadOpening.selector);
        // Another position of the same receipt.
        opening = Trees.open(receipts, 0, NO_CANARY);
        opening.index = 1;
        _notRefunded(id, opening, IPayments.PaymentsBadOpening.selector);
        // In the tree, beyond the batch.
        opening = Trees.open(receipts, 2, NO_CANARY);
        _notRefunded(id, opening, IPayments.PaymentsNotRejected.selector);
        // Beyond the tree: the empty leaf is no receipt's hash.
        opening.index = 255;
        _notRefunded(id, opening, IPayments.PaymentsNotRejected.selector);
        opening.index = 256;
        _notRefunded(id, opening, IPayments.PaymentsNotRejected.selector);
        payments.refund(id, Trees.open(receipts, 1, NO_CANARY));
    }

    function testFuzz_attackNoReceiptHashesToAnInnerNode(uint256 index, bytes32 a, bytes32 b) external view {
        // A leaf is the hash of 32 bytes, an inner node of 64. Nodes that count no more tokens than fit.
        (a, b) = (_root(a, uint32(uint256(a)) / 2), _root(b, uint32(uint256(b)) / 2));
        Receipt[] memory receipts = _receipts(1, FEE_WEI);
        (receipts[0].inputHash, receipts[0].outputHash) = (a, b);
        Check.yes(LeafLib.leafHash(index, receipts[0]) != Trees.pair(a, b), "apart");
    }

    function testAttackTheSameReceiptTwicePaysNobodyTwice() external {
        // Twice in a batch and once in another: each position is a leaf of its own, with stake of its own.
        Receipt[] memory receipts = _receipts(2, FEE_WEI);
        receipts[1] = receipts[0];
        _is(NODE);
        _gang.push(_client);
        uint256 before = _wealth();
        BatchId id = _rejected(receipts);
        Receipt[] memory one = new Receipt[](1);
        one[0] = receipts[0];
        BatchId other = _rejected(one);
        payments.refund(id, Trees.open(receipts, 0, NO_CANARY));
        payments.refund(id, Trees.open(receipts, 1, NO_CANARY));
        payments.refund(other, Trees.open(one, 0, NO_CANARY));
        Check.eq(before - _wealth(), 3 * (1 ether + 0.03 ether - FEE_WEI), "the node pays for each");
        Opening memory opening = Trees.open(receipts, 0, NO_CANARY);
        _notRefunded(id, opening, IPayments.PaymentsNothingToRefund.selector);
    }

    function testAttackARequestIsAnsweredOnceHoweverOftenItsReceiptIsALeaf() external {
        bytes32 requestId = _post(_client, 0);
        Receipt[] memory receipts = _receipts(2, FEE_WEI);
        receipts[0].requestHash = requestId;
        receipts[1] = receipts[0];
        BatchId id = _anchor(Trees.root(receipts), 2);
        _draw(id);
        _vote(id, 3, 0, 3, 0, 3, 0);
        Opening memory opening = Trees.open(receipts, 0, NO_CANARY);
        requests.fulfil(requestId, id, opening, "answer");
        opening = Trees.open(receipts, 1, NO_CANARY);
        vm.expectPartialRevert(IRequests.RequestsNotOpen.selector);
        requests.fulfil(requestId, id, opening, "answer");
    }

    // Payments

    function testAttackReplayingAVoucher() external {
        _deposit(NODE, 10 ether);
        _collect(NODE, 4 ether);
        IPayments.Voucher memory voucher = IPayments.Voucher(_client, NODE, 4 ether, 4 ether, 0);
        bytes memory signature = _signVoucher(address(payments), voucher);
        vm.startPrank(NODE);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNothingToCollect.selector, 4 ether, 4 ether));
        payments.collect(voucher, signature);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNothingToCollect.selector, 4 ether, 4 ether));
        payments.collect(voucher, signature);
        vm.stopPrank();
        voucher.cumulativeWei = 3 ether;
        signature = _signVoucher(address(payments), voucher);
        vm.prank(NODE);
        vm.expectPartialRevert(IPayments.PaymentsNothingToCollect.selector);
        payments.collect(voucher, signature);
    }

    function testAttackReplayingAVoucherOnAnotherChainOrContract() external {
        address[5] memory five =
            [address(token), address(staking), address(batches), address(finality), address(requests)];
        bytes memory code = vm.getCode("Payments");
        IPayments other = IPayments(_create(bytes.concat(code, abi.encode(five, 1 days, address(this)))));
        vm.startPrank(_client);
        token.approve(address(other), 10 ether);
        other.deposit(NODE, 10 ether);
        vm.stopPrank();
        _deposit(NODE, 10 ether);
        IPayments.Voucher memory voucher = IPayments.Voucher(_client, NODE, 4 ether, 4 ether, 0);
        bytes memory signature = _signVoucher(address(payments), voucher);
        vm.startPrank(NODE);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsBadSignature.selector, _client));
        other.collect(voucher, signature);
        vm.chainId(block.chainid + 1);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsBadSignature.selector, _client));
        payments.collect(voucher, signature);
        vm.stopPrank();
    }

    function testAttackEmptyingADepositThroughAPayeeOfOnesOwn() external {
        _deposit(NODE, 10 ether);
        IPayments.Voucher memory voucher = IPayments.Voucher(_client, ALICE, 10 ether, 10 ether, 0);
        bytes memory signature = _signVoucher(address(payments), voucher);
        vm.startPrank(ALICE);
        vm.expectPartialRevert(IPayments.PaymentsInsufficientBalance.selector);
        payments.collect(voucher, signature);
        vm.stopPrank();
        // Nor by leaving: what is under notice can be collected until it is gone.
        vm.prank(_client);
        payments.requestWithdrawal(NODE, 10 ether);
        uint256 before = token.balanceOf(NODE);
        _collect(NODE, 10 ether);
        Check.eq(token.balanceOf(NODE) - before, 10 ether, "the honest payee has it all");
    }

    function testAttackEscrowRecycledThroughOnesOwnNodeOnlyLosesFees() external {
        payments.setProtocolFee(100, address(0x7EA));
        _is(NODE);
        _gang.push(_client);
        uint256 before = _wealth();
        bytes32 requestId = _post(_client, 0);
        Receipt[] memory receipts = _receipts(1, FEE_WEI);
        receipts[0].requestHash = requestId;
        BatchId id = _anchor(Trees.root(receipts), 1);
        _draw(id);
        _vote(id, 1, 0, 1, 0, 1, 0);
        requests.fulfil(requestId, id, Trees.open(receipts, 0, NO_CANARY), "answer");
        _finalize(id);
        Check.eq(before - _wealth(), 0.03 ether + FEE_WEI / 100, "the verifiers' fee and the protocol's");
        _deposit(NODE, 10 ether);
        _collect(NODE, 10 ether);
        Check.eq(before - _wealth(), 0.03 ether + FEE_WEI / 100 + 0.1 ether, "and again");
    }

    // Signatures of committees

    function testAttackReplayingACommitteesSignature() external {
        _registerKeys();
        BatchId id = _drawn("root", 2);
        (uint256 epoch, bytes memory keys_, bytes memory signature) = _signed(id, 3, 0);
        Header memory header = _headerOf(id);
        IStaking.Seat[] memory seats = _seatsOf(id);
        // For another result, another epoch, another chain.
        vm.expectPartialRevert(IVerifierKeys.VerifierKeysNotSigned.selector);
        batches.settleSigned(header, seats, epoch, 1, 2, keys_, signature);
        vm.expectPartialRevert(IVerifierKeys.VerifierKeysNotSigned.selector);
        batches.settleSigned(header, seats, epoch + 1, 3, 0, keys_, signature);
        vm.chainId(_chain + 1);
        vm.expectPartialRevert(IBatches.BatchesUnknownBatch.selector);
        batches.settleSigned(header, seats, epoch, 3, 0, keys_, signature);
        vm.chainId(_chain);
        batches.settleSigned(header, seats, epoch, 3, 0, keys_, signature);
        vm.expectPartialRevert(IBatches.BatchesWrongState.selector);
        batches.settleSigned(header, seats, epoch, 3, 0, keys_, signature);
        // For a batch of the same answers under another word, whoever judges it.
        BatchId other = _anchor("root", "another word", 2);
        _draw(other);
        (header, seats) = (_headerOf(other), _seatsOf(other));
        (bool settled,) = address(batches).call(
            abi.encodeCall(IBatches.settleSigned, (header, seats, epoch, 3, 0, keys_, signature))
        );
        Check.yes(!settled, "refused");
    }

    function testAttackGarbageForThePrecompilesBurnsABoundedAmountOfGas() external {
        _registerKeys();
        BatchId id = _drawn("root", 2);
        (uint256 epoch, bytes memory keys_, bytes memory signature) = _signed(id, 3, 0);
        for (uint256 i = 0; i < signature.length; ++i) {
            signature[i] = 0xff;
        }
        bytes memory data = abi.encodeCall(
            IBatches.settleSigned, (_headerOf(id), _seatsOf(id), epoch, 3, 0, keys_, signature)
        );
        Check.atMost(_gasOf(address(batches), data), 450_000, "a signature that is no point");
        bytes memory key = new bytes(256);
        for (uint256 i = 0; i < 256; ++i) {
            key[i] = 0xff;
        }
        data = abi.encodeCall(IVerifierKeys.register, (key, signature));
        Check.atMost(_gasOf(address(keys), data), 300_000, "a key that is no point");
        data = abi.encodeCall(IVerifierKeys.register, (BlsSigner.publicKey(99), signature));
        Check.atMost(_gasOf(address(keys), data), 300_000, "a proof that is no point");
    }

    // Running ahead

    function testAttackAnchoringAheadOfSomebodyElse() external {
        // Whoever sees a root in the mempool and is a node, too: here a verifier that becomes one.
        BatchId calibration_ = _answer(_request(_verifier(0), Role.Node), "calibration");
        _vote(calibration_, 3, 0, 3, 0, 3, 0);
        BatchId theirs = _anchor(_verifier(0), "root", NO_CANARY, 2);
        BatchId ours = _anchor("root", 2);
        Check.yes(BatchId.unwrap(theirs) != BatchId.unwrap(ours), "a batch of its own");
        _draw(ours);
        _vote(ours, 3, 0, 3, 0, 3, 0);
        Check.eq(_state(ours), uint256(IBatches.State.Settled), "undisturbed");
        vm.prank(ALICE);
        vm.expectPartialRevert(IBatches.BatchesNotCalibrated.selector);
        batches.anchor(model, "root", NO_CANARY, 2);
    }

    function testAttackSettlingAheadOfSomebodyElseGainsNothing() external {
        BatchId id = _drawn("root", 2);
        for (uint256 i = 0; i < 3; ++i) {
            _commit(id, i, 3, 0);
        }
        _reveal(id, 0, 3, 0);
        _reveal(id, 1, 3, 0);
        _wait(61);
        _is(ALICE);
        uint256 before = _wealth();
        (Header memory header, IStaking.Seat[] memory seats) = (_headerOf(id), _seatsOf(id));
        vm.prank(ALICE);
        batches.settle(header, seats);
        vm.expectPartialRevert(IBatches.BatchesWrongState.selector);
        batches.settle(header, seats);
        _finalize(id);
        Check.eq(_wealth(), before, "nothing is the caller's");
    }

    function testAttackAPauseStopsNothingThatHasBegun() external {
        BatchId id = _drawn("root", 2);
        vm.prank(GUARDIAN);
        IPausable(address(batches)).pause();
        vm.prank(NODE);
        vm.expectPartialRevert(bytes4(keccak256("EnforcedPause()")));
        batches.anchor(model, "more", NO_CANARY, 1);
        _vote(id, 3, 0, 3, 0, 3, 0);
        _appeal(ALICE, id, 0, REJECTED);
        _hear(id, 0, 7, 0);
        _conclude(id, 0);
        _finalizeNow(id);
        _unbond(NODE, NODE, STAKE);
        _wait(UNBONDING);
        vm.prank(NODE);
        Check.eq(staking.withdraw(NODE), STAKE, "out");
    }

    // Helpers

    function _is(address first) private {
        delete _gang;
        _gang.push(first);
    }

    /// All that the attacker has, wherever it is.
    function _wealth() private view returns (uint256 sum) {
        for (uint256 i = 0; i < _gang.length; ++i) {
            address who = _gang[i];
            (, uint256 unbonding) = staking.ticketOf(who, who);
            sum += token.balanceOf(who) + staking.stakeOf(who).own + unbonding;
            sum += staking.creditOf(who) + appeals.creditOf(who);
            sum += requests.creditOf(who) + payments.accountOf(who, NODE).balance;
        }
    }

    /// One of the verifiers that have no seat in the batch.
    function _outside(BatchId id, uint256 number) private view returns (address verifier) {
        for (uint256 i = 0; i < verifiers; ++i) {
            verifier = _verifier(i);
            if (verifier == _seatOf(id, 0) || verifier == _seatOf(id, 1) || verifier == _seatOf(id, 2)) continue;
            if (number == 0) return verifier;
            --number;
        }
    }

    function _unbond(address holder, address operator, uint256 amount) private {
        vm.prank(holder);
        staking.unbond(operator, amount);
    }

    function _delegateTo(address operator, uint256 amount) private {
        vm.prank(ALICE);
        staking.delegate(operator, amount, 5000);
    }

    function _tryCommit(BatchId id, uint256 seat) private {
        IStaking.Seat[] memory seats = _seatsOf(id);
        vm.prank(seats[seat].verifier);
        batches.commit(id, seats, seat, "commitment");
    }

    function _notRefunded(BatchId id, Opening memory opening, bytes4 reason) private {
        vm.expectPartialRevert(reason);
        payments.refund(id, opening);
    }

    function _receipts(uint256 count, uint256 fee) private view returns (Receipt[] memory receipts) {
        receipts = new Receipt[](count);
        for (uint256 i = 0; i < count; ++i) {
            receipts[i].client = _client;
            receipts[i].node = NODE;
            receipts[i].modelId = ModelId.unwrap(model);
            receipts[i].inputHash = keccak256("input");
            receipts[i].textHash = keccak256("answer");
            receipts[i].feeWei = fee;
            receipts[i].issuedAt = uint64(i);
        }
    }

    /// A batch of these receipts, all of them rejected, final.
    function _rejected(Receipt[] memory receipts) private returns (BatchId id) {
        id = _anchor(Trees.root(receipts), receipts.length);
        _draw(id);
        uint256 all = (1 << receipts.length) - 1;
        _vote(id, 0, all, 0, all, 0, all);
        _finalize(id);
    }

    function _post(address requester, uint32 callbackGas) private returns (bytes32) {
        vm.prank(requester);
        return requests.post(
            IRequests.Order({
                modelId: model,
                node: address(0),
                input: "input",
                maxTokens: 10,
                maxFeeWei: 1 ether,
                deadline: uint64(timestamp + 1 days),
                callbackGas: callbackGas,
                waitForFinal: false
            })
        );
    }

    function _deposit(address payee, uint256 amount) private {
        vm.prank(_client);
        payments.deposit(payee, amount);
    }

    function _collect(address payee, uint256 more) private {
        uint256 cumulative = payments.collectedOf(_client, payee) + more;
        IPayments.Voucher memory voucher = IPayments.Voucher(_client, payee, cumulative, cumulative, 0);
        bytes memory signature = _signVoucher(address(payments), voucher);
        vm.prank(payee);
        payments.collect(voucher, signature);
    }

    function _signVoucher(address contract_, IPayments.Voucher memory voucher) private returns (bytes memory) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Trine"),
                keccak256("1"),
                block.chainid,
                contract_
            )
        );
        bytes32 typeHash =
            keccak256("Voucher(address payer,address payee,uint256 cumulativeWei,uint256 earnedWei,uint64 asOf)");
        bytes32 structHash = keccak256(abi.encode(typeHash, voucher));
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(CLIENT_KEY, keccak256(abi.encodePacked(hex"1901", domain, structHash)));
        return abi.encodePacked(r, s, v);
    }

    function _registerKeys() private {
        for (uint256 i = 0; i < verifiers; ++i) {
            bytes memory key = BlsSigner.publicKey(1000 + i);
            bytes memory proof = BlsSigner.prove(1000 + i, address(keys), _verifier(i));
            vm.prank(_verifier(i));
            keys.register(key, proof);
        }
    }

    function _signed(BatchId id, uint256 accepted, uint256 rejected)
        private
        view
        returns (uint256 epoch, bytes memory keys_, bytes memory signature)
    {
        epoch = committees.currentEpoch();
        uint256[] memory secrets = new uint256[](3);
        for (uint256 i = 0; i < 3; ++i) {
            secrets[i] = 1000 + uint160(_seatOf(id, i)) - uint160(_verifier(0));
        }
        (keys_, signature) = BlsSigner.signAll(
            secrets,
            CertificateLib.resultDigest(
                block.chainid, address(batches), epoch, BatchId.unwrap(id), accepted, rejected
            )
        );
    }

    function _create(bytes memory initCode) private returns (address created) {
        assembly ("memory-safe") {
            created := create(0, add(initCode, 32), mload(initCode))
        }
    }

    /// What a call that fails burns of five million.
    function _gasOf(address target, bytes memory data) private returns (uint256 used) {
        used = gasleft();
        (bool done,) = target.call{gas: 5_000_000}(data);
        used -= gasleft();
        Check.yes(!done, "refused");
    }
}

interface IPausable {
    function pause() external;
}
