// SPDX-License-Identifier: MIT
// solhint-disable-next-line compiler-version
pragma solidity ^0.8.27;

import {Opening} from "../libraries/LeafLib.sol";
import {BatchId, ModelId} from "../types/Types.sol";

/// @title Requests that contracts, or anyone, post on the chain
/// @notice The fee waits in escrow. A node answers as it answers any client, with a receipt whose `requestHash` is the
/// request's id and whose client is the requester; once the answer's batch is settled, anyone brings it here. A
/// request is answered once or expires.
interface IRequests {
    struct Order {
        ModelId modelId;
        address node; // zero: any
        bytes input; // canonical JSON of what is asked
        uint32 maxTokens;
        uint128 maxFeeWei;
        uint64 deadline; // seconds; the answer must be brought by then, after its verdict
        uint32 callbackGas; // zero: no callback
        bool waitForFinal; // only a verdict that no appeal can change any more
    }

    enum State {
        None,
        Open,
        Fulfilled,
        Expired
    }

    struct Request {
        address requester;
        uint64 deadline;
        uint32 callbackGas;
        address node;
        uint32 maxTokens;
        bool waitForFinal;
        State state;
        uint128 escrow; // as posted
        uint128 paid; // of it, to the node
        ModelId modelId;
        bytes32 inputHash;
    }

    event RequestPosted(
        bytes32 indexed requestId,
        address indexed requester,
        ModelId indexed modelId,
        address node,
        bytes input,
        uint32 maxTokens,
        uint128 maxFeeWei,
        uint64 deadline,
        uint32 callbackGas,
        bool waitForFinal
    );
    event RequestFulfilled(
        bytes32 indexed requestId,
        BatchId indexed batchId,
        address indexed node,
        uint256 leafIndex,
        uint256 paidWei,
        uint256 returnedWei,
        bytes output
    );
    /// @param succeeded Whether the call ended without an error; what it returned is not looked at.
    event RequesterCalled(bytes32 indexed requestId, address indexed requester, bool succeeded);
    event RequestExpired(bytes32 indexed requestId, address indexed requester, uint256 returnedWei);
    event CreditWithdrawn(address indexed account, uint256 amount);

    error RequestsZeroAddress();
    error RequestsInputOutOfBounds(uint256 length, uint256 maximum);
    error RequestsOutputTooLong(uint256 length, uint256 maximum);
    error RequestsMaxTokensZero();
    error RequestsDeadlineOutOfBounds(uint256 deadline, uint256 earliest, uint256 latest);
    error RequestsCallbackGasOutOfBounds(uint256 callbackGas, uint256 maximum);
    error RequestsNotOpen(bytes32 requestId, State state);
    error RequestsDeadlinePassed(bytes32 requestId, uint256 deadline);
    error RequestsDeadlineNotPassed(bytes32 requestId, uint256 deadline);
    error RequestsBadOpening(BatchId batchId, uint256 leafIndex);
    /// @param field The receipt's field that is not what the request asks.
    error RequestsMismatch(bytes32 requestId, string field);
    error RequestsNotAccepted(BatchId batchId, uint256 leafIndex);
    error RequestsNotFinal(BatchId batchId, uint256 leafIndex);
    error RequestsTooLittleGas(uint256 available, uint256 required);
    error RequestsNothingToWithdraw();

    /// @notice Posts a request and pulls `maxFeeWei` from the caller. May be stopped by the guardian.
    /// @return requestId keccak256(abi.encode(chainid, this contract, requester, nonce)).
    function post(Order calldata order) external returns (bytes32 requestId);

    /// @notice Brings the answer: checks it against the request and its verdict, pays the node what its receipt says,
    /// at most the escrow, credits the requester with the rest, and calls the requester if it asked for that. Anyone
    /// may call, with enough gas to keep the promise of `callbackGas`.
    /// @dev Warning: without `waitForFinal` an appeal may yet reject the answer.
    function fulfil(bytes32 requestId, BatchId batchId, Opening calldata opening, bytes calldata output) external;

    /// @notice Credits the requester with the escrow of a request that nobody answered in time. Anyone may call.
    function expire(bytes32 requestId) external;

    /// @notice Pays the caller what it is credited with.
    function withdrawCredit() external;

    function requestOf(bytes32 requestId) external view returns (Request memory);

    /// @notice The id of the requester's next request.
    function nextRequestId(address requester) external view returns (bytes32);

    function creditOf(address account) external view returns (uint256);

    /// @notice The token that fees are paid in, an ERC-20.
    function token() external view returns (address);

    /// @notice Who says what was decided on an answer: an `IVerdicts`.
    function verdicts() external view returns (address);

    /// @notice All that this contract owes: escrows and credits. It never holds less.
    function totalOwed() external view returns (uint256);
}
