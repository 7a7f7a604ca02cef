// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Identifies a model: keccak256(abi.encode(name, contentHash)).
type ModelId is bytes32;

/// Identifies a batch: keccak256(abi.encode(chainid, Batches, node, root)), so anchoring twice is impossible.
type BatchId is bytes32;

/// Identifies a calibration challenge: keccak256(abi.encode(chainid, Calibration, operator, modelId, role, nonce)).
type ChallengeId is bytes32;

using {unwrapModelId as unwrap, eqModelId as ==} for ModelId global;
using {unwrapBatchId as unwrap, eqBatchId as ==} for BatchId global;
using {unwrapChallengeId as unwrap, eqChallengeId as ==} for ChallengeId global;

/// The two kinds of work that an operator is calibrated for and has a reputation in.
enum Role {
    Node,
    Verifier
}

function unwrapModelId(ModelId id) pure returns (bytes32) {
    return ModelId.unwrap(id);
}

function eqModelId(ModelId a, ModelId b) pure returns (bool) {
    return ModelId.unwrap(a) == ModelId.unwrap(b);
}

function unwrapBatchId(BatchId id) pure returns (bytes32) {
    return BatchId.unwrap(id);
}

function eqBatchId(BatchId a, BatchId b) pure returns (bool) {
    return BatchId.unwrap(a) == BatchId.unwrap(b);
}

function unwrapChallengeId(ChallengeId id) pure returns (bytes32) {
    return ChallengeId.unwrap(id);
}

function eqChallengeId(ChallengeId a, ChallengeId b) pure returns (bool) {
    return ChallengeId.unwrap(a) == ChallengeId.unwrap(b);
}
