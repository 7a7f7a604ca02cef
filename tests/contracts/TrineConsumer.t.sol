// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TrineConsumer} from "../../contracts/consumers/TrineConsumer.sol";
import {TrineInput} from "../../contracts/consumers/TrineInput.sol";
import {AnswerConsumer} from "../../contracts/examples/AnswerConsumer.sol";
import {IAnswerConsumer} from "../../contracts/interfaces/IAnswerConsumer.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {IRewards} from "../../contracts/interfaces/IRewards.sol";
import {IStakeToken} from "../../contracts/interfaces/IStakeToken.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, ModelId} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {HookedToken, Leaves, RewardsDouble, VerdictsDouble} from "./Doubles.sol";
import {RequestsDeployer} from "./RequestsDeployer.sol";
import {Check, Vm, vm} from "./Vm.sol";

/// @notice A contract that inherits, and whose handler does what a test tells it.
contract Handler is TrineConsumer {
    enum Does {
        Keep,
        Revert,
        BurnAllGas,
        Reenter,
        RevertWithABomb
    }

    Does public does;
    bytes public kept;
    uint256 public calls;
    uint256 public refunded;
    bytes public reentered;
    bytes32 public next;

    constructor(IRequests requests) TrineConsumer(requests) {}

    function set(Does does_) external {
        does = does_;
    }

    function ask(ModelId model, uint128 fee, uint32 callbackGas) external returns (bytes32) {
        return _ask(model, TrineInput.prompt("?"), 32, fee, callbackGas);
    }

    function askUnder(IRequests.Order calldata order) external returns (bytes32) {
        return _ask(order);
    }

    function _onAnswer(bytes32 requestId, bytes calldata output) internal override {
        ++calls;
        if (does == Does.Revert) revert("no");
        if (does == Does.BurnAllGas) assembly { invalid() }
        if (does == Does.RevertWithABomb) assembly { revert(0, 300000) }
        if (does == Does.Reenter) {
            bytes memory again = abi.encodeCall(IAnswerConsumer.onTrineAnswer, (requestId, output, bytes32(0), 0));
            (, reentered) = address(this).call(again);
            (bool retried,) = address(this).call(abi.encodeCall(TrineConsumer.retryAnswer, (requestId, output)));
            (bool refunded_,) = address(this).call(abi.encodeCall(TrineConsumer.refundQuestion, (requestId)));
            require(!retried && !refunded_, "reentered");
            next = _ask(ModelId.wrap("model"), TrineInput.prompt("!"), 1, 0, 200_000);
        }
        kept = output;
    }

    function _onRefund(bytes32, uint256 amountWei) internal override {
        refunded += amountWei;
    }
}

