// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Guarded} from "./Guarded.sol";
import {IAnswerConsumer} from "./interfaces/IAnswerConsumer.sol";
import {IPayments} from "./interfaces/IPayments.sol";
import {IRequests} from "./interfaces/IRequests.sol";
import {IVerdicts} from "./interfaces/IVerdicts.sol";
import {LeafLib, Opening, Receipt} from "./libraries/LeafLib.sol";
import {BatchId, ModelId} from "./types/Types.sol";

/// @title Requests that contracts, or anyone, post on the chain
/// @dev Documented in `IRequests`.
contract Requests is IRequests, Guarded, Nonces, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using LeafLib for Opening;

    uint256 public constant MAX_INPUT_BYTES = 24 * 1024;
    uint256 public constant MAX_OUTPUT_BYTES = 64 * 1024;
    uint256 public constant MAX_CALLBACK_GAS = 2_000_000;
    uint256 public constant MAX_WAIT_SECONDS = 365 days;
    /// @dev What calling a cold account and the event after it cost, and some more.
    uint256 private constant CALLBACK_RESERVE_GAS = 20_000;

    IERC20 private immutable TOKEN;
    IVerdicts private immutable BATCHES;
    IPayments private immutable PAYMENTS;

    uint256 private _owed;
    mapping(bytes32 requestId => Request) private _requests;
    mapping(address account => uint256) private _credits;

    constructor(IERC20 token_, IVerdicts batches, IPayments payments, address owner_, address guardian_)
        Guarded(owner_, guardian_)
    {
        require(
            address(token_) != address(0) && address(batches) != address(0) && address(payments) != address(0),
            RequestsZeroAddress()
        );
        TOKEN = token_;
        BATCHES = batches;
        PAYMENTS = payments;
    }

    /// @inheritdoc IRequests
    /// @dev Not guarded against reentrancy, so that a callback can ask the next question: all is written before the
    /// only call, and every request has an id of its own.
    function post(Order calldata order) external whenNotPaused returns (bytes32 requestId) {
        uint256 length = order.input.length;
        require(length > 0 && length <= MAX_INPUT_BYTES, RequestsInputOutOfBounds(length, MAX_INPUT_BYTES));
        require(order.maxTokens > 0, RequestsMaxTokensZero());
        uint256 latest = block.timestamp + MAX_WAIT_SECONDS;
        require(
            order.deadline > block.timestamp && order.deadline <= latest,
            RequestsDeadlineOutOfBounds(order.deadline, block.timestamp + 1, latest)
        );
        require(
            order.callbackGas <= MAX_CALLBACK_GAS, RequestsCallbackGasOutOfBounds(order.callbackGas, MAX_CALLBACK_GAS)
        );
        requestId = _requestId(msg.sender, _useNonce(msg.sender));
        _requests[requestId] = Request({
            requester: msg.sender,
            deadline: order.deadline,
            callbackGas: order.callbackGas,
            node: order.node,
            maxTokens: order.maxTokens,
            waitForFinal: order.waitForFinal,
            state: State.Open,
            escrow: order.maxFeeWei,
            paid: 0,
            modelId: order.modelId,
            inputHash: keccak256(order.input)
        });
        _owed += order.maxFeeWei;
        emit RequestPosted(
            requestId,
            msg.sender,
            order.modelId,
            order.node,
            order.input,
            order.maxTokens,
            order.maxFeeWei,
            order.deadline,
            order.callbackGas,
            order.waitForFinal
        );
        if (order.maxFeeWei > 0) TOKEN.safeTransferFrom(msg.sender, address(this), order.maxFeeWei);
    }

    /// @inheritdoc IRequests
    function fulfil(bytes32 requestId, BatchId batchId, Opening calldata opening, bytes calldata output)
        external
        nonReentrant
    {
        Request memory request = _requests[requestId];
        require(request.state == State.Open, RequestsNotOpen(requestId, request.state));
        require(block.timestamp <= request.deadline, RequestsDeadlinePassed(requestId, request.deadline));
        _requireAnswer(requestId, request, opening.receipt, output);
        require(opening.opens(address(BATCHES), batchId), RequestsBadOpening(batchId, opening.index));
        (IVerdicts.Verdict verdict, bool isFinal) = BATCHES.verdictOf(batchId, opening.index);
        require(verdict == IVerdicts.Verdict.Accepted, RequestsNotAccepted(batchId, opening.index));
        require(isFinal || !request.waitForFinal, RequestsNotFinal(batchId, opening.index));

        address node = opening.receipt.node;
        uint256 paid = Math.min(opening.receipt.feeWei, request.escrow);
        _requests[requestId].state = State.Fulfilled;
        // No more than the escrow, which has as many bits.
        _requests[requestId].paid = uint128(paid);
        // The rest stays owed, to be fetched: a requester that cannot receive must not stop this.
        _credits[request.requester] += request.escrow - paid;
        _owed -= paid;
        emit RequestFulfilled(requestId, batchId, node, opening.index, paid, request.escrow - paid, output);
        if (paid > 0) {
            TOKEN.safeTransfer(address(PAYMENTS), paid);
            PAYMENTS.payOut(node, paid);
        }
        if (request.callbackGas > 0) {
            bytes memory data =
                abi.encodeCall(
                    IAnswerConsumer.onTrineAnswer, (requestId, output, BatchId.unwrap(batchId), opening.index)
                );
            _callBack(requestId, request.requester, request.callbackGas, data);
        }
    }

    /// @inheritdoc IRequests
    function expire(bytes32 requestId) external nonReentrant {
        Request storage request = _requests[requestId];
        require(request.state == State.Open, RequestsNotOpen(requestId, request.state));
        require(block.timestamp > request.deadline, RequestsDeadlineNotPassed(requestId, request.deadline));
        request.state = State.Expired;
        _credits[request.requester] += request.escrow;
        emit RequestExpired(requestId, request.requester, request.escrow);
    }

    /// @inheritdoc IRequests
    function withdrawCredit() external nonReentrant {
        uint256 amount = _credits[msg.sender];
        require(amount > 0, RequestsNothingToWithdraw());
        _credits[msg.sender] = 0;
        _owed -= amount;
        emit CreditWithdrawn(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IRequests
    function requestOf(bytes32 requestId) external view returns (Request memory) {
        return _requests[requestId];
    }

    /// @inheritdoc IRequests
    function nextRequestId(address requester) external view returns (bytes32) {
        return _requestId(requester, nonces(requester));
    }

    /// @inheritdoc IRequests
    function creditOf(address account) external view returns (uint256) {
        return _credits[account];
    }

    /// @inheritdoc IRequests
    function token() external view returns (address) {
        return address(TOKEN);
    }

    /// @inheritdoc IRequests
    function verdicts() external view returns (address) {
        return address(BATCHES);
    }

    /// @inheritdoc IRequests
    function totalOwed() external view returns (uint256) {
        return _owed;
    }

    /// @dev State is final and money has moved before; the call's result changes nothing.
    // Division first, as the EVM reckons it. Solidity would copy what the callee returns: hence assembly.
    // slither-disable-start divide-before-multiply,assembly
    function _callBack(bytes32 requestId, address requester, uint256 callbackGas, bytes memory data) private {
        // A call gets at most 63 of 64 parts of what is left: with less the bringer could starve it and be paid.
        uint256 available = gasleft();
        uint256 required = callbackGas + CALLBACK_RESERVE_GAS;
        require((available / 64) * 63 >= required, RequestsTooLittleGas(available, required));
        bool succeeded;
        // No return data is copied: a megabyte of it would cost this side, not the callee.
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            succeeded := call(callbackGas, requester, 0, add(data, 32), mload(data), 0, 0)
        }
        emit RequesterCalled(requestId, requester, succeeded);
    }
    // slither-disable-end divide-before-multiply,assembly

    /// @dev What a receipt must say to answer the request. `trine.protocol.requests.mismatch` is its twin.
    function _requireAnswer(
        bytes32 requestId,
        Request memory request,
        Receipt calldata receipt,
        bytes calldata output
    ) private pure {
        require(output.length <= MAX_OUTPUT_BYTES, RequestsOutputTooLong(output.length, MAX_OUTPUT_BYTES));
        _require(receipt.requestHash == requestId, requestId, "requestHash");
        _require(receipt.client == request.requester, requestId, "client");
        _require(request.node == address(0) || receipt.node == request.node, requestId, "node");
        _require(receipt.modelId == ModelId.unwrap(request.modelId), requestId, "modelId");
        _require(receipt.inputHash == request.inputHash, requestId, "inputHash");
        _require(receipt.outputTokens <= request.maxTokens, requestId, "outputTokens");
        _require(keccak256(output) == receipt.textHash, requestId, "textHash");
    }

    function _require(bool matches, bytes32 requestId, string memory field) private pure {
        require(matches, RequestsMismatch(requestId, field));
    }

    function _requestId(address requester, uint256 nonce) private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), requester, nonce));
    }
}
