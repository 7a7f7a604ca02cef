// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {ContractWallet, HookedToken, Leaves, Reenterer, RewardsDouble, VerdictsDouble} from "./Doubles.sol";
import {Check, Vm, vm} from "./Vm.sol";

contract PaymentsTest {
    bytes32 private constant VOUCHER_TYPEHASH =
        keccak256("Voucher(address payer,address payee,uint256 cumulativeWei,uint256 earnedWei,uint64 asOf)");
    uint256 private constant PAYER_KEY = 0xBEEF;
    uint256 private constant START = 1_000_000;
    uint256 private constant DEPOSIT = 100 ether;
    // A constant, because the compiler reads block.chainid again where a variable holds it.
    uint256 private constant CHAIN_ID = 31_337;
    address private constant NODE = address(0xA0);
    address private constant OTHER = address(0xA1);
    address private constant FINALITY = address(0xA9);
    address private constant REQUESTS = address(0xE5);
    address private constant TREASURY = address(0x77);

    HookedToken private _token;
    RewardsDouble private _staking;
    VerdictsDouble private _batches;
    IPayments private _payments;
    address private _payer;

    function setUp() external {
        vm.warp(START);
        _token = new HookedToken(address(this), 1_000_000 ether);
        _staking = new RewardsDouble();
        _batches = new VerdictsDouble();
        _payments = _deploy(_contracts(), 1 days);
        _payer = vm.addr(PAYER_KEY);
        require(_token.transfer(_payer, 1000 ether));
        vm.startPrank(_payer);
        _token.approve(address(_payments), type(uint256).max);
        _payments.deposit(NODE, DEPOSIT);
        vm.stopPrank();
    }

    // Collecting

    function testFuzz_collectsWhatWasEarnedAndNoMoreThanTheVoucher(uint128 cumulative, uint128 earned) external {
        cumulative = uint128(1 + cumulative % 200 ether);
        earned = uint128(1 + earned % 200 ether);
        IPayments.Voucher memory voucher = _voucher(NODE, cumulative);
        voucher.earnedWei = earned;
        bytes memory signature = _sign(voucher);
        _collect(voucher, signature);
        uint256 due = cumulative < earned ? cumulative : earned;
        uint256 paid = due < DEPOSIT ? due : DEPOSIT;
        Check.eq(_token.balanceOf(NODE), paid, "paid");
        Check.eq(_payments.collectedOf(_payer, NODE), paid, "noted");
        Check.eq(_payments.accountOf(_payer, NODE).balance, DEPOSIT - paid, "from the deposit");
        _checkSolvent();
        vm.expectPartialRevert(
            due == paid ? IPayments.PaymentsNothingToCollect.selector : IPayments.PaymentsInsufficientBalance.selector
        );
        _collect(voucher, signature);
    }

    function testAVoucherCannotBeCollectedTwice() external {
        IPayments.Voucher memory voucher = _voucher(NODE, 10 ether);
        bytes memory signature = _sign(voucher);
        _collect(voucher, signature);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNothingToCollect.selector, 10 ether, 10 ether));
        _collect(voucher, signature);
        // Not after another deposit either: what counts is what was collected in all.
        vm.prank(_payer);
        _payments.deposit(NODE, 1 ether);
        vm.expectPartialRevert(IPayments.PaymentsNothingToCollect.selector);
        _collect(voucher, signature);
    }

    function testALaterVoucherReplacesTheEarlier() external {
        IPayments.Voucher memory first = _voucher(NODE, 10 ether);
        IPayments.Voucher memory second = _voucher(NODE, 15 ether);
        _collect(first, _sign(first));
        _collect(second, _sign(second));
        Check.eq(_token.balanceOf(NODE), 15 ether, "only the difference");
    }

    function testOnlyThePayeeCollects() external {
        IPayments.Voucher memory voucher = _voucher(NODE, 10 ether);
        bytes memory signature = _sign(voucher);
        vm.prank(OTHER);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNotPayee.selector, OTHER, NODE));
        _payments.collect(voucher, signature);
    }

    function testAVoucherOfSomebodyElseIsRefused() external {
        IPayments.Voucher memory voucher = _voucher(NODE, 10 ether);
        bytes memory signature = _sign(voucher);
        voucher.payee = OTHER;
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        _collect(voucher, signature);
        voucher.payee = NODE;
        voucher.cumulativeWei = 11 ether;
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        _collect(voucher, signature);
        (voucher.cumulativeWei, voucher.earnedWei) = (10 ether, 9 ether);
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        _collect(voucher, signature);
        (voucher.earnedWei, voucher.asOf) = (10 ether, 1);
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        _collect(voucher, signature);
    }

    function testAVoucherIsNoGoodOnAnotherChainOrContract() external {
        IPayments.Voucher memory voucher = _voucher(NODE, 10 ether);
        bytes memory signature = _sign(voucher);
        vm.chainId(CHAIN_ID + 1);
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        _collect(voucher, signature);
        vm.chainId(CHAIN_ID);
        IPayments first = _payments;
        _payments = _deploy(_contracts(), 1 days);
        vm.startPrank(_payer);
        _token.approve(address(_payments), 10 ether);
        _payments.deposit(NODE, 10 ether);
        vm.stopPrank();
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        _collect(voucher, signature);
        _payments = first;
        _collect(voucher, signature);
    }

    /// The attack: one purse for all payees, emptied through a second node of the payer's own before an honest one.
    function testEscrowCannotBeRecycledThroughOnesOwnNode() external {
        IPayments.Voucher memory honest = _voucher(NODE, 50 ether);
        IPayments.Voucher memory own = _voucher(OTHER, 100 ether);
        bytes memory signature = _sign(own);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsInsufficientBalance.selector, 0, 100 ether));
        _collect(own, signature);
        vm.prank(_payer);
        vm.expectPartialRevert(IPayments.PaymentsInsufficientBalance.selector);
        _payments.requestWithdrawal(OTHER, 1);
        _collect(honest, _sign(honest));
        Check.eq(_token.balanceOf(NODE), 50 ether, "the honest node has its money");
    }

    function testWhoCollectsFromAnEmptyAccountIsToldWhatIsMissing() external {
        IPayments.Voucher memory whole = _voucher(NODE, DEPOSIT);
        _collect(whole, _sign(whole));
        IPayments.Voucher memory more = _voucher(NODE, DEPOSIT + 50 ether);
        bytes memory signature = _sign(more);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsInsufficientBalance.selector, 0, 50 ether));
        _collect(more, signature);
    }

    function testAContractWalletPaysUntilItChangesItsMind() external {
        ContractWallet wallet = new ContractWallet(_payer);
        require(_token.transfer(address(wallet), 10 ether));
        wallet.deposit(_token, _payments, NODE, 10 ether);
        IPayments.Voucher memory voucher = IPayments.Voucher(address(wallet), NODE, 4 ether, 3 ether, 0);
        bytes memory signature = _sign(voucher);
        _collect(voucher, signature);
        Check.eq(_token.balanceOf(NODE), 3 ether, "paid by EIP-1271");
        wallet.changeItsMind();
        voucher.earnedWei = 4 ether;
        signature = _sign(voucher);
        vm.expectPartialRevert(IPayments.PaymentsBadSignature.selector);
        _collect(voucher, signature);
        Check.eq(_token.balanceOf(NODE), 3 ether, "what was collected stays");
    }

    function testFuzz_manySmallCollectionsGiveNoMoreThanOneLarge(uint16 feeBps, uint16 shareBps, uint64 amount, uint8 n)
        external
    {
        feeBps %= 1001;
        shareBps %= 10_001;
        uint256 parts = 1 + (n % 6);
        uint256 total = parts + amount;
        _payments.setProtocolFee(feeBps, TREASURY);
        _staking.setShare(shareBps);
        IPayments.Voucher memory voucher = _voucher(NODE, total);
        for (uint256 i = 1; i <= parts; ++i) {
            voucher.earnedWei = (total * i) / parts;
            _collect(voucher, _sign(voucher));
        }
        (,, uint256 fees) = _payments.protocolFee();
        Check.eq(_payments.accountOf(_payer, NODE).balance, DEPOSIT - total, "exactly this left the deposit");
        uint256 pool = _staking.rewarded(NODE);
        Check.eq(_token.balanceOf(address(_staking)), pool, "the pool has what it was told");
        Check.eq(_token.balanceOf(NODE) + pool + fees, total, "and was divided");
        uint256 once = (total * feeBps) / 10_000;
        Check.yes(fees <= once && fees + parts >= once, "a wei of fee a collection is lost to rounding at most");
        _checkSolvent();
    }

    function testTheProtocolsFeeWaitsForTheTreasury() external {
        vm.expectPartialRevert(IPayments.PaymentsNothingToWithdraw.selector);
        _payments.sendProtocolFees();
        _payments.setProtocolFee(1000, TREASURY);
        _staking.setShare(5000);
        IPayments.Voucher memory voucher = _voucher(NODE, 10 ether);
        _collect(voucher, _sign(voucher));
        Check.eq(_token.balanceOf(NODE), 4.5 ether, "half of what the fee leaves");
        Check.eq(_staking.rewarded(NODE), 4.5 ether, "the other half is the pool's");
        Check.eq(_payments.totalOwed(), 91 ether, "deposits and the fee");
        (uint256 bps, address treasury, uint256 unsent) = _payments.protocolFee();
        Check.yes(bps == 1000 && treasury == TREASURY && unsent == 1 ether, "fee");
        _payments.sendProtocolFees();
        Check.eq(_token.balanceOf(TREASURY), 1 ether, "sent");
        _checkSolvent();
    }

    function testOnlyTheOwnerSetsTheFeeWithinItsBound() external {
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsFeeOutOfBounds.selector, 1001, 1000));
        _payments.setProtocolFee(1001, TREASURY);
        vm.expectPartialRevert(IPayments.PaymentsZeroAddress.selector);
        _payments.setProtocolFee(1, address(0));
        vm.prank(_payer);
        vm.expectPartialRevert(Ownable.OwnableUnauthorizedAccount.selector);
        _payments.setProtocolFee(1, TREASURY);
    }

    function testOnlyRequestsPayOut() external {
        require(_token.transfer(address(_payments), 3 ether));
        vm.expectPartialRevert(IPayments.PaymentsUnauthorized.selector);
        _payments.payOut(NODE, 3 ether);
        _payments.setProtocolFee(1000, TREASURY);
        vm.prank(REQUESTS);
        _payments.payOut(NODE, 3 ether);
        Check.eq(_token.balanceOf(NODE), 2.7 ether, "by the same rule");
        _checkSolvent();
    }

    // Depositing and leaving

    function testADepositByPermitNeedsNoApproval() external {
        vm.prank(_payer);
        _token.approve(address(_payments), 0);
        (uint8 v, bytes32 r, bytes32 s) = _permit(5 ether);
        vm.prank(_payer);
        _payments.depositWithPermit(NODE, 5 ether, START + 1, v, r, s);
        Check.eq(_payments.accountOf(_payer, NODE).balance, DEPOSIT + 5 ether, "deposited");
    }

    function testAPermitThatSomebodyElseUsedFirstDoesNoHarm() external {
        vm.prank(_payer);
        _token.approve(address(_payments), 0);
        (uint8 v, bytes32 r, bytes32 s) = _permit(5 ether);
        vm.prank(OTHER);
        _token.permit(_payer, address(_payments), 5 ether, START + 1, v, r, s);
        vm.prank(_payer);
        _payments.depositWithPermit(NODE, 5 ether, START + 1, v, r, s);
        Check.eq(_payments.accountOf(_payer, NODE).balance, DEPOSIT + 5 ether, "deposited");
        vm.prank(_payer);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        _payments.depositWithPermit(NODE, 5 ether, START + 1, v, r, s);
    }

    function testWithdrawalTakesNoticeAndStaysCollectable() external {
        vm.startPrank(_payer);
        vm.expectPartialRevert(IPayments.PaymentsInsufficientBalance.selector);
        _payments.requestWithdrawal(NODE, 101 ether);
        _payments.requestWithdrawal(NODE, 90 ether);
        Check.eq(_payments.firmOf(_payer, NODE), 10 ether, "what the node can count on");
        vm.warp(START + 1 days - 1);
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNoticeRunning.selector, START + 1 days));
        _payments.withdraw(NODE);
        vm.stopPrank();
        IPayments.Voucher memory voucher = _voucher(NODE, 30 ether);
        _collect(voucher, _sign(voucher));
        Check.eq(_payments.firmOf(_payer, NODE), 0, "nothing firm");
        vm.warp(START + 1 days);
        uint256 before = _token.balanceOf(_payer);
        vm.startPrank(_payer);
        vm.expectEmit(address(_payments));
        emit IPayments.Withdrawn(_payer, NODE, 70 ether, 0);
        _payments.withdraw(NODE);
        vm.expectPartialRevert(IPayments.PaymentsNothingToWithdraw.selector);
        _payments.withdraw(NODE);
        vm.stopPrank();
        Check.eq(_token.balanceOf(_payer) - before, 70 ether, "what collection left");
        _checkSolvent();
    }

    function testAnotherRequestRestartsTheNoticeForAllOfIt() external {
        vm.startPrank(_payer);
        _payments.requestWithdrawal(NODE, 1);
        vm.warp(START + 1 days);
        _payments.requestWithdrawal(NODE, 100 ether);
        vm.expectPartialRevert(IPayments.PaymentsNoticeRunning.selector);
        _payments.withdraw(NODE);
        vm.stopPrank();
    }

    /// The attack: a period near the top of its type wraps around, and what needs notice leaves at once.
    function testNoPeriodIsLongEnoughToOverflowIntoAnInstantExit() external {
        uint256[4] memory notices = [type(uint256).max, type(uint64).max - START, 30 days + 1, 1 hours - 1];
        for (uint256 i = 0; i < notices.length; ++i) {
            vm.expectPartialRevert(IPayments.PaymentsNoticeOutOfBounds.selector);
            _deploy(_contracts(), notices[i]);
        }
        Check.eq(_payments.noticeSeconds(), 1 days, "notice");
        Check.eq(_deploy(_contracts(), 1 hours).noticeSeconds(), 1 hours, "the shortest");
        Check.eq(_deploy(_contracts(), 30 days).noticeSeconds(), 30 days, "the longest");
    }

    function testNothingIsSentToWhomNothingIsDue() external {
        IPayments.Voucher memory voucher = _voucher(NODE, 1 ether);
        bytes memory signature = _sign(voucher);
        vm.recordLogs();
        _collect(voucher, signature);
        Check.eq(_onlyReceiver(), NODE, "all of it");
        _staking.setShare(10_000);
        voucher = _voucher(NODE, 2 ether);
        signature = _sign(voucher);
        vm.recordLogs();
        _collect(voucher, signature);
        Check.eq(_onlyReceiver(), address(_staking), "all of it");
    }

    function testOneWeiIsPaidWhoeverItIsFor() external {
        IPayments.Voucher memory voucher = _voucher(NODE, 1);
        _collect(voucher, _sign(voucher));
        Check.eq(_token.balanceOf(NODE), 1, "the node's");
        _staking.setShare(10_000);
        voucher = _voucher(NODE, 2);
        _collect(voucher, _sign(voucher));
        Check.eq(_staking.rewarded(NODE), 1, "the pool is told");
        Check.eq(_token.balanceOf(address(_staking)), 1, "and has it");
        _payments.setProtocolFee(1000, TREASURY);
        _staking.setShare(0);
        voucher = _voucher(NODE, 12);
        _collect(voucher, _sign(voucher));
        (,, uint256 fees) = _payments.protocolFee();
        Check.eq(fees, 1, "the protocol's");
        _payments.sendProtocolFees();
        Check.eq(_token.balanceOf(TREASURY), 1, "sent");
        vm.startPrank(_payer);
        _payments.requestWithdrawal(NODE, 1);
        vm.warp(START + 1 days);
        _payments.withdraw(NODE);
        _payments.deposit(NODE, 1);
        vm.stopPrank();
        Check.eq(_payments.accountOf(_payer, NODE).balance, DEPOSIT - 12, "one out, one in");
        _checkSolvent();
    }

    function testOneWeiIsRefundedOrBurned() external {
        (BatchId id, Opening memory o) = _rejected(_receipt(1), 0);
        _fund(id, 1, 2);
        uint256 before = _token.balanceOf(_payer);
        uint256 supply = _token.totalSupply();
        _payments.refund(id, o);
        Check.eq(_token.balanceOf(_payer) - before, 1, "the fee");
        Check.eq(supply - _token.totalSupply(), 1, "the rest");
        (id, o) = _rejected(_receipt(1), 1);
        _fund(id, 2, 1);
        _payments.refund(id, o);
        Check.eq(_token.balanceOf(_payer) - before, 2, "all there is");
        (id, o) = _rejected(_receipt(0), 2);
        _fund(id, 4, 1);
        vm.recordLogs();
        _payments.refund(id, o);
        Check.eq(_onlyReceiver(), address(0), "of an answer that cost nothing all is burned");
        _checkSolvent();
    }

    function testRefusals() external {
        vm.expectPartialRevert(IPayments.PaymentsAmountZero.selector);
        _payments.deposit(NODE, 0);
        vm.expectPartialRevert(IPayments.PaymentsZeroAddress.selector);
        _payments.deposit(address(0), 1);
        vm.expectPartialRevert(IPayments.PaymentsAmountZero.selector);
        _payments.requestWithdrawal(NODE, 0);
        vm.expectPartialRevert(IPayments.PaymentsUnauthorized.selector);
        _payments.fundRefunds(BatchId.wrap("b"), 1, 1);
        for (uint256 i = 0; i < 5; ++i) {
            address[5] memory c = _contracts();
            c[i] = address(0);
            vm.expectPartialRevert(IPayments.PaymentsZeroAddress.selector);
            _deploy(c, 1 days);
        }
    }

    // Refunds

    function testFuzz_aRejectedAnswerIsRefundedOnceAndTheRestIsBurned(uint256 fee, uint8 index) external {
        (BatchId id, Opening memory o) = _rejected(_receipt(fee), index);
        _fund(id, 1 << index, 0.4 ether);
        Check.eq(_payments.refundOf(id, index), 0.4 ether, "funded");
        uint256 before = _token.balanceOf(_payer);
        uint256 supply = _token.totalSupply();
        _payments.refund(id, o);
        uint256 refunded = fee < 0.4 ether ? fee : 0.4 ether;
        Check.eq(_token.balanceOf(_payer) - before, refunded, "the fee, at most what the slash brought");
        Check.eq(supply - _token.totalSupply(), 0.4 ether - refunded, "the rest is burned");
        Check.eq(_payments.totalOwed(), DEPOSIT, "nothing is stuck");
        _checkSolvent();
        vm.expectRevert(abi.encodeWithSelector(IPayments.PaymentsNothingToRefund.selector, id, index));
        _payments.refund(id, o);
    }

    function testAnAnswerForNobodyIsBurned() external {
        Receipt memory unsigned = _receipt(1 ether);
        unsigned.client = address(0);
        (BatchId id, Opening memory o) = _rejected(unsigned, 3);
        _fund(id, 1 << 3, 0.4 ether);
        uint256 supply = _token.totalSupply();
        _payments.refund(id, o);
        Check.eq(supply - _token.totalSupply(), 0.4 ether, "burned");
        _checkSolvent();
    }

    function testARefundNeedsAFinalRejectionAndAnOpening() external {
        (BatchId id, Opening memory o) = _rejected(_receipt(1 ether), 0);
        _fund(id, 1, 0.4 ether);
        for (uint256 v = 0; v < 5; ++v) {
            if (IVerdicts.Verdict(v) == IVerdicts.Verdict.Rejected) continue;
            _batches.set(id, 0, IVerdicts.Verdict(v), true);
            vm.expectPartialRevert(IPayments.PaymentsNotRejected.selector);
            _payments.refund(id, o);
        }
        _batches.set(id, 0, IVerdicts.Verdict.Rejected, false);
        vm.expectPartialRevert(IPayments.PaymentsNotFinal.selector);
        _payments.refund(id, o);
        _batches.set(id, 0, IVerdicts.Verdict.Rejected, true);
        o.receipt.feeWei = 2 ether;
        vm.expectPartialRevert(IPayments.PaymentsBadOpening.selector);
        _payments.refund(id, o);
        o.receipt.feeWei = 1 ether;
        o.receipt.client = OTHER;
        vm.expectPartialRevert(IPayments.PaymentsBadOpening.selector);
        _payments.refund(id, o);
        o.receipt.client = _payer;
        bytes32[] memory proof = o.proof;
        o.proof = new bytes32[](7);
        vm.expectPartialRevert(IPayments.PaymentsBadOpening.selector);
        _payments.refund(id, o);
        o.proof = proof;
        _payments.refund(id, o);
    }

    function testALeafThatNothingWasTakenForIsRefundedNothing() external {
        (BatchId id, Opening memory o) = _rejected(_receipt(1 ether), 0);
        _fund(id, 2, 0.4 ether);
        vm.expectPartialRevert(IPayments.PaymentsNothingToRefund.selector);
        _payments.refund(id, o);
    }

    /// The attack: a node whose stake is spent loses appeals on answers to itself, to share what honest clients have.
    function testLeavesRejectedOnAppealTakeNothingFromThoseBefore() external {
        (BatchId id, Opening memory o) = _rejected(_receipt(1 ether), 0);
        _fund(id, 1, 0.4 ether);
        vm.startPrank(FINALITY);
        _payments.fundRefunds(id, type(uint256).max, 0);
        _payments.fundRefunds(id, type(uint256).max, 5 ether);
        vm.stopPrank();
        Check.eq(_payments.refundOf(id, 7), 0, "no money came for the others");
        require(_token.transfer(address(_payments), 0.2 ether));
        vm.prank(FINALITY);
        // Leaf 0 has its money already.
        _payments.fundRefunds(id, 3, 0.2 ether);
        Check.eq(_payments.refundOf(id, 0), 0.4 ether, "as before");
        Check.eq(_payments.refundOf(id, 1), 0.2 ether, "its own");
        vm.prank(FINALITY);
        _payments.fundRefunds(id, 3, 0.2 ether);
        Check.eq(_payments.totalOwed(), DEPOSIT + 0.6 ether, "none twice");
        _fund(id, 4, 0.2 ether);
        Check.eq(_payments.refundOf(id, 1), 0.2 ether, "still its own");
        Check.eq(_payments.refundOf(id, 2), 0.2 ether, "as much as the one before");
        _payments.refund(id, o);
        _checkSolvent();
    }

    function testFuzz_refundsNeverTouchDeposits(uint256 leaves, uint128 perLeaf, uint64 came) external {
        require(_token.transfer(address(_payments), came));
        vm.prank(FINALITY);
        _payments.fundRefunds(BatchId.wrap("b"), leaves, perLeaf);
        Check.yes(_payments.totalOwed() <= _token.balanceOf(address(_payments)), "never owes more than it has");
    }

    // Reentrancy through a token with hooks

    function testAHookedTokenCannotReenter() external {
        Reenterer node = new Reenterer();
        node.watch(_token);
        vm.startPrank(_payer);
        _payments.deposit(address(node), 20 ether);
        vm.stopPrank();
        IPayments.Voucher memory voucher = _voucher(address(node), 15 ether);
        bytes memory again = abi.encodeCall(IPayments.collect, (voucher, _sign(voucher)));
        node.prepare(address(_payments), again);
        voucher.earnedWei = 10 ether;
        node.execute(address(_payments), abi.encodeCall(IPayments.collect, (voucher, _sign(voucher))));
        _checkReentranceRefused(node, 10 ether);
        node.prepare(address(_payments), abi.encodeCall(IPayments.sendProtocolFees, ()));
        node.execute(address(_payments), again);
        _checkReentranceRefused(node, 15 ether);
    }

    function testAHookedPayerCannotReenterItsDepositOrWithdrawal() external {
        Reenterer payer = new Reenterer();
        require(_token.transfer(address(payer), 10 ether));
        payer.execute(address(_token), abi.encodeCall(_token.approve, (address(_payments), 10 ether)));
        payer.watch(_token);
        payer.prepare(address(_payments), abi.encodeCall(IPayments.withdraw, (NODE)));
        payer.execute(address(_payments), abi.encodeCall(IPayments.deposit, (NODE, 10 ether)));
        _checkReentranceRefused(payer, 0);
        payer.execute(address(_payments), abi.encodeCall(IPayments.requestWithdrawal, (NODE, 10 ether)));
        vm.warp(START + 1 days);
        payer.prepare(address(_payments), abi.encodeCall(IPayments.withdraw, (NODE)));
        payer.execute(address(_payments), abi.encodeCall(IPayments.withdraw, (NODE)));
        _checkReentranceRefused(payer, 10 ether);
    }

    function testAHookedClientCannotReenterItsRefund() external {
        Reenterer client = new Reenterer();
        client.watch(_token);
        Receipt memory receipt = _receipt(0.1 ether);
        receipt.client = address(client);
        (BatchId id, Opening memory o) = _rejected(receipt, 0);
        _fund(id, 1, 0.4 ether);
        client.prepare(address(_payments), abi.encodeCall(IPayments.refund, (id, o)));
        _payments.refund(id, o);
        _checkReentranceRefused(client, 0.1 ether);
    }

    function _checkReentranceRefused(Reenterer who, uint256 balance) private view {
        Check.yes(who.tried() && !who.succeeded(), "tried in vain");
        bytes memory failure = who.failure();
        Check.eq(
            bytes32(failure),
            bytes32(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector),
            "by the guard"
        );
        Check.eq(_token.balanceOf(address(who)), balance, "no more than its own");
        _checkSolvent();
    }

    /// Of the one transfer that was recorded.
    function _onlyReceiver() private returns (address receiver) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 count = 0;
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != IERC20.Transfer.selector) continue;
            receiver = address(uint160(uint256(logs[i].topics[2])));
            ++count;
        }
        Check.eq(count, 1, "one transfer");
    }

    function _checkSolvent() private view {
        Check.eq(_token.balanceOf(address(_payments)), _payments.totalOwed(), "holds what it owes");
    }

    function _deploy(address[5] memory contracts, uint256 notice) private returns (IPayments) {
        return IPayments(Built.create("Payments", abi.encode(contracts, notice, address(this))));
    }

    /// Token, Staking, Batches, Finality, Requests.
    function _contracts() private view returns (address[5] memory) {
        return [address(_token), address(_staking), address(_batches), FINALITY, REQUESTS];
    }

    function _fund(BatchId id, uint256 leaves, uint256 perLeaf) private {
        uint256 count = 0;
        for (uint256 word = leaves; word > 0; word &= word - 1) ++count;
        require(_token.transfer(address(_payments), count * perLeaf));
        vm.prank(FINALITY);
        _payments.fundRefunds(id, leaves, perLeaf);
    }

    function _rejected(Receipt memory receipt, uint256 index) private returns (BatchId id, Opening memory o) {
        (id, o) = Leaves.opening(address(_batches), index, receipt);
        _batches.set(id, index, IVerdicts.Verdict.Rejected, true);
    }

    function _receipt(uint256 fee) private view returns (Receipt memory receipt) {
        receipt.client = _payer;
        receipt.node = NODE;
        receipt.feeWei = fee;
    }

    function _collect(IPayments.Voucher memory voucher, bytes memory signature) private {
        vm.prank(voucher.payee);
        _payments.collect(voucher, signature);
    }

    function _voucher(address payee, uint256 cumulative) private view returns (IPayments.Voucher memory) {
        return IPayments.Voucher(_payer, payee, cumulative, cumulative, 0);
    }

    function _sign(IPayments.Voucher memory voucher) private returns (bytes memory) {
        bytes32 structHash = keccak256(abi.encode(VOUCHER_TYPEHASH, voucher));
        bytes32 domain = _domain("Trine", address(_payments));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, structHash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, digest);
        return abi.encodePacked(r, s, v);
    }

    function _permit(uint256 amount) private returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                _payer,
                address(_payments),
                amount,
                _token.nonces(_payer),
                START + 1
            )
        );
        bytes32 domain = _domain("Trine", address(_token));
        return vm.sign(PAYER_KEY, keccak256(abi.encodePacked(hex"1901", domain, structHash)));
    }

    function _domain(string memory name, address verifying) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                block.chainid,
                verifying
            )
        );
    }
}
