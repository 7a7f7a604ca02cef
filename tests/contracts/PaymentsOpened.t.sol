// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {Request, RequestLib} from "../../contracts/libraries/RequestLib.sol";
import {BatchId, ChallengeId, ModelId, Role} from "../../contracts/types/Types.sol";
import {Vouchers} from "./Incentives.t.sol";
import {Trees} from "./Trees.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice Paid from verdicts: what a node can collect, and what it cannot.
contract PaymentsOpenedTest is World {
    using RequestLib for Request;

    uint256 private constant KEY = 0xC11E47;
    uint256 private constant DEPOSIT = 100 ether;
    uint256 private constant FEE = 0.5 ether;
    uint256 private constant MAX_FEE = 0.8 ether;

    struct Batch {
        BatchId id;
        Receipt[] receipts;
        Request[] requests;
    }

    address private _client;
    uint256 private _nonce;
    uint256 private _before;

    function setUp() external {
        _calibratedWorld();
        _client = vm.addr(KEY);
        _fund(_client);
        vm.prank(_client);
        payments.deposit(NODE, DEPOSIT);
        _before = token.balanceOf(NODE);
    }

    function testAttackAVoucherWithoutABatchPaysNothing() external {
        IPayments.Voucher memory voucher = _voucher(100 ether, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNothingToCollect.selector, 0, 0));
        _collect(voucher);
        // Nor with orders that were signed, whose answers nobody judged.
        Batch memory b = _orders(1, 1000);
        vm.expectPartialRevert(IPayments.PaymentsNotAccepted.selector);
        _open(voucher, b, 0);
        b.id = _anchor(Trees.root(b.receipts), NO_CANARY, 1);
        vm.expectPartialRevert(IPayments.PaymentsNotAccepted.selector);
        _open(voucher, b, 0);
        _got(0);
    }

    function testAttackAnUncalibratedAddressCollectsNothing() external {
        // Its only way to a verdict is a calibration, where nothing is at stake.
        address stranger = address(0xbad);
        _fund(stranger);
        vm.prank(_client);
        payments.deposit(stranger, DEPOSIT);
        Batch memory b = _orders(2, 1000);
        b.receipts[0].node = stranger;
        b.receipts[1].node = stranger;
        ChallengeId challenge = _request(stranger, Role.Node);
        b.id = _answer(challenge, Trees.root(b.receipts));
        _vote(b.id, 3, 0, 3, 0, 3, 0);
        _finalizeNow(b.id);
        IPayments.Voucher memory voucher = _voucher(100 ether, 0, 0);
        voucher.payee = stranger;
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNothingAtStake.selector, b.id));
        _open(voucher, b, 0);
    }

    function testAnAcceptedAnswerIsPaidByOpening() external {
        Batch memory b = _accepted(_orders(2, 1000));
        vm.expectEmit(address(payments));
        emit IPayments.AnswerCollected(_client, NODE, b.receipts[0].requestHash, b.id, 0, FEE);
        _open(_voucher(2 * MAX_FEE, 0, 0), b, 0);
        _got(FEE);
        Check.yes(payments.isOpened(NODE, b.receipts[0].requestHash), "noted");
        Check.yes(!payments.isOpened(NODE, b.receipts[1].requestHash), "only this");
        IPayments.Account memory account = payments.accountOf(_client, NODE);
        Check.eq(account.balance, DEPOSIT - FEE, "from the deposit");
        Check.eq(account.collected, FEE, "counted");
    }

    function testAttackARejectedLeafPaysNothing() external {
        Batch memory b = _judged(_orders(2, 1000), 1, 2);
        IPayments.Voucher memory voucher = _voucher(2 * MAX_FEE, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNotAccepted.selector, b.id, 1));
        _open(voucher, b, 1);
        _open(voucher, b, 0);
        _got(FEE);
    }

    function testAttackALeafInDoubtPaysNothing() external {
        Batch memory b = _judged(_orders(1, 1000), 0, 0);
        vm.expectPartialRevert(IPayments.PaymentsNotAccepted.selector);
        _open(_voucher(MAX_FEE, 0, 0), b, 0);
    }

    function testAttackALeafThatMayStillBeAppealedPaysNothing() external {
        Batch memory b = _orders(1, 1000);
        b.id = _anchor(Trees.root(b.receipts), NO_CANARY, 1);
        _draw(b.id);
        _vote(b.id, 1, 0, 1, 0, 1, 0);
        IPayments.Voucher memory voucher = _voucher(MAX_FEE, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNotFinal.selector, b.id, 0));
        _open(voucher, b, 0);
        _finalize(b.id);
        _open(voucher, b, 0);
        _got(FEE);
    }

    function testAttackALeafOpenedTwice() external {
        Batch memory b = _accepted(_orders(1, 1000));
        IPayments.Voucher memory voucher = _voucher(10 ether, 0, 0);
        (Request[] memory requests, Opening[] memory openings) = (new Request[](2), new Opening[](2));
        (requests[0], requests[1]) = (b.requests[0], b.requests[0]);
        openings[0] = Trees.open(b.receipts, 0, NO_CANARY);
        openings[1] = openings[0];
        vm.expectRevert(
            abi.encodeWithSelector(IPayments.PaymentsAlreadyOpened.selector, b.receipts[0].requestHash)
        );
        _collectOpened(voucher, requests, openings);
        _open(voucher, b, 0);
        vm.expectPartialRevert(IPayments.PaymentsAlreadyOpened.selector);
        _open(voucher, b, 0);
        _got(FEE);
    }

    /// One good answer, anchored again and again: accepted every time, paid once.
    function testAttackOneAnswerInTwoBatches() external {
        Batch memory first = _orders(1, 1000);
        // Two receipts for one order: another time, the same answer.
        Batch memory second = Batch(BatchId.wrap(0), new Receipt[](1), first.requests);
        second.receipts[0] = abi.decode(abi.encode(first.receipts[0]), (Receipt));
        second.receipts[0].issuedAt += 1;
        first = _accepted(first);
        second = _accepted(second);
        IPayments.Voucher memory voucher = _voucher(10 ether, 0, 0);
        _open(voucher, first, 0);
        vm.expectPartialRevert(IPayments.PaymentsAlreadyOpened.selector);
        _open(voucher, second, 0);
        _got(FEE);
    }

    function testAttackAcknowledgedThenOpened() external {
        Batch memory b = _accepted(_orders(2, 1000));
        uint64 asOf = b.requests[0].deadline + 1;
        _collect(_voucher(10 ether, 2 * FEE, asOf));
        _got(2 * FEE);
        vm.expectRevert(
            abi.encodeWithSelector(
                IPayments.PaymentsAcknowledged.selector, b.receipts[0].requestHash, b.requests[0].deadline, asOf
            )
        );
        _open(_voucher(10 ether, 2 * FEE, asOf), b, 0);
        // Nor anchored once more after it was acknowledged, with the voucher of before.
        b.receipts[0].issuedAt += 1;
        b = _accepted(b);
        IPayments.Voucher memory old = _voucher(10 ether, 0, 0);
        vm.expectPartialRevert(IPayments.PaymentsAcknowledged.selector);
        _open(old, b, 0);
        _got(2 * FEE);
    }

    function testAttackOpenedThenAcknowledged() external {
        Batch memory b = _accepted(_orders(2, 1000));
        _open(_voucher(10 ether, 0, 0), b, 0);
        _collect(_voucher(10 ether, 2 * FEE, b.requests[0].deadline + 1));
        _got(2 * FEE);
        IPayments.Voucher memory voucher = _voucher(10 ether, 2 * FEE, b.requests[0].deadline + 2);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNothingToCollect.selector, 2 * FEE, 2 * FEE));
        _collect(voucher);
    }

    function testAttackAnOldVoucherAfterTheNewOne() external {
        Batch memory b = _accepted(_orders(2, 1000));
        IPayments.Voucher memory old = _voucher(10 ether, FEE, b.requests[0].deadline);
        _collect(_voucher(10 ether, 2 * FEE, b.requests[0].deadline + 1));
        vm.expectPartialRevert(IPayments.PaymentsNothingToCollect.selector);
        _collect(old);
        vm.expectPartialRevert(IPayments.PaymentsAcknowledged.selector);
        _open(old, b, 0);
        Check.eq(payments.accountOf(_client, NODE).asOf, b.requests[0].deadline + 1, "the latest that was presented");
        _got(2 * FEE);
    }

    function testAttackAnotherClientsLeaf() external {
        Batch memory b = _orders(1, 1000);
        address other = vm.addr(KEY + 1);
        b.requests[0].client = other;
        b.receipts[0].client = other;
        b.receipts[0].requestHash = b.requests[0].digest(address(batches));
        b = _accepted(b);
        IPayments.Voucher memory voucher = _voucher(10 ether, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsOtherOrder.selector, b.receipts[0].requestHash));
        _open(voucher, b, 0);
    }

    function testAttackAnotherOrderInFrontOfTheLeaf() external {
        // With a later deadline it would look as if nothing was acknowledged.
        Batch memory b = _accepted(_orders(1, 1000));
        b.requests[0].deadline += 1000;
        vm.expectPartialRevert(IPayments.PaymentsOtherOrder.selector);
        _open(_voucher(10 ether, 0, 0), b, 0);
    }

    function testAttackAnotherNodesLeafOrVoucher() external {
        Batch memory b = _accepted(_orders(1, 1000));
        address other = address(0xA1);
        IPayments.Voucher memory voucher = _voucher(10 ether, 0, 0);
        voucher.payee = other;
        vm.expectPartialRevert(IPayments.PaymentsOtherOrder.selector);
        _open(voucher, b, 0);
        voucher.payee = NODE;
        (Request[] memory requests, Opening[] memory openings) = _shown(b, 0);
        bytes memory signature = _sign(voucher);
        vm.prank(other);
        vm.expectPartialRevert(IPayments.PaymentsNotPayee.selector);
        payments.collectOpened(voucher, signature, requests, openings);
    }

    function testAttackAnOpeningThatLeadsElsewhere() external {
        Batch memory b = _accepted(_orders(2, 1000));
        (Request[] memory requests, Opening[] memory openings) = _shown(b, 0);
        openings[0].proof = Trees.open(b.receipts, 1, NO_CANARY).proof;
        vm.expectPartialRevert(IPayments.PaymentsBadOpening.selector);
        _collectOpened(_voucher(10 ether, 0, 0), requests, openings);
        (requests, openings) = _shown(b, 0);
        // The fee is in the leaf.
        openings[0].receipt.feeWei = MAX_FEE;
        vm.expectPartialRevert(IPayments.PaymentsBadOpening.selector);
        _collectOpened(_voucher(10 ether, 0, 0), requests, openings);
    }

    function testAttackOverchargingBeyondTheStakeOfALeaf() external {
        Batch memory b = _orders(1, 1000);
        b.requests[0].maxFeeWei = 50 ether;
        b.receipts[0].feeWei = 50 ether;
        b.receipts[0].requestHash = b.requests[0].digest(address(batches));
        b = _accepted(b);
        _open(_voucher(50 ether, 0, 0), b, 0);
        _got(_values().stakePerLeafWei);
    }

    function testAttackOverchargingBeyondTheOrder() external {
        Batch memory b = _orders(1, 1000);
        b.receipts[0].feeWei = 0.9 ether;
        b = _accepted(b);
        _open(_voucher(50 ether, 0, 0), b, 0);
        _got(MAX_FEE);
    }

    function testAttackCollectingMoreThanTheVouchersLimit() external {
        Batch memory b = _accepted(_orders(3, 1000));
        IPayments.Voucher memory voucher = _voucher(2 * FEE, 0, 0);
        _open(voucher, b, 0);
        _open(voucher, b, 1);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsOverLimit.selector, 3 * FEE, 2 * FEE));
        _open(voucher, b, 2);
        // What is acknowledged beyond the limit counts up to it.
        voucher.earnedWei = 3 * FEE;
        vm.expectPartialRevert(IPayments.PaymentsNothingToCollect.selector);
        _collect(voucher);
        _got(2 * FEE);
    }

    function testAnAnswerIsPaidWholeOrNotAtAll() external {
        Batch memory b = _accepted(_orders(2, 1000));
        vm.startPrank(_client);
        payments.requestWithdrawal(NODE, DEPOSIT - FEE - 1);
        _wait(1 days);
        payments.withdraw(NODE);
        vm.stopPrank();
        IPayments.Voucher memory voucher = _voucher(10 ether, 0, 0);
        _open(voucher, b, 0);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsInsufficientBalance.selector, 1, FEE));
        _open(voucher, b, 1);
        Check.yes(!payments.isOpened(NODE, b.receipts[1].requestHash), "can be opened later");
        vm.prank(_client);
        payments.deposit(NODE, FEE);
        _open(voucher, b, 1);
        _got(2 * FEE);
    }

    function testWhatIsAcknowledgedIsCollectedBeforeWhatIsOpened() external {
        Batch memory early = _accepted(_orders(2, 1000));
        Batch memory late = _accepted(_orders(1, 5000));
        IPayments.Voucher memory voucher = _voucher(10 ether, 2 * FEE, early.requests[0].deadline + 1);
        _open(voucher, late, 0);
        _got(3 * FEE);
        // Then all of it is acknowledged: nothing more is due.
        vm.expectPartialRevert(IPayments.PaymentsNothingToCollect.selector);
        _collect(_voucher(10 ether, 3 * FEE, late.requests[0].deadline + 1));
    }

    function testAnOrderIsAcknowledgedOnlyByWhatCameAfterItsDeadline() external {
        Batch memory b = _accepted(_orders(1, 1000));
        _open(_voucher(10 ether, 0, b.requests[0].deadline), b, 0);
        _got(FEE);
    }

    function testAsManyOpeningsAsABlockHasRoomForAreLookedAt() external {
        // None of them is an order of this client's.
        vm.expectPartialRevert(IPayments.PaymentsOtherOrder.selector);
        _collectOpened(_voucher(1, 0, 0), new Request[](64), new Opening[](64));
    }

    function testOneWeiIsCollectedByOpening() external {
        Batch memory b = _orders(1, 1000);
        b.receipts[0].feeWei = 1;
        b = _accepted(b);
        _open(_voucher(1, 0, 0), b, 0);
        _got(1);
    }

    function testNoMoreOpeningsThanABlockHasRoomFor() external {
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsTooManyOpenings.selector, 65, 64));
        _collectOpened(_voucher(1, 0, 0), new Request[](65), new Opening[](65));
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsWrongNumber.selector, 2, 1));
        _collectOpened(_voucher(1, 0, 0), new Request[](1), new Opening[](2));
        vm.expectPartialRevert(IPayments.PaymentsNothingToCollect.selector);
        _collectOpened(_voucher(1, 0, 0), new Request[](0), new Opening[](0));
    }

    /// The promise: in whatever order vouchers, old and new, and openings are presented, in whatever batches the
    /// answers are, no order is paid twice. Five orders with deadlines 1000 to 1004; three of them also in a second
    /// batch; honest acknowledgements for every `asOf`.
    function testFuzz_noOrderOfPresentingPaysAnAnswerTwice(uint256 seed) external {
        Batch memory first = Batch(BatchId.wrap(0), new Receipt[](5), new Request[](5));
        for (uint256 i = 0; i < 5; ++i) {
            Batch memory one = _orders(1, 1000 + i);
            (first.receipts[i], first.requests[i]) = (one.receipts[0], one.requests[0]);
        }
        Batch memory again = Batch(BatchId.wrap(0), new Receipt[](3), new Request[](3));
        for (uint256 i = 0; i < 3; ++i) {
            again.receipts[i] = abi.decode(abi.encode(first.receipts[i + 1]), (Receipt));
            again.receipts[i].issuedAt += 1;
            again.requests[i] = first.requests[i + 1];
        }
        // Leaf 3 is rejected in the first batch and accepted in the second: it has earned its fee.
        first = _judged(first, 23, 8);
        again = _accepted(again);
        uint256 base = first.requests[0].deadline;
        for (uint256 step = 0; step < 16; ++step) {
            uint256 counted = seed % 6;
            IPayments.Voucher memory voucher = _voucher(10 ether, counted * FEE, uint64(base + counted));
            uint256 what = (seed / 6) % 9;
            (Request[] memory requests, Opening[] memory openings) =
                what < 5 ? _shown(first, what) : _shown(again, what < 8 ? what - 5 : 0);
            bytes memory signature = _sign(voucher);
            vm.prank(NODE);
            // What is refused changes nothing.
            if (what == 8) try payments.collect(voucher, signature) {} catch {}
            else try payments.collectOpened(voucher, signature, requests, openings) {} catch {}
            Check.atMost(payments.collectedOf(_client, NODE), 5 * FEE, "five answers were good");
            seed /= 54;
            if (seed == 0) seed = uint256(keccak256(abi.encode(step)));
        }
        // And none goes unpaid in the end.
        IPayments.Voucher memory last = _voucher(10 ether, 5 * FEE, uint64(base + 5));
        if (payments.collectedOf(_client, NODE) < 5 * FEE) _collect(last);
        _got(5 * FEE);
    }

    function _orders(uint256 count, uint256 deadline) private returns (Batch memory b) {
        b.receipts = new Receipt[](count);
        b.requests = new Request[](count);
        for (uint256 i = 0; i < count; ++i) {
            Request memory request = b.requests[i];
            request.client = _client;
            request.modelId = ModelId.unwrap(model);
            request.maxTokens = 10;
            request.maxFeeWei = MAX_FEE;
            request.nonce = ++_nonce;
            // Far from now: the chain does not look at it but to tell what was acknowledged.
            request.deadline = uint64(1_000_000_000 + deadline);
            Receipt memory receipt = b.receipts[i];
            receipt.requestHash = request.digest(address(batches));
            receipt.client = _client;
            receipt.node = NODE;
            receipt.modelId = request.modelId;
            receipt.feeWei = FEE;
            receipt.issuedAt = uint64(timestamp);
        }
    }

    function _accepted(Batch memory b) private returns (Batch memory) {
        return _judged(b, (1 << b.receipts.length) - 1, 0);
    }

    function _judged(Batch memory b, uint256 accepts, uint256 rejects) private returns (Batch memory) {
        b.id = _anchor(Trees.root(b.receipts), NO_CANARY, b.receipts.length);
        _draw(b.id);
        _vote(b.id, accepts, rejects, accepts, rejects, accepts, rejects);
        _finalize(b.id);
        return b;
    }

    function _shown(Batch memory b, uint256 leaf)
        private
        pure
        returns (Request[] memory requests, Opening[] memory openings)
    {
        (requests, openings) = (new Request[](1), new Opening[](1));
        (requests[0], openings[0]) = (b.requests[leaf], Trees.open(b.receipts, leaf, NO_CANARY));
    }

    function _open(IPayments.Voucher memory voucher, Batch memory b, uint256 leaf) private {
        (Request[] memory requests, Opening[] memory openings) = _shown(b, leaf);
        _collectOpened(voucher, requests, openings);
    }

    function _collectOpened(
        IPayments.Voucher memory voucher,
        Request[] memory requests,
        Opening[] memory openings
    ) private {
        bytes memory signature = _sign(voucher);
        vm.prank(voucher.payee);
        payments.collectOpened(voucher, signature, requests, openings);
    }

    function _collect(IPayments.Voucher memory voucher) private {
        bytes memory signature = _sign(voucher);
        vm.prank(NODE);
        payments.collect(voucher, signature);
    }

    function _voucher(uint256 cumulative, uint256 earned, uint64 asOf)
        private
        view
        returns (IPayments.Voucher memory)
    {
        return IPayments.Voucher(_client, NODE, cumulative, earned, asOf);
    }

    function _sign(IPayments.Voucher memory voucher) private returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, Vouchers.digestOf(payments, voucher));
        return abi.encodePacked(r, s, v);
    }

    function _got(uint256 amount) private view {
        Check.eq(token.balanceOf(NODE) - _before, amount, "the node has");
        Check.eq(payments.collectedOf(_client, NODE), amount, "and it is counted");
        Check.yes(payments.totalOwed() <= token.balanceOf(address(payments)), "solvent");
    }
}
