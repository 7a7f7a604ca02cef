// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Guarded} from "../../contracts/Guarded.sol";
import {AnswerConsumer} from "../../contracts/examples/AnswerConsumer.sol";
import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {IRewards} from "../../contracts/interfaces/IRewards.sol";
import {IStakeToken} from "../../contracts/interfaces/IStakeToken.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, ModelId} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {Consumer} from "./Consumer.sol";
import {HookedToken, Leaves, Reenterer, RewardsDouble, VerdictsDouble} from "./Doubles.sol";
import {MeasuringConsumer} from "./Measured.sol";
import {RequestsDeployer} from "./RequestsDeployer.sol";
import {Check, vm} from "./Vm.sol";

contract RequestsTest {
    uint256 private constant START = 1_000_000;
    address private constant NODE = address(0xA0);
    address private constant OTHER = address(0xA1);
    address private constant CLIENT = address(0xC1);
    address private constant GUARDIAN = address(0x61);
    ModelId private constant MODEL = ModelId.wrap("model");
    bytes private constant INPUT = "{\"prompt\":\"?\"}";
    bytes private constant OUTPUT = "the answer";

    HookedToken private _token;
    RewardsDouble private _staking;
    VerdictsDouble private _batches;
    IPayments private _payments;
    IRequests private _requests;
    Guarded private _guarded; // the same, as guardian and owner know it

    function setUp() external {
        vm.warp(START);
        _token = new HookedToken(address(this), 1_000_000 ether);
        _staking = new RewardsDouble();
        _batches = new VerdictsDouble();
        // The two know one another: the address of the second contract after the next one is known beforehand.
        RequestsDeployer deployer = new RequestsDeployer();
        (_payments, _requests) = deployer.deploy(
            IStakeToken(address(_token)),
            IRewards(address(_staking)),
            IVerdicts(address(_batches)),
            address(this),
            GUARDIAN
        );
        require(_token.transfer(CLIENT, 1000 ether));
        _guarded = Guarded(address(_requests));
        vm.prank(CLIENT);
        _token.approve(address(_requests), type(uint256).max);
    }

    function testAnAnswerIsBroughtByAnyoneAndPaidOnce() external {
        _payments.setProtocolFee(1000, OTHER);
        _staking.setShare(2000);
        bytes32 id = _post(_order());
        Check.eq(_requests.totalOwed(), 1 ether, "escrow");
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, CLIENT));
        vm.expectEmit(address(_requests));
        emit IRequests.RequestFulfilled(id, batchId, NODE, 5, 0.6 ether, 0.4 ether, OUTPUT);
        vm.prank(OTHER);
        _requests.fulfil(id, batchId, o, OUTPUT);
        Check.eq(_token.balanceOf(NODE), 0.432 ether, "0.6 less a tenth less a fifth");
        Check.eq(_staking.rewarded(NODE), 0.108 ether, "the pool's");
        Check.eq(_payments.totalOwed(), 0.06 ether, "the protocol's");
        Check.eq(_requests.creditOf(CLIENT), 0.4 ether, "the rest is the requester's");
        Check.eq(uint256(_requests.requestOf(id).state), uint256(IRequests.State.Fulfilled), "state");
        _checkSolvent();
        vm.expectRevert(abi.encodeWithSelector(IRequests.RequestsNotOpen.selector, id, IRequests.State.Fulfilled));
        _requests.fulfil(id, batchId, o, OUTPUT);
        vm.expectEmit(address(_requests));
        emit IRequests.CreditWithdrawn(CLIENT, 0.4 ether);
        vm.prank(CLIENT);
        _requests.withdrawCredit();
        Check.eq(_token.balanceOf(CLIENT), 999.4 ether, "fetched");
        vm.prank(CLIENT);
        vm.expectPartialRevert(IRequests.RequestsNothingToWithdraw.selector);
        _requests.withdrawCredit();
        _checkSolvent();
    }

    function testFuzz_theEscrowIsDividedToTheLastWei(uint128 fee, uint64 escrow) external {
        IRequests.Order memory order = _order();
        order.maxFeeWei = escrow;
        bytes32 id = _post(order);
        Receipt memory receipt = _receipt(id, CLIENT);
        receipt.feeWei = fee;
        (BatchId batchId, Opening memory o) = _accepted(receipt);
        _requests.fulfil(id, batchId, o, OUTPUT);
        uint256 paid = fee < escrow ? fee : escrow;
        Check.eq(_token.balanceOf(NODE), paid, "paid");
        Check.eq(_requests.creditOf(CLIENT), escrow - paid, "returned");
        _checkSolvent();
    }

    function testAnAnswerForOneRequestFulfilsNoOther() external {
        bytes32 first = _post(_order());
        bytes32 second = _post(_order());
        Check.yes(first != second, "the same order twice has two ids");
        (BatchId batchId, Opening memory o) = _accepted(_receipt(first, CLIENT));
        _requests.fulfil(first, batchId, o, OUTPUT);
        vm.expectRevert(abi.encodeWithSelector(IRequests.RequestsMismatch.selector, second, "requestHash"));
        _requests.fulfil(second, batchId, o, OUTPUT);
        // Nor does the same receipt in another batch fulfil its request again.
        o.index = 6;
        (batchId, o) = Leaves.opening(address(_batches), 6, o.receipt);
        _batches.set(batchId, 6, IVerdicts.Verdict.Accepted, true);
        vm.expectPartialRevert(IRequests.RequestsNotOpen.selector);
        _requests.fulfil(first, batchId, o, OUTPUT);
    }

    function testTheReceiptMustSayWhatWasAsked() external {
        IRequests.Order memory order = _order();
        order.node = NODE;
        bytes32 id = _post(order);
        string[6] memory fields = ["requestHash", "client", "node", "modelId", "inputHash", "outputTokens"];
        for (uint256 i = 0; i < fields.length; ++i) {
            Receipt memory receipt = _receipt(id, CLIENT);
            if (i == 0) receipt.requestHash = "other";
            if (i == 1) receipt.client = OTHER;
            if (i == 2) receipt.node = OTHER;
            if (i == 3) receipt.modelId = "other";
            if (i == 4) receipt.inputHash = "other";
            if (i == 5) receipt.outputTokens = 33;
            (BatchId batchId, Opening memory o) = _accepted(receipt);
            vm.expectRevert(abi.encodeWithSelector(IRequests.RequestsMismatch.selector, id, fields[i]));
            _requests.fulfil(id, batchId, o, OUTPUT);
        }
        (BatchId right, Opening memory opening) = _accepted(_receipt(id, CLIENT));
        vm.expectRevert(abi.encodeWithSelector(IRequests.RequestsMismatch.selector, id, "textHash"));
        _requests.fulfil(id, right, opening, "another text");
        vm.expectPartialRevert(IRequests.RequestsOutputTooLong.selector);
        _requests.fulfil(id, right, opening, new bytes(64 * 1024 + 1));
        _requests.fulfil(id, right, opening, OUTPUT);
    }

    function testTheAnswerMustBeALeafThatWasAccepted() external {
        bytes32 id = _post(_order());
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, CLIENT));
        for (uint256 v = 0; v < 5; ++v) {
            if (IVerdicts.Verdict(v) == IVerdicts.Verdict.Accepted) continue;
            _batches.set(batchId, 5, IVerdicts.Verdict(v), true);
            vm.expectPartialRevert(IRequests.RequestsNotAccepted.selector);
            _requests.fulfil(id, batchId, o, OUTPUT);
        }
        _batches.set(batchId, 5, IVerdicts.Verdict.Accepted, false);
        o.receipt.feeWei = 1 ether;
        vm.expectPartialRevert(IRequests.RequestsBadOpening.selector);
        _requests.fulfil(id, batchId, o, OUTPUT);
        o.receipt.feeWei = 0.6 ether;
        vm.expectPartialRevert(IRequests.RequestsBadOpening.selector);
        _requests.fulfil(id, BatchId.wrap("other"), o, OUTPUT);
        _requests.fulfil(id, batchId, o, OUTPUT);
    }

    function testWhoWaitsForTheFinalVerdictGetsNoneBefore() external {
        IRequests.Order memory order = _order();
        order.waitForFinal = true;
        bytes32 id = _post(order);
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, CLIENT));
        _batches.set(batchId, 5, IVerdicts.Verdict.Accepted, false);
        vm.expectPartialRevert(IRequests.RequestsNotFinal.selector);
        _requests.fulfil(id, batchId, o, OUTPUT);
        _batches.set(batchId, 5, IVerdicts.Verdict.Accepted, true);
        _requests.fulfil(id, batchId, o, OUTPUT);
    }

    function testARequestExpiresAfterItsDeadlineAndNotBefore() external {
        bytes32 id = _post(_order());
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, CLIENT));
        vm.warp(START + 1 days);
        vm.expectPartialRevert(IRequests.RequestsDeadlineNotPassed.selector);
        _requests.expire(id);
        vm.warp(START + 1 days + 1);
        vm.expectPartialRevert(IRequests.RequestsDeadlinePassed.selector);
        _requests.fulfil(id, batchId, o, OUTPUT);
        _requests.expire(id);
        Check.eq(_requests.creditOf(CLIENT), 1 ether, "the whole escrow");
        vm.expectRevert(abi.encodeWithSelector(IRequests.RequestsNotOpen.selector, id, IRequests.State.Expired));
        _requests.expire(id);
        vm.expectPartialRevert(IRequests.RequestsNotOpen.selector);
        _requests.fulfil(id, batchId, o, OUTPUT);
        vm.expectPartialRevert(IRequests.RequestsNotOpen.selector);
        _requests.expire("unknown");
        _checkSolvent();
    }

    function testOrdersAreBounded() external {
        vm.startPrank(CLIENT);
        IRequests.Order memory order = _order();
        order.input = "";
        vm.expectPartialRevert(IRequests.RequestsInputOutOfBounds.selector);
        _requests.post(order);
        order.input = new bytes(24 * 1024 + 1);
        vm.expectPartialRevert(IRequests.RequestsInputOutOfBounds.selector);
        _requests.post(order);
        order = _order();
        order.maxTokens = 0;
        vm.expectPartialRevert(IRequests.RequestsMaxTokensZero.selector);
        _requests.post(order);
        order = _order();
        (bytes4 deadline, uint256 latest) = (IRequests.RequestsDeadlineOutOfBounds.selector, START + 365 days);
        order.deadline = uint64(START);
        vm.expectRevert(abi.encodeWithSelector(deadline, START, START + 1, latest));
        _requests.post(order);
        order.deadline = uint64(latest + 1);
        vm.expectRevert(abi.encodeWithSelector(deadline, latest + 1, START + 1, latest));
        _requests.post(order);
        order = _order();
        order.callbackGas = 2_000_001;
        vm.expectPartialRevert(IRequests.RequestsCallbackGasOutOfBounds.selector);
        _requests.post(order);
        order = _order();
        order.maxFeeWei = 0;
        order.input = new bytes(24 * 1024);
        _requests.post(order);
        order.input = new bytes(1);
        (order.maxTokens, order.deadline) = (1, uint64(START + 1));
        _requests.post(order);
        order.deadline = uint64(START + 365 days);
        _requests.post(order);
        vm.stopPrank();
        for (uint256 i = 0; i < 3; ++i) {
            vm.expectPartialRevert(IRequests.RequestsZeroAddress.selector);
            address[3] memory known = [address(_token), address(_batches), address(_payments)];
            known[i] = address(0);
            Built.create("Requests", abi.encode(known, address(this), GUARDIAN));
        }
    }

    function testAnIdIsKnownBeforehandAndIsWhatPythonComputes() external {
        bytes32 next = _requests.nextRequestId(CLIENT);
        Check.eq(_post(_order()), next, "known");
        Check.yes(_requests.nextRequestId(CLIENT) != next, "the next one differs");
        address requests = address(0xE5e5E5E5e5e5E5E5E5E5e5E5e5e5e5E5e5e5e5e5);
        address requester = address(0xC1C1c1c1C1C1C1c1c1C1C1C1c1C1C1C1c1C1c1c1);
        // tests/unit/test_requests.py expects the same.
        Check.eq(
            keccak256(abi.encode(uint256(31_337), requests, requester, uint256(7))),
            0x1e10956ebcfebbab8e59f2eeb2042fdd98acdda4acb1350463f809d7dda4e92d,
            "id"
        );
        Check.eq(next, keccak256(abi.encode(block.chainid, address(_requests), CLIENT, uint256(0))), "form");
    }

    // Callbacks

    function testAContractAsksAndKeepsTheAnswer() external {
        AnswerConsumer consumer = AnswerConsumer(Built.create("AnswerConsumer", abi.encode(_requests)));
        vm.startPrank(CLIENT);
        _token.approve(address(consumer), type(uint256).max);
        bytes32 id = consumer.ask(MODEL, "?", 1 ether);
        vm.stopPrank();
        Receipt memory receipt = _receipt(id, address(consumer));
        receipt.inputHash = keccak256("{\"messages\":[{\"content\":\"?\",\"role\":\"user\"}]}");
        (BatchId batchId, Opening memory o) = _accepted(receipt);
        Check.eq(bytes(consumer.answerOf(id)).length, 0, "not yet");
        vm.expectEmit(address(consumer));
        emit AnswerConsumer.Answered(id, string(OUTPUT));
        vm.expectEmit(address(_requests));
        emit IRequests.RequesterCalled(id, address(consumer), true);
        _requests.fulfil(id, batchId, o, OUTPUT);
        Check.eq(keccak256(bytes(consumer.answerOf(id))), keccak256(OUTPUT), "kept");
        Check.eq(_requests.requestOf(id).paid, 0.6 ether, "what the node took");
        consumer.refundQuestion(id);
        Check.eq(_token.balanceOf(CLIENT), 999.4 ether, "what it did not goes to who asked");
    }

    function testACallbackCanAskTheNextQuestionButNotReenter() external {
        NosyConsumer consumer = new NosyConsumer(_requests);
        require(_token.transfer(address(consumer), 10 ether));
        consumer.approve(_token);
        bytes32 id = consumer.ask(_orderWithCallback(1_000_000));
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, address(consumer)));
        consumer.remember(abi.encodeCall(IRequests.fulfil, (id, batchId, o, OUTPUT)));
        _requests.fulfil(id, batchId, o, OUTPUT);
        Check.yes(consumer.called(), "called");
        bytes4 guard = ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector;
        Check.eq(bytes32(consumer.fulfilFailure()), bytes32(guard), "no fulfil within");
        Check.eq(bytes32(consumer.withdrawFailure()), bytes32(guard), "no withdrawal within");
        Check.eq(bytes32(consumer.expireFailure()), bytes32(guard), "no expiry within");
        Check.eq(
            uint256(_requests.requestOf(consumer.next()).state), uint256(IRequests.State.Open), "the next question"
        );
        _checkSolvent();
    }

    function testACallbackThatFailsBurnsItsGasOrReturnsABombChangesNothing() external {
        for (uint256 kind = 0; kind < 4; ++kind) {
            HostileConsumer consumer = new HostileConsumer(_requests, kind);
            require(_token.transfer(address(consumer), 1 ether));
            consumer.approve(_token);
            bytes32 id = consumer.ask(_orderWithCallback(2_000_000));
            (BatchId batchId, Opening memory o) = _accepted(_receipt(id, address(consumer)));
            vm.expectEmit(address(_requests));
            // A bomb of 900,000 bytes ends well for the callee, and costs only its own gas.
            emit IRequests.RequesterCalled(id, address(consumer), kind == 3);
            uint256 before = gasleft();
            _requests.fulfil(id, batchId, o, OUTPUT);
            Check.yes(before - gasleft() < 2_600_000, "no more gas than the callback's and a settlement's");
            Check.eq(uint256(_requests.requestOf(id).state), uint256(IRequests.State.Fulfilled), "fulfilled");
            Check.eq(_token.balanceOf(NODE), 0.6 ether * (kind + 1), "paid");
        }
        _checkSolvent();
    }

    function testFuzz_aBringerCannotStarveTheCallback(uint24 extra) external {
        MeasuringConsumer consumer = _measuring();
        require(_token.transfer(address(consumer), 1 ether));
        consumer.approve(_token);
        uint32 promised = 300_000;
        bytes32 id = consumer.ask(_orderWithCallback(promised));
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, address(consumer)));
        bytes memory data = abi.encodeCall(IRequests.fulfil, (id, batchId, o, OUTPUT));
        (bool done,) = address(_requests).call{gas: 200_000 + uint256(extra) % 600_000}(data);
        if (!done) {
            Check.eq(uint256(_requests.requestOf(id).state), uint256(IRequests.State.Open), "nothing happened");
            _requests.fulfil(id, batchId, o, OUTPUT);
        }
        Check.yes(consumer.got() + 1000 >= promised, "all the gas that was promised");
    }

    function testTooLittleGasIsRefusedByName() external {
        MeasuringConsumer consumer = _measuring();
        require(_token.transfer(address(consumer), 1 ether));
        consumer.approve(_token);
        bytes32 id = consumer.ask(_orderWithCallback(2_000_000));
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, address(consumer)));
        vm.expectPartialRevert(IRequests.RequestsTooLittleGas.selector);
        _requests.fulfil{gas: 1_900_000}(id, batchId, o, OUTPUT);
        // What is asked for is the callback's gas, and 20,000 for the call and what is told of it.
        bytes memory data = abi.encodeCall(IRequests.fulfil, (id, batchId, o, OUTPUT));
        (bool done, bytes memory reason) = address(_requests).call{gas: 1_900_000}(data);
        uint256 required;
        assembly ("memory-safe") {
            required := mload(add(reason, 68))
        }
        Check.yes(!done, "refused");
        Check.eq(required, 2_020_000, "required");
    }

    /// To the gas: less than 64 parts of it for 63 that the callback and what comes after it need is refused.
    function testTheLeastGasIsAllThatWasPromised() external {
        MeasuringConsumer consumer = _measuring();
        require(_token.transfer(address(consumer), 1 ether));
        consumer.approve(_token);
        uint256 parts = 5000;
        bytes32 id = consumer.ask(_orderWithCallback(uint32(63 * parts - 20_000)));
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, address(consumer)));
        bytes memory data = abi.encodeCall(IRequests.fulfil, (id, batchId, o, OUTPUT));
        (uint256 refused, uint256 done) = (300_000, 1_000_000);
        while (done - refused > 1) {
            uint256 middle = (refused + done) / 2;
            if (_isDoneWith(middle, data)) done = middle;
            else refused = middle;
        }
        (, bytes memory reason) = address(_requests).call{gas: refused}(data);
        bytes memory expected =
            abi.encodeWithSelector(IRequests.RequestsTooLittleGas.selector, 64 * parts - 1, 63 * parts);
        Check.eq(keccak256(reason), keccak256(expected), "one gas less than that");
    }

    function _isDoneWith(uint256 gas, bytes memory data) private returns (bool done) {
        uint256 before = vm.snapshotState();
        (done,) = address(_requests).call{gas: gas}(data);
        require(vm.revertToState(before));
    }

    function testAFreeAnswerMovesNothingAndCallsNobodyWhoDidNotAsk() external {
        IRequests.Order memory order = _order();
        order.maxFeeWei = 0;
        vm.recordLogs();
        bytes32 id = _post(order);
        Check.eq(vm.getRecordedLogs().length, 1, "posted, and nothing else");
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, CLIENT));
        vm.recordLogs();
        _requests.fulfil(id, batchId, o, OUTPUT);
        Check.eq(vm.getRecordedLogs().length, 1, "fulfilled, and nothing else");
    }

    function testTheSmallestAnswerIsPaidAndTold() external {
        IRequests.Order memory order = _orderWithCallback(1);
        order.maxFeeWei = 1;
        bytes32 id = _post(order);
        Receipt memory receipt = _receipt(id, CLIENT);
        receipt.textHash = keccak256("");
        (BatchId batchId, Opening memory o) = _accepted(receipt);
        vm.warp(START + 1 days);
        vm.expectEmit(address(_requests));
        // Without code the call does nothing, and so it does well.
        emit IRequests.RequesterCalled(id, CLIENT, true);
        _requests.fulfil(id, batchId, o, "");
        Check.eq(_token.balanceOf(NODE), 1, "one wei, in the last second");
        _checkSolvent();
    }

    function testAnswersOfSixtyFourKibibytesAreBrought() external {
        bytes memory output = new bytes(64 * 1024);
        bytes32 id = _post(_order());
        Receipt memory receipt = _receipt(id, CLIENT);
        receipt.textHash = keccak256(output);
        (BatchId batchId, Opening memory o) = _accepted(receipt);
        _requests.fulfil(id, batchId, o, output);
        Check.eq(_token.balanceOf(NODE), 0.6 ether, "paid");
    }

    function testARequesterWithoutCodeIsCalledInVain() external {
        IRequests.Order memory order = _orderWithCallback(50_000);
        bytes32 id = _post(order);
        (BatchId batchId, Opening memory o) = _accepted(_receipt(id, CLIENT));
        _requests.fulfil(id, batchId, o, OUTPUT);
        Check.eq(_token.balanceOf(NODE), 0.6 ether, "paid");
    }

    // Tokens with hooks

    function testAHookedNodeCannotReenterWhileItIsPaid() external {
        Reenterer node = new Reenterer();
        node.watch(_token);
        bytes32 id = _post(_order());
        Receipt memory receipt = _receipt(id, CLIENT);
        receipt.node = address(node);
        (BatchId batchId, Opening memory o) = _accepted(receipt);
        node.prepare(address(_requests), abi.encodeCall(IRequests.fulfil, (id, batchId, o, OUTPUT)));
        _requests.fulfil(id, batchId, o, OUTPUT);
        Check.yes(node.tried() && !node.succeeded(), "tried in vain");
        Check.eq(_token.balanceOf(address(node)), 0.6 ether, "paid once");
        _checkSolvent();
    }

    function testAHookedRequesterCannotWithdrawTwice() external {
        Reenterer requester = new Reenterer();
        require(_token.transfer(address(requester), 1 ether));
        requester.execute(address(_token), abi.encodeCall(_token.approve, (address(_requests), 1 ether)));
        requester.execute(address(_requests), abi.encodeCall(IRequests.post, (_order())));
        requester.watch(_token);
        bytes32 id = keccak256(abi.encode(block.chainid, address(_requests), address(requester), uint256(0)));
        vm.warp(START + 1 days + 1);
        _requests.expire(id);
        requester.prepare(address(_requests), abi.encodeCall(IRequests.withdrawCredit, ()));
        requester.execute(address(_requests), abi.encodeCall(IRequests.withdrawCredit, ()));
        Check.yes(requester.tried() && !requester.succeeded(), "tried in vain");
        Check.eq(_token.balanceOf(address(requester)), 1 ether, "once");
        _checkSolvent();
    }

    // The guardian

    function testAStopHoldsBackNewRequestsOnly() external {
        bytes32 first = _post(_order());
        bytes32 second = _post(_order());
        vm.expectRevert(abi.encodeWithSelector(Guarded.GuardedNotGuardian.selector, address(this), GUARDIAN));
        _guarded.pause();
        vm.prank(GUARDIAN);
        _guarded.pause();
        vm.prank(CLIENT);
        vm.expectPartialRevert(Pausable.EnforcedPause.selector);
        _requests.post(_order());
        (BatchId batchId, Opening memory o) = _accepted(_receipt(first, CLIENT));
        _requests.fulfil(first, batchId, o, OUTPUT);
        vm.warp(START + 1 days + 1);
        _requests.expire(second);
        vm.prank(CLIENT);
        _requests.withdrawCredit();
        vm.prank(GUARDIAN);
        vm.expectPartialRevert(Ownable.OwnableUnauthorizedAccount.selector);
        _guarded.unpause();
        _guarded.unpause();
        vm.warp(START);
        _post(_order());
    }

    function testOnlyTheOwnerNamesTheGuardianAndItStaysOwner() external {
        Check.eq(_guarded.guardian(), GUARDIAN, "guardian");
        vm.prank(GUARDIAN);
        vm.expectPartialRevert(Ownable.OwnableUnauthorizedAccount.selector);
        _guarded.setGuardian(OTHER);
        _guarded.setGuardian(address(0));
        vm.prank(GUARDIAN);
        vm.expectPartialRevert(Guarded.GuardedNotGuardian.selector);
        _guarded.pause();
        vm.expectPartialRevert(Guarded.GuardedOwnerNeeded.selector);
        _guarded.renounceOwnership();
        vm.prank(OTHER);
        vm.expectPartialRevert(Ownable.OwnableUnauthorizedAccount.selector);
        _guarded.renounceOwnership();
    }

    function _checkSolvent() private view {
        Check.eq(_token.balanceOf(address(_requests)), _requests.totalOwed(), "requests hold what they owe");
        Check.eq(_token.balanceOf(address(_payments)), _payments.totalOwed(), "payments hold what they owe");
    }

    function _post(IRequests.Order memory order) private returns (bytes32) {
        vm.prank(CLIENT);
        return _requests.post(order);
    }

    function _order() private pure returns (IRequests.Order memory) {
        return IRequests.Order(MODEL, address(0), INPUT, 32, 1 ether, uint64(START + 1 days), 0, false);
    }

    function _orderWithCallback(uint32 callbackGas) private pure returns (IRequests.Order memory order) {
        order = _order();
        order.callbackGas = callbackGas;
    }

    function _receipt(bytes32 id, address client) private pure returns (Receipt memory receipt) {
        receipt.requestHash = id;
        receipt.client = client;
        receipt.node = NODE;
        receipt.modelId = ModelId.unwrap(MODEL);
        receipt.inputHash = keccak256(INPUT);
        receipt.textHash = keccak256(OUTPUT);
        receipt.outputTokens = 32;
        receipt.feeWei = 0.6 ether;
    }

    function _measuring() private returns (MeasuringConsumer) {
        return MeasuringConsumer(Built.create("MeasuringConsumer", abi.encode(_requests)));
    }

    function _accepted(Receipt memory receipt) private returns (BatchId id, Opening memory o) {
        (id, o) = Leaves.opening(address(_batches), 5, receipt);
        _batches.set(id, 5, IVerdicts.Verdict.Accepted, true);
    }
}

