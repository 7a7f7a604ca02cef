// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;
interface IVerifierKeys {
    function requireSigned(bytes32 message, address[] calldata signers, bytes calldata keys, bytes calldata signature) external view;
}
