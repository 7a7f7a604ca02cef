// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IInclusion} from "../../contracts/interfaces/IInclusion.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {LeafLib, Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {RequestLib} from "../../contracts/libraries/RequestLib.sol";
import {BatchId, ChallengeId, ModelId, Role} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {Trees} from "./Trees.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice A node that anchors only what it likes.
contract InclusionTest is World {
    using RequestLib for Receipt;

    uint256 private constant NODE_KEY = 0x40DE;
    uint256 private constant FEE = 0.25 ether;
    uint256 private constant LEAF_STAKE = 1 ether;
    address private constant STRANGER = address(0xbad);

    address private _node;
    BatchId private _last; // anchored

    function setUp() external {
        _calibratedWorld();
        _node = vm.addr(NODE_KEY);
        _fund(_node);
        _fund(CLIENT);
        BatchId id = _answer(_request(_node, Role.Node), _root(keccak256("node"), 0));
        _vote(id, 3, 0, 3, 0, 3, 0);
        _finalizeNow(id);
        vm.prank(CLIENT);
        token.approve(address(inclusion), type(uint256).max);
    }

    function testAttackAReceiptThatIsNeverAnchoredCostsTheNode() external {
        Receipt memory receipt = _receipt();
        uint256 before = token.balanceOf(CLIENT);
        uint256 supply = token.totalSupply();
        bytes32 receiptHash = LeafLib.structHash(receipt);
        vm.expectEmit(address(inclusion));
        emit IInclusion.InclusionClaimed(receiptHash, _node, CLIENT, timestamp + 7 hours + 1);
        _claim(receipt);
        Check.eq(before - token.balanceOf(CLIENT), INCLUSION_BOND, "the bond");
        vm.expectPartialRevert(IInclusion.InclusionDeadlineNotReached.selector);
        inclusion.conclude(receipt);
        _wait(6 hours + 1);
        uint256 half = (LEAF_STAKE + FEE) / 2;
        vm.expectEmit(address(inclusion));
        emit IInclusion.InclusionBroken(receiptHash, _node, CLIENT, LEAF_STAKE + FEE, half);
        inclusion.conclude(receipt);
        Check.eq(staking.stakeOf(_node).active, STAKE - LEAF_STAKE - FEE, "a leaf's stake and the fee");
        Check.eq(token.balanceOf(CLIENT) - before, half, "half of it, and the bond");
        Check.eq(supply - token.totalSupply(), half, "the other half is burned");
        Check.eq(token.balanceOf(address(inclusion)), 0, "nothing stays");
        // Once.
        vm.expectPartialRevert(IInclusion.InclusionNotOpen.selector);
        inclusion.conclude(receipt);
        vm.expectRevert(abi.encodeWithSelector(IInclusion.InclusionClaimedBefore.selector, LeafLib.structHash(receipt)));
        _claimAgain(receipt);
    }

    function testAttackAFalseClaimCostsItsBond() external {
        Receipt memory receipt = _receipt();
        Opening memory opening = _anchored(receipt, 1);
        _judge();
        _claim(receipt);
        uint256 before = token.balanceOf(_node);
        vm.expectEmit(address(inclusion));
        emit IInclusion.InclusionAnswered(LeafLib.structHash(receipt), _last, 0, true);
        vm.prank(STRANGER);
        inclusion.answer(opening);
        Check.eq(token.balanceOf(_node) - before, INCLUSION_BOND, "the node has the bond");
        Check.eq(staking.stakeOf(_node).active, STAKE, "and its stake");
        _wait(6 hours + 1);
        vm.expectPartialRevert(IInclusion.InclusionNotOpen.selector);
        inclusion.conclude(receipt);
        vm.expectPartialRevert(IInclusion.InclusionClaimedBefore.selector);
        _claimAgain(receipt);
    }

    function testAClaimInTheVerySecondOfTheVerdictIsFalseAndOneBeforeIsNot() external {
        Receipt memory receipt = _receipt();
        Opening memory opening = _anchored(receipt, 1);
        _wait(1 hours + 1);
        _judge();
        Check.eq(batches.batchOf(_last).clock, timestamp, "judged now");
        _claimAgain(receipt);
        uint256 before = token.balanceOf(_node);
        inclusion.answer(opening);
        Check.eq(token.balanceOf(_node) - before, INCLUSION_BOND, "whoever asks could have looked");
        receipt.outputHash = "another";
        receipt.anchorBy = uint64(timestamp);
        opening = _anchored(receipt, 1);
        _draw(_last);
        _wait(1);
        _claimAgain(receipt);
        _wait(1);
        _vote(_last, 1, 0, 1, 0, 1, 0);
        before = token.balanceOf(CLIENT);
        inclusion.answer(opening);
        Check.eq(token.balanceOf(CLIENT) - before, INCLUSION_BOND, "judged a second after it was claimed");
    }

    function testAttackAFalseClaimBeforeTheBatchIsFinalCostsItsBond() external {
        Receipt memory receipt = _receipt();
        receipt.anchorBy = uint64(timestamp);
        Opening memory opening = _anchored(receipt, 1);
        _draw(_last);
        _vote(_last, 1, 0, 1, 0, 1, 0);
        // Nobody finalizes at once, and the client claims before it does so itself.
        _wait(_values().appealWindowSeconds);
        _claimAgain(receipt);
        _wait(1);
        _finalizeNow(_last);
        uint256 before = token.balanceOf(_node);
        inclusion.answer(opening);
        Check.eq(token.balanceOf(_node) - before, INCLUSION_BOND, "the verdict was there when it was made");
    }

    function testAClaimBeforeTheVerdictIsNotFalseOnceThatIsFinal() external {
        Receipt memory receipt = _receipt();
        receipt.anchorBy = uint64(timestamp);
        Opening memory opening = _anchored(receipt, 1);
        _draw(_last);
        _wait(1);
        _claimAgain(receipt);
        _wait(1);
        _vote(_last, 1, 0, 1, 0, 1, 0);
        _finalize(_last);
        uint256 before = token.balanceOf(CLIENT);
        inclusion.answer(opening);
        Check.eq(token.balanceOf(CLIENT) - before, INCLUSION_BOND, "nobody could see then that it would be judged");
    }

    function testAttackAnchoringOnlyWhatIsClaimedBringsNoBond() external {
        Receipt memory receipt = _receipt();
        uint256 before = token.balanceOf(CLIENT);
        uint256 node = token.balanceOf(_node);
        _claim(receipt);
        _wait(5 hours);
        Opening memory opening = _anchored(receipt, 1);
        _judge();
        inclusion.answer(opening);
        Check.eq(uint256(inclusion.claimOf(LeafLib.structHash(receipt)).state), 2, "answered: it was judged");
        Check.eq(token.balanceOf(CLIENT), before, "who was right to ask has the bond back");
        Check.eq(token.balanceOf(_node), node, "and the node nothing for being late");
    }

    function testAClaimOfWhatIsNotJudgedYetIsNotFalse() external {
        Receipt memory receipt = _receipt();
        Opening memory opening = _anchored(receipt, 1);
        uint256 before = token.balanceOf(CLIENT);
        _claim(receipt);
        inclusion.answer(opening);
        Check.eq(token.balanceOf(CLIENT), before, "nobody could see that it was");
    }

    function testAttackAnAnswerInABatchThatNobodyJudges() external {
        Receipt memory receipt = _receipt();
        Receipt[] memory receipts = new Receipt[](2);
        receipts[1] = receipt;
        _claim(receipt);
        Opening memory opening = Trees.open(receipts, 1, NO_CANARY);
        vm.expectPartialRevert(IInclusion.InclusionNotJudged.selector);
        inclusion.answer(opening);
        // Beyond the leaves that the batch says it has, where no committee looks.
        opening = _anchored(receipt, 1, 1);
        vm.expectPartialRevert(IInclusion.InclusionNotJudged.selector);
        inclusion.answer(opening);
    }

    function testAttackAnAnswerInACalibration() external {
        Receipt memory receipt = _receipt();
        _claim(receipt);
        Receipt[] memory receipts = new Receipt[](2);
        (receipts[0], receipts[1]) = (receipt, receipt);
        ChallengeId challenge = _request(_node, Role.Node);
        _answer(challenge, Trees.root(receipts));
        vm.expectPartialRevert(IInclusion.InclusionNotJudged.selector);
        inclusion.answer(Trees.open(receipts, 0, NO_CANARY));
    }

    function testAttackAnsweringWithABatchThatIsLeftToExpire() external {
        Receipt memory receipt = _receipt();
        _claim(receipt);
        Receipt[] memory receipts = new Receipt[](1);
        receipts[0] = receipt;
        BatchId id = _anchor(_node, Trees.root(receipts), NO_CANARY, 1);
        inclusion.answer(Trees.open(receipts, 0, NO_CANARY));
        vm.expectPartialRevert(IInclusion.InclusionClaimedBefore.selector);
        _claimAgain(receipt);
        _mine(300);
        _expire(id);
        _claimAgain(receipt);
        Opening memory opening = Trees.open(receipts, 0, NO_CANARY);
        vm.expectPartialRevert(IInclusion.InclusionNotJudged.selector);
        inclusion.answer(opening);
        uint256 before = staking.stakeOf(_node).active;
        _wait(6 hours + 1);
        inclusion.conclude(receipt);
        Check.eq(before - staking.stakeOf(_node).active, LEAF_STAKE + FEE, "it pays all the same");
    }

    function testAttackAnotherReceiptInTheBatch() external {
        Receipt memory receipt = _receipt();
        _claim(receipt);
        Receipt memory other = abi.decode(abi.encode(receipt), (Receipt));
        other.outputHash = "honest";
        Opening memory opening = _anchored(other, 1);
        vm.expectPartialRevert(IInclusion.InclusionNotOpen.selector);
        inclusion.answer(opening);
        opening.receipt = receipt;
        vm.expectPartialRevert(IInclusion.InclusionBadOpening.selector);
        inclusion.answer(opening);
    }

    function testAttackClaimingWhatTheNodeDidNotSign() external {
        Receipt memory receipt = _receipt();
        bytes memory signature = _sign(receipt);
        receipt.feeWei += 1;
        _wait(1 hours + 1);
        vm.prank(CLIENT);
        vm.expectRevert(abi.encodeWithSelector(IInclusion.InclusionBadSignature.selector, _node));
        inclusion.claim(receipt, signature);
    }

    function testAttackClaimingBeforeTheNodeIsLateOrLongAfter() external {
        Receipt memory receipt = _receipt();
        _wait(1 hours);
        vm.expectRevert(abi.encodeWithSelector(IInclusion.InclusionTooEarly.selector, receipt.anchorBy));
        _claimAgain(receipt);
        _wait(7 days + 1);
        vm.expectRevert(abi.encodeWithSelector(IInclusion.InclusionTooLate.selector, receipt.anchorBy + 7 days));
        _claimAgain(receipt);
    }

    function testAClaimIsMadeInTheLastSecondAndConcludedAfterTheNodesLast() external {
        Receipt memory receipt = _receipt();
        _wait(1 hours + 7 days);
        _claimAgain(receipt);
        uint256 deadline = timestamp + 6 hours;
        _wait(6 hours);
        vm.expectRevert(abi.encodeWithSelector(IInclusion.InclusionDeadlineNotReached.selector, deadline));
        inclusion.conclude(receipt);
        // The node may still answer.
        inclusion.answer(_anchored(receipt, 1));
    }

    function testAttackAStrangerClaimsForTheClient() external {
        Receipt memory receipt = _receipt();
        bytes memory signature = _sign(receipt);
        _wait(1 hours + 1);
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IInclusion.InclusionNotClient.selector, STRANGER, CLIENT));
        inclusion.claim(receipt, signature);
    }

    function testAttackANodeTakesItsStakeOutByClaimingAgainstItself() external {
        Receipt memory receipt = _receipt();
        receipt.client = _node;
        receipt.feeWei = 900 ether;
        bytes memory signature = _sign(receipt);
        _wait(1 hours + 1);
        uint256 wallet = token.balanceOf(_node);
        vm.startPrank(_node);
        token.approve(address(inclusion), INCLUSION_BOND);
        inclusion.claim(receipt, signature);
        vm.stopPrank();
        _wait(6 hours + 1);
        inclusion.conclude(receipt);
        Check.eq(STAKE - staking.stakeOf(_node).active, 2 * LEAF_STAKE, "twice the stake of a leaf at most");
        Check.eq(token.balanceOf(_node) - wallet, LEAF_STAKE, "of which it loses half");
    }

    function testANodeThatIsLeavingPaysFromWhatIsLeaving() external {
        vm.prank(_node);
        staking.unbond(_node, STAKE);
        Receipt memory receipt = _receipt();
        _claim(receipt);
        _wait(6 hours + 1);
        inclusion.conclude(receipt);
        Check.eq(staking.stakeOf(_node).unbonding, STAKE - LEAF_STAKE - FEE, "not gone yet");
    }

    function testOnlySlashesAndNothingElseOfStaking() external {
        vm.startPrank(address(inclusion));
        vm.expectPartialRevert(IStaking.StakingUnauthorized.selector);
        staking.unlock(_node, 1);
        vm.expectPartialRevert(IStaking.StakingUnauthorized.selector);
        staking.credit(address(inclusion), 1);
        vm.expectPartialRevert(IStaking.StakingUnauthorized.selector);
        staking.burnFees(1);
        vm.stopPrank();
    }

    function testBoundsOfWhatItIsDeployedWith() external {
        address[4] memory four = [address(token), address(staking), address(batches), address(parameters)];
        uint256[2][4] memory bad =
            [[uint256(0), 6 hours], [uint256(1e24 + 1), 6 hours], [uint256(1), 10 minutes - 1], [uint256(1), 7 days + 1]];
        for (uint256 i = 0; i < 4; ++i) {
            vm.expectPartialRevert(IInclusion.InclusionOutOfBounds.selector);
            Built.create("Inclusion", abi.encode(four, bad[i][0], bad[i][1]));
            address[4] memory lacking = four;
            address kept = four[i];
            lacking[i] = address(0);
            vm.expectPartialRevert(IInclusion.InclusionZeroAddress.selector);
            Built.create("Inclusion", abi.encode(lacking, 1, 6 hours));
            lacking[i] = kept;
        }
        vm.expectRevert(abi.encodeWithSelector(IInclusion.InclusionOutOfBounds.selector, "bond", 0, 1, 1e24));
        Built.create("Inclusion", abi.encode(four, 0, 6 hours));
        uint256[2][3] memory good = [[uint256(1), 6 hours], [uint256(1e24), 10 minutes], [uint256(1), 7 days]];
        for (uint256 i = 0; i < 3; ++i) {
            IInclusion built = IInclusion(Built.create("Inclusion", abi.encode(four, good[i][0], good[i][1])));
            Check.eq(built.bondWei(), good[i][0], "bond");
            Check.eq(built.answerSeconds(), good[i][1], "window");
        }
        Check.eq(inclusion.bondWei(), INCLUSION_BOND, "bond");
        Check.eq(inclusion.answerSeconds(), 6 hours, "window");
        Check.eq(inclusion.claimSeconds(), 7 days, "claims");
    }

    function _receipt() private view returns (Receipt memory receipt) {
        receipt.requestHash = "request";
        receipt.client = CLIENT;
        receipt.node = _node;
        receipt.modelId = ModelId.unwrap(model);
        receipt.feeWei = FEE;
        receipt.issuedAt = uint64(timestamp);
        receipt.anchorBy = uint64(timestamp + 1 hours);
    }

    /// As soon as it is late.
    function _claim(Receipt memory receipt) private {
        _wait(1 hours + 1);
        _claimAgain(receipt);
    }

    function _claimAgain(Receipt memory receipt) private {
        bytes memory signature = _sign(receipt);
        vm.prank(receipt.client);
        inclusion.claim(receipt, signature);
    }

    function _anchored(Receipt memory receipt, uint256 leaves) private returns (Opening memory) {
        return _anchored(receipt, leaves, 0);
    }

    function _anchored(Receipt memory receipt, uint256 leaves, uint256 index) private returns (Opening memory) {
        Receipt[] memory receipts = new Receipt[](index + 1);
        receipts[index] = receipt;
        _last = _anchor(_node, Trees.root(receipts), NO_CANARY, leaves);
        return Trees.open(receipts, index, NO_CANARY);
    }

    /// The batch of one leaf that was anchored last: accepted.
    function _judge() private {
        _draw(_last);
        _vote(_last, 1, 0, 1, 0, 1, 0);
    }

    function _sign(Receipt memory receipt) private returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(NODE_KEY, receipt.digest(address(batches)));
        return abi.encodePacked(r, s, v);
    }
}
