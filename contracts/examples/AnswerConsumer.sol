// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IAnswerConsumer} from "../interfaces/IAnswerConsumer.sol";
import {IRequests} from "../interfaces/IRequests.sol";
import {ModelId} from "../types/Types.sol";

/// @title An example: a contract that asks a model and keeps the answer
/// @notice Whoever asks pays what this contract does not hold already out of what was left of earlier fees. Answers
/// are short here, because storage is dear: 22,100 gas for every 32 bytes.
contract AnswerConsumer is IAnswerConsumer {
    using SafeERC20 for IERC20;

    uint32 public constant MAX_TOKENS = 32;
    uint32 public constant CALLBACK_GAS = 500_000;
    uint64 public constant WAIT_SECONDS = 7 days;

    IRequests private immutable REQUESTS;
    IERC20 private immutable TOKEN;

    mapping(bytes32 requestId => string) private _answers;

    event Answered(bytes32 indexed requestId, string answer);

    error AnswerConsumerNotRequests(address caller);

    constructor(IRequests requests, IERC20 token) {
        REQUESTS = requests;
        TOKEN = token;
    }

    /// @notice Asks `modelId` for at most 32 tokens. The caller has approved up to `maxFeeWei`.
    /// @param input Canonical JSON, as a node takes it.
    function ask(ModelId modelId, bytes calldata input, uint128 maxFeeWei) external returns (bytes32 requestId) {
        uint256 held = TOKEN.balanceOf(address(this));
        if (held < maxFeeWei) TOKEN.safeTransferFrom(msg.sender, address(this), maxFeeWei - held);
        TOKEN.forceApprove(address(REQUESTS), maxFeeWei);
        return REQUESTS.post(
            IRequests.Order({
                modelId: modelId,
                node: address(0),
                input: input,
                maxTokens: MAX_TOKENS,
                maxFeeWei: maxFeeWei,
                // A real clock is far from the end of 64 bits.
                deadline: uint64(block.timestamp) + WAIT_SECONDS,
                callbackGas: CALLBACK_GAS,
                // What it keeps cannot be taken back, so it waits until no appeal can.
                waitForFinal: true
            })
        );
    }

    /// @inheritdoc IAnswerConsumer
    function onTrineAnswer(bytes32 requestId, bytes calldata output, bytes32, uint256) external {
        require(msg.sender == address(REQUESTS), AnswerConsumerNotRequests(msg.sender));
        _answers[requestId] = string(output);
        emit Answered(requestId, string(output));
    }

    /// @notice Fetches what was left of fees; it pays for the questions of whoever asks next.
    function fetchCredit() external {
        REQUESTS.withdrawCredit();
    }

    /// @notice Empty until the answer is there.
    function answerOf(bytes32 requestId) external view returns (string memory) {
        return _answers[requestId];
    }
}
