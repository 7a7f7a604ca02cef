// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Identifies a model: keccak256(abi.encode(name, contentHash)).
type ModelId is bytes32;

/// @notice Identifies a batch: keccak256(abi.encode(chainid, Batches, node, root)), so none is anchored twice.
type BatchId is bytes32;

/// @notice Identifies a challenge: keccak256(abi.encode(chainid, Calibration, operator, modelId, role, nonce)).
type ChallengeId is bytes32;

/// @notice The two kinds of work that an operator is calibrated for and has a reputation in.
enum Role {
    Node,
    Verifier
}
