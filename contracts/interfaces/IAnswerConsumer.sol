// SPDX-License-Identifier: MIT
// solhint-disable-next-line compiler-version
pragma solidity ^0.8.27;

/// @title A contract that asks through `Requests` and wants to be told
interface IAnswerConsumer {
    /// @notice Called once for a request of this contract, with the gas that the request named. What happens here
    /// changes nothing any more: a revert only loses the call.
    /// @dev Must check that `Requests` is the caller.
    /// @param output The answer's text, UTF-8.
    /// @param batchId The batch whose verdict on leaf `leafIndex` accepted the answer.
    function onTrineAnswer(bytes32 requestId, bytes calldata output, bytes32 batchId, uint256 leafIndex) external;
}
