// SPDX-License-Identifier: MIT
// solhint-disable-next-line compiler-version
pragma solidity ^0.8.27;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {TrineConsumer} from "../consumers/TrineConsumer.sol";
import {TrineInput} from "../consumers/TrineInput.sol";
import {IRequests} from "../interfaces/IRequests.sol";
import {ModelId} from "../types/Types.sol";

/// @title An example: whoever pays for it asks a model, and the contract keeps the answer
/// @notice Answers are short here, because storage is dear: 22,100 gas for every 32 bytes.
contract AnswerConsumer is TrineConsumer {
    using SafeERC20 for IERC20;

    uint32 public constant MAX_TOKENS = 32;
    uint32 public constant CALLBACK_GAS = 600_000;

    mapping(bytes32 requestId => address) private _askers;
    mapping(bytes32 requestId => string) private _answers;

    event Answered(bytes32 indexed requestId, string answer);

    constructor(IRequests requests) TrineConsumer(requests) {}

    /// @notice Asks `modelId` for at most 32 tokens. The caller has approved `maxFeeWei`.
    // The id comes from the call, and its answer needs a verdict: it cannot come within.
    // slither-disable-next-line reentrancy-benign
    function ask(ModelId modelId, string calldata question, uint128 maxFeeWei) external returns (bytes32 requestId) {
        TRINE_TOKEN.safeTransferFrom(msg.sender, address(this), maxFeeWei);
        requestId = _ask(modelId, TrineInput.user(question), MAX_TOKENS, maxFeeWei, CALLBACK_GAS);
        _askers[requestId] = msg.sender;
    }

    /// @notice Empty until the answer is there.
    function answerOf(bytes32 requestId) external view returns (string memory) {
        return _answers[requestId];
    }

    function askerOf(bytes32 requestId) external view returns (address) {
        return _askers[requestId];
    }

    function _onAnswer(bytes32 requestId, bytes calldata output) internal override {
        _answers[requestId] = string(output);
        emit Answered(requestId, string(output));
    }

    function _onRefund(bytes32 requestId, uint256 amountWei) internal override {
        TRINE_TOKEN.safeTransfer(_askers[requestId], amountWei);
    }
}
