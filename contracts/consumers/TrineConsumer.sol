// SPDX-License-Identifier: MIT
// solhint-disable-next-line compiler-version
pragma solidity ^0.8.27;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IAnswerConsumer} from "../interfaces/IAnswerConsumer.sol";
import {IRequests} from "../interfaces/IRequests.sol";
import {IVerdicts} from "../interfaces/IVerdicts.sol";
import {BatchId, ModelId} from "../types/Types.sol";

/// @title A contract that asks a model: inherit from it, call `_ask`, and say in `_onAnswer` what an answer does
/// @notice Only `Requests` may call back, once for each question of this contract, and only with an answer whose
/// verdict is what the question waits for. Fees are paid out of the tokens that this contract holds; what is left of a
/// fee, or all of it where nobody answered in time, comes back to it.
/// @dev `_onAnswer` may revert or run out of gas: the answer's hash is kept then, and anyone can bring it again with
/// `retryAnswer`. It is text that a model wrote, and whoever asked may have told the model what to write: treat it as
/// you treat any other input from outside.
abstract contract TrineConsumer is IAnswerConsumer {
    using SafeERC20 for IERC20;

    enum Progress {
        Unknown,
        Waiting,
        Answered,
        Undelivered, // answered, but `_onAnswer` failed: see `retryAnswer`
        Expired // nobody answered in time
    }

    struct Question {
        Progress progress;
        bool waitForFinal;
        bool refunded; // what was left of the fee is back
        bytes32 undelivered; // hash of the answer that `_onAnswer` failed at
    }

    /// @notice Gas of a callback that is kept back, so that an answer is not lost however `_onAnswer` ends.
    uint256 public constant RESERVED_GAS = 100_000;

    IRequests internal immutable TRINE_REQUESTS;
    IERC20 internal immutable TRINE_TOKEN;
    IVerdicts internal immutable TRINE_VERDICTS;

    mapping(bytes32 requestId => Question) private _questions;

    event QuestionAsked(bytes32 indexed requestId, uint256 maxFeeWei);
    /// @dev Without the answer, whose bytes would cost more gas than is kept back: `RequestFulfilled` has them.
    event AnswerNotDelivered(bytes32 indexed requestId, bytes32 outputHash);
    event QuestionRefunded(bytes32 indexed requestId, uint256 amountWei);

    error TrineConsumerUnauthorized(address caller);
    error TrineConsumerNotWaiting(bytes32 requestId, Progress progress);
    error TrineConsumerNotUndelivered(bytes32 requestId, Progress progress);
    error TrineConsumerNotAccepted(bytes32 requestId, BatchId batchId, uint256 leafIndex);
    error TrineConsumerOtherAnswer(bytes32 requestId);
    error TrineConsumerNotRefundable(bytes32 requestId);
    error TrineConsumerCallbackGasTooLow(uint256 callbackGas, uint256 minimum);

    /// @param requests Trine's `Requests` on this chain.
    constructor(IRequests requests) {
        TRINE_REQUESTS = requests;
        TRINE_TOKEN = IERC20(requests.token());
        TRINE_VERDICTS = IVerdicts(requests.verdicts());
    }

    // It calls itself only, and counts as answered meanwhile: a handler that calls back finds nothing to bring,
    // and what it has taken is undone with it when it fails.
    // slither-disable-start reentrancy-no-eth,reentrancy-events
    /// @inheritdoc IAnswerConsumer
    function onTrineAnswer(bytes32 requestId, bytes calldata output, bytes32 batchId, uint256 leafIndex) external {
        require(msg.sender == address(TRINE_REQUESTS), TrineConsumerUnauthorized(msg.sender));
        Question storage question = _questions[requestId];
        Progress progress = question.progress;
        require(progress == Progress.Waiting, TrineConsumerNotWaiting(requestId, progress));
        _requireVerdict(requestId, question.waitForFinal, BatchId.wrap(batchId), leafIndex);
        question.progress = Progress.Answered;
        uint256 left = gasleft();
        uint256 forHandler = left > RESERVED_GAS ? left - RESERVED_GAS : 0;
        try this.deliverToSelf{gas: forHandler}(requestId, output) {
            return;
        } catch {
            question.progress = Progress.Undelivered;
            question.undelivered = keccak256(output);
            emit AnswerNotDelivered(requestId, question.undelivered);
        }
    }
    // slither-disable-end reentrancy-no-eth,reentrancy-events

    /// @notice Calls `_onAnswer` within a call of its own. For this contract itself only.
    function deliverToSelf(bytes32 requestId, bytes calldata output) external {
        require(msg.sender == address(this), TrineConsumerUnauthorized(msg.sender));
        _onAnswer(requestId, output);
    }

    /// @notice Brings an answer again that `_onAnswer` failed at, with as much gas as the caller gives. Anyone may
    /// call.
    /// @param output As the event `RequestFulfilled` of `Requests` has it.
    function retryAnswer(bytes32 requestId, bytes calldata output) external {
        Question storage question = _questions[requestId];
        Progress progress = question.progress;
        require(progress == Progress.Undelivered, TrineConsumerNotUndelivered(requestId, progress));
        require(keccak256(output) == question.undelivered, TrineConsumerOtherAnswer(requestId));
        question.progress = Progress.Answered;
        _onAnswer(requestId, output);
    }

    /// @notice Gets back what the node has not taken of a question's fee: once it is answered, or all of it when nobody
    /// has in time. Once; anyone may call.
    function refundQuestion(bytes32 requestId) external {
        Question storage question = _questions[requestId];
        bool known = question.progress != Progress.Unknown;
        require(known && !question.refunded, TrineConsumerNotRefundable(requestId));
        question.refunded = true;
        IRequests.Request memory request = TRINE_REQUESTS.requestOf(requestId);
        uint256 amount = request.escrow - request.paid;
        emit QuestionRefunded(requestId, amount);
        if (request.state != IRequests.State.Fulfilled) {
            question.progress = Progress.Expired;
            // Somebody else may have called it. What can still be answered is refused there.
            if (request.state == IRequests.State.Open) TRINE_REQUESTS.expire(requestId);
        }
        _fetchCredit();
        _onRefund(requestId, amount);
    }

    /// @notice Fetches what was left of fees into this contract. Anyone may call.
    function fetchCredit() external {
        _fetchCredit();
    }

    function progressOf(bytes32 requestId) public view returns (Progress) {
        return _questions[requestId].progress;
    }

    /// @notice Asks `modelId`, and pays the escrow out of this contract's tokens. Whoever may make a contract call this
    /// spends them: let the caller pay, or say who may ask.
    /// @param input See `TrineInput`.
    /// @param maxFeeWei A node asks for its price a token, of the question and of `maxTokens`, and for the gas of
    /// bringing the answer; `trine request price` tells how much. What it does not take comes back.
    /// @param callbackGas For `_onAnswer` and RESERVED_GAS together.
    /// @return requestId What `_onAnswer` will be called with.
    function _ask(ModelId modelId, bytes memory input, uint32 maxTokens, uint128 maxFeeWei, uint32 callbackGas)
        internal
        returns (bytes32 requestId)
    {
        return _ask(
            IRequests.Order({
                modelId: modelId,
                node: address(0),
                input: input,
                maxTokens: maxTokens,
                maxFeeWei: maxFeeWei,
                deadline: uint64(block.timestamp + 7 days),
                callbackGas: callbackGas,
                // What a contract does with an answer can seldom be taken back.
                waitForFinal: true
            })
        );
    }

    // `post` gives the id that is written under, and an answer needs a verdict, which no call within it can bring.
    // slither-disable-start reentrancy-benign,reentrancy-events
    /// @notice The same with everything chosen: a node, a deadline, whether to wait until no appeal is possible.
    function _ask(IRequests.Order memory order) internal returns (bytes32 requestId) {
        uint256 minimum = 2 * RESERVED_GAS;
        require(order.callbackGas >= minimum, TrineConsumerCallbackGasTooLow(order.callbackGas, minimum));
        if (order.maxFeeWei > 0) TRINE_TOKEN.forceApprove(address(TRINE_REQUESTS), order.maxFeeWei);
        requestId = TRINE_REQUESTS.post(order);
        _questions[requestId] = Question(Progress.Waiting, order.waitForFinal, false, 0);
        emit QuestionAsked(requestId, order.maxFeeWei);
    }
    // slither-disable-end reentrancy-benign,reentrancy-events

    /// @notice What an answer does. Called once for each question that was answered.
    /// @param output The answer's text, UTF-8.
    function _onAnswer(bytes32 requestId, bytes calldata output) internal virtual;

    /// @notice What a refund does: `amountWei` of the question's fee are this contract's again. Nothing unless
    /// overridden.
    // solhint-disable-next-line no-empty-blocks
    function _onRefund(bytes32 requestId, uint256 amountWei) internal virtual {}

    function _fetchCredit() private {
        if (TRINE_REQUESTS.creditOf(address(this)) > 0) TRINE_REQUESTS.withdrawCredit();
    }

    /// @dev `Requests` has seen to it. Seen to again, because all that follows hangs on it.
    function _requireVerdict(bytes32 requestId, bool waitForFinal, BatchId batchId, uint256 leafIndex) private view {
        (IVerdicts.Verdict verdict, bool isFinal) = TRINE_VERDICTS.verdictOf(batchId, leafIndex);
        bool holds = verdict == IVerdicts.Verdict.Accepted && (isFinal || !waitForFinal);
        require(holds, TrineConsumerNotAccepted(requestId, batchId, leafIndex));
    }
}