/// @notice Tries everything from within its callback.
contract NosyConsumer is Consumer {
    bytes private _fulfil;
    bool public called;
    bytes public fulfilFailure;
    bytes public withdrawFailure;
    bytes public expireFailure;
    bytes32 public next;

    constructor(IRequests requests) Consumer(requests) {}

    function remember(bytes calldata fulfil) external {
        _fulfil = fulfil;
    }

    function onTrineAnswer(bytes32 id, bytes calldata, bytes32, uint256) external {
        called = true;
        (, fulfilFailure) = address(REQUESTS).call(_fulfil);
        (, withdrawFailure) = address(REQUESTS).call(abi.encodeCall(IRequests.withdrawCredit, ()));
        (, expireFailure) = address(REQUESTS).call(abi.encodeCall(IRequests.expire, (id)));
        next = REQUESTS.post(
            IRequests.Order(ModelId.wrap("model"), address(0), "{}", 1, 1, uint64(block.timestamp + 1), 0, false)
        );
    }
}

/// @notice 0: reverts; 1: burns all gas; 2: reverts with all the data that its gas buys; 3: returns it.
contract HostileConsumer is Consumer {
    uint256 private immutable KIND;

    constructor(IRequests requests, uint256 kind) Consumer(requests) {
        KIND = kind;
    }

    function onTrineAnswer(bytes32, bytes calldata, bytes32, uint256) external view {
        uint256 kind = KIND;
        require(kind != 0, "no");
        assembly {
            if eq(kind, 1) { invalid() }
            // As much memory as the gas of a callback buys.
            if eq(kind, 2) { revert(0, 900000) }
            return(0, 900000)
        }
    }
}