contract TrineConsumerTest {
    uint256 private constant START = 1_000_000;
    address private constant NODE = address(0xA0);
    address private constant CLIENT = address(0xC1);
    ModelId private constant MODEL = ModelId.wrap("model");
    bytes private constant OUTPUT = "the answer";
    uint32 private constant GAS = 500_000;

    HookedToken private _token;
    VerdictsDouble private _batches;
    IRequests private _requests;
    Handler private _handler;

    function setUp() external {
        vm.warp(START);
        _token = new HookedToken(address(this), 1_000_000 ether);
        _batches = new VerdictsDouble();
        RewardsDouble staking = new RewardsDouble();
        RequestsDeployer deployer = new RequestsDeployer();
        (, _requests) = deployer.deploy(
            IStakeToken(address(_token)),
            IRewards(address(staking)),
            IVerdicts(address(_batches)),
            address(this),
            address(0x61)
        );
        _handler = new Handler(_requests);
        require(_token.transfer(address(_handler), 10 ether));
        require(_token.transfer(CLIENT, 10 ether));
    }

    function testAnAnswerIsHandledOnce() external {
        bytes32 id = _handler.ask(MODEL, 1 ether, GAS);
        _expect(id, TrineConsumer.Progress.Waiting);
        _answer(id);
        Check.eq(keccak256(_handler.kept()), keccak256(OUTPUT), "kept");
        _expect(id, TrineConsumer.Progress.Answered);
        // Not even Requests could tell it twice.
        vm.prank(address(_requests));
        vm.expectPartialRevert(TrineConsumer.TrineConsumerNotWaiting.selector);
        _handler.onTrineAnswer(id, OUTPUT, 0, 0);
        vm.expectPartialRevert(TrineConsumer.TrineConsumerNotUndelivered.selector);
        _handler.retryAnswer(id, OUTPUT);
        Check.eq(_handler.calls(), 1, "once");
    }

    function testFuzz_nobodyButRequestsTellsAnAnswer(address caller) external {
        if (caller == address(_requests) || caller == address(_handler)) return;
        bytes32 id = _handler.ask(MODEL, 1 ether, GAS);
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(TrineConsumer.TrineConsumerUnauthorized.selector, caller));
        _handler.onTrineAnswer(id, "forged", 0, 0);
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(TrineConsumer.TrineConsumerUnauthorized.selector, caller));
        _handler.deliverToSelf(id, "forged");
    }

    function testFuzz_anUnknownIdIsRefused(bytes32 id) external {
        vm.prank(address(_requests));
        vm.expectPartialRevert(TrineConsumer.TrineConsumerNotWaiting.selector);
        _handler.onTrineAnswer(id, OUTPUT, 0, 0);
        vm.expectPartialRevert(TrineConsumer.TrineConsumerNotRefundable.selector);
        _handler.refundQuestion(id);
    }

    function testTheVerdictIsSeenToAgain() external {
        bytes32 id = _handler.ask(MODEL, 1 ether, GAS);
        (BatchId batchId, Opening memory o) = _accepted(id, address(_handler));
        for (uint256 v = 0; v < 6; ++v) {
            if (IVerdicts.Verdict(v) == IVerdicts.Verdict.Accepted) continue;
            _batches.set(batchId, o.index, IVerdicts.Verdict(v), true);
            _refusedVerdict(id, batchId, o.index);
        }
        _batches.set(batchId, o.index, IVerdicts.Verdict.Accepted, false);
        _refusedVerdict(id, batchId, o.index);
        _batches.set(batchId, o.index, IVerdicts.Verdict.Accepted, true);
        vm.prank(address(_requests));
        _handler.onTrineAnswer(id, OUTPUT, BatchId.unwrap(batchId), o.index);
    }

    function testWhoDoesNotWaitForTheFinalVerdictTakesTheFirst() external {
        IRequests.Order memory order = _order();
        order.waitForFinal = false;
        bytes32 id = _handler.askUnder(order);
        (BatchId batchId, Opening memory o) = _accepted(id, address(_handler));
        _batches.set(batchId, o.index, IVerdicts.Verdict.Accepted, false);
        _requests.fulfil(id, batchId, o, OUTPUT);
        _expect(id, TrineConsumer.Progress.Answered);
    }

    function testFuzz_aHandlerThatFailsLosesNeitherAnswerNorFunds(uint8 kind, uint24 extraGas, uint16 size) external {
        Handler.Does does = [Handler.Does.Revert, Handler.Does.BurnAllGas, Handler.Does.RevertWithABomb][kind % 3];
        uint32 gas = uint32(200_000 + uint256(extraGas) % 1_800_000);
        bytes memory output = new bytes(uint256(size) % 1024);
        bytes32 id = _handler.ask(MODEL, 1 ether, gas);
        _handler.set(does);
        _answerWith(id, output);
        _expect(id, TrineConsumer.Progress.Undelivered);
        Check.eq(_token.balanceOf(NODE), 0.6 ether, "the node is paid");
        vm.expectPartialRevert(TrineConsumer.TrineConsumerOtherAnswer.selector);
        _handler.retryAnswer(id, "another");
        // Whatever made it fail is over.
        _handler.set(Handler.Does.Keep);
        _handler.retryAnswer(id, output);
        Check.eq(keccak256(_handler.kept()), keccak256(output), "kept");
        _expect(id, TrineConsumer.Progress.Answered);
        vm.expectPartialRevert(TrineConsumer.TrineConsumerNotUndelivered.selector);
        _handler.retryAnswer(id, output);
        _handler.refundQuestion(id);
        Check.eq(_token.balanceOf(address(_handler)), 9.4 ether, "what the node did not take");
    }

    /// @dev What is kept back must do for the longest answer that `Requests` takes, and an event with it would not.
    function testAHandlerThatBurnsAllLosesNoLongAnswer() external {
        bytes32 id = _handler.ask(MODEL, 1 ether, 2_000_000);
        _handler.set(Handler.Does.BurnAllGas);
        _answerWith(id, new bytes(64 * 1024));
        _expect(id, TrineConsumer.Progress.Undelivered);
    }

    function testARetryThatFailsCanBeTriedAgain() external {
        bytes32 id = _requests.nextRequestId(address(_handler));
        vm.expectEmit(address(_handler));
        emit TrineConsumer.QuestionAsked(id, 1 ether);
        _handler.ask(MODEL, 1 ether, GAS);
        _handler.set(Handler.Does.Revert);
        (BatchId batchId, Opening memory o) = _accepted(id, address(_handler));
        vm.expectEmit(address(_handler));
        emit TrineConsumer.AnswerNotDelivered(id, keccak256(OUTPUT));
        _requests.fulfil(id, batchId, o, OUTPUT);
        vm.expectRevert("no");
        _handler.retryAnswer(id, OUTPUT);
        _expect(id, TrineConsumer.Progress.Undelivered);
        _handler.set(Handler.Does.Keep);
        _handler.retryAnswer(id, OUTPUT);
        _expect(id, TrineConsumer.Progress.Answered);
    }

    function testAHandlerCannotBeReentered() external {
        bytes32 id = _handler.ask(MODEL, 1 ether, 2_000_000);
        _handler.set(Handler.Does.Reenter);
        _answer(id);
        _expect(id, TrineConsumer.Progress.Answered);
        Check.eq(_handler.calls(), 1, "once");
        bytes4 refused = TrineConsumer.TrineConsumerUnauthorized.selector;
        Check.eq(bytes32(bytes4(_handler.reentered())), bytes32(refused), "refused");
        _expect(_handler.next(), TrineConsumer.Progress.Waiting);
    }

    function testACallbackWithTooLittleGasIsNotAskedFor() external {
        vm.expectPartialRevert(TrineConsumer.TrineConsumerCallbackGasTooLow.selector);
        _handler.ask(MODEL, 1 ether, 199_999);
        _handler.ask(MODEL, 1 ether, 200_000);
    }

    // Money

    function testAQuestionThatNobodyAnswersIsRefundedOnce() external {
        bytes32 id = _handler.ask(MODEL, 1 ether, GAS);
        vm.expectPartialRevert(IRequests.RequestsDeadlineNotPassed.selector);
        _handler.refundQuestion(id);
        vm.warp(START + 7 days + 1);
        vm.expectEmit(address(_handler));
        emit TrineConsumer.QuestionRefunded(id, 1 ether);
        vm.prank(CLIENT);
        _handler.refundQuestion(id);
        Check.eq(_token.balanceOf(address(_handler)), 10 ether, "all of it");
        Check.eq(_handler.refunded(), 1 ether, "told");
        _expect(id, TrineConsumer.Progress.Expired);
        vm.expectPartialRevert(TrineConsumer.TrineConsumerNotRefundable.selector);
        _handler.refundQuestion(id);
        vm.prank(address(_requests));
        vm.expectPartialRevert(TrineConsumer.TrineConsumerNotWaiting.selector);
        _handler.onTrineAnswer(id, OUTPUT, 0, 0);
    }

    function testOneWeiIsAskedForAndFetchedAndNothingIsNotApproved() external {
        bytes32 id = _handler.ask(MODEL, 1, GAS);
        Check.eq(_requests.totalOwed(), 1, "escrow");
        vm.recordLogs();
        _handler.ask(MODEL, 0, GAS);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            Check.yes(logs[i].emitter != address(_token), "no approval, and no transfer");
        }
        vm.warp(START + 7 days + 1);
        _handler.refundQuestion(id);
        Check.eq(_token.balanceOf(address(_handler)), 10 ether, "the wei is back");
    }

    function testSomebodyElsesExpiryOrFetchingTakesNothingAway() external {
        bytes32 id = _handler.ask(MODEL, 1 ether, GAS);
        vm.warp(START + 7 days + 1);
        _requests.expire(id);
        _handler.fetchCredit();
        _handler.fetchCredit();
        _handler.refundQuestion(id);
        Check.eq(_handler.refunded(), 1 ether, "told all the same");
        Check.eq(_token.balanceOf(address(_handler)), 10 ether, "all of it");
    }

    function testFuzz_whatTheNodeDoesNotTakeComesBackToTheLastWei(uint64 escrow, uint64 fee) external {
        escrow %= 10 ether;
        bytes32 id = _handler.ask(MODEL, escrow, GAS);
        (BatchId batchId, Opening memory o) = _acceptedFor(id, address(_handler), fee, OUTPUT);
        _requests.fulfil(id, batchId, o, OUTPUT);
        _handler.refundQuestion(id);
        uint256 paid = fee < escrow ? fee : escrow;
        Check.eq(_token.balanceOf(address(_handler)), 10 ether - paid, "the rest");
        Check.eq(_handler.refunded(), escrow - paid, "told");
        Check.eq(_requests.totalOwed(), 0, "nothing is left behind");
    }

    // The example

    function testTheExampleKeepsAnswersAndRefundsWhoAsked() external {
        AnswerConsumer consumer = AnswerConsumer(Built.create("AnswerConsumer", abi.encode(_requests)));
        vm.startPrank(CLIENT);
        _token.approve(address(consumer), type(uint256).max);
        bytes32 first = consumer.ask(MODEL, "?", 1 ether);
        bytes32 second = consumer.ask(MODEL, "?", 2 ether);
        vm.stopPrank();
        Check.eq(uint256(uint160(consumer.askerOf(first))), uint256(uint160(CLIENT)), "asker");
        Check.eq(_requests.requestOf(first).maxTokens, 32, "tokens");
        Check.eq(_requests.requestOf(first).callbackGas, 600_000, "gas");
        (BatchId batchId, Opening memory o) =
            _acceptedAs(first, address(consumer), 0.6 ether, OUTPUT, TrineInput.user("?"));
        _requests.fulfil(first, batchId, o, OUTPUT);
        Check.eq(keccak256(bytes(consumer.answerOf(first))), keccak256(OUTPUT), "kept");
        consumer.refundQuestion(first);
        Check.eq(_token.balanceOf(CLIENT), 7.4 ether, "the change");
        vm.warp(START + 7 days + 1);
        consumer.refundQuestion(second);
        Check.eq(_token.balanceOf(CLIENT), 9.4 ether, "a question that nobody answered");
        Check.eq(_token.balanceOf(address(consumer)), 0, "it keeps nothing");
    }

    function testTheExampleAsksNobodyElsesMoney() external {
        AnswerConsumer consumer = AnswerConsumer(Built.create("AnswerConsumer", abi.encode(_requests)));
        require(_token.transfer(address(consumer), 5 ether));
        vm.prank(address(0xBAD));
        (bool asked,) = address(consumer).call(abi.encodeCall(AnswerConsumer.ask, (MODEL, "?", 1 ether)));
        Check.yes(!asked, "who does not pay does not ask");
    }

    // Input

    function testTextIsEscapedAsCanonicalJson() external pure {
        _checkEscaped("plain", "plain");
        _checkEscaped("\"\\", "\\\"\\\\");
        _checkEscaped("\x08\t\n\x0c\r", "\\b\\t\\n\\f\\r");
        _checkEscaped("\x00\x1f", "\\u0000\\u001f");
        _checkEscaped(unicode"Grüße, 世界/", unicode"Grüße, 世界/");
        Check.eq(keccak256(TrineInput.prompt("a\"b")), keccak256("{\"prompt\":\"a\\\"b\"}"), "prompt");
        bytes memory chat = "{\"messages\":[{\"content\":\"s\",\"role\":\"system\"},{\"content\":\"u\",\"role\":\"user\"}]}";
        Check.eq(keccak256(TrineInput.chat("s", "u")), keccak256(chat), "chat");
    }

    /// Nothing that a text holds ends the string that it stands in.
    function testFuzz_noTextBreaksOutOfItsString(bytes calldata text) external pure {
        bytes memory escaped = TrineInput.escaped(string(text));
        for (uint256 i = 0; i < escaped.length; ++i) {
            Check.yes(uint8(escaped[i]) >= 0x20 && escaped[i] != "\"", "no control, no quote");
            if (escaped[i] != "\\") continue;
            ++i;
            Check.yes(i < escaped.length, "a backslash escapes something");
            if (escaped[i] == "u") i += 4;
        }
        Check.yes(escaped.length >= text.length, "nothing is lost");
    }

    function _checkEscaped(string memory text, string memory expected) private pure {
        Check.eq(keccak256(TrineInput.escaped(text)), keccak256(bytes(expected)), text);
    }

    function _refusedVerdict(bytes32 id, BatchId batchId, uint256 leaf) private {
        vm.prank(address(_requests));
        vm.expectPartialRevert(TrineConsumer.TrineConsumerNotAccepted.selector);
        _handler.onTrineAnswer(id, OUTPUT, BatchId.unwrap(batchId), leaf);
    }

    function _expect(bytes32 id, TrineConsumer.Progress progress) private view {
        Check.eq(uint256(_handler.progressOf(id)), uint256(progress), "progress");
    }

    function _order() private pure returns (IRequests.Order memory) {
        bytes memory input = TrineInput.prompt("?");
        return IRequests.Order(MODEL, address(0), input, 32, 1 ether, uint64(START + 1 days), GAS, true);
    }

    function _answer(bytes32 id) private {
        _answerWith(id, OUTPUT);
    }

    function _answerWith(bytes32 id, bytes memory output) private {
        (BatchId batchId, Opening memory o) = _acceptedFor(id, address(_handler), 0.6 ether, output);
        _requests.fulfil(id, batchId, o, output);
    }

    function _accepted(bytes32 id, address client) private returns (BatchId, Opening memory) {
        return _acceptedFor(id, client, 0.6 ether, OUTPUT);
    }

    function _acceptedFor(bytes32 id, address client, uint256 fee, bytes memory output)
        private
        returns (BatchId, Opening memory)
    {
        return _acceptedAs(id, client, fee, output, TrineInput.prompt("?"));
    }

    function _acceptedAs(bytes32 id, address client, uint256 fee, bytes memory output, bytes memory input)
        private
        returns (BatchId batchId, Opening memory o)
    {
        Receipt memory receipt;
        receipt.requestHash = id;
        receipt.client = client;
        receipt.node = NODE;
        receipt.modelId = ModelId.unwrap(MODEL);
        receipt.inputHash = keccak256(input);
        receipt.textHash = keccak256(output);
        receipt.outputTokens = 32;
        receipt.feeWei = fee;
        (batchId, o) = Leaves.opening(address(_batches), 5, receipt);
        _batches.set(batchId, 5, IVerdicts.Verdict.Accepted, true);
    }
}
