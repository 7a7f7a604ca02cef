// SPDX-License-Identifier: MIT
// solhint-disable-next-line compiler-version
pragma solidity ^0.8.27;

/// @notice Identifies a model: keccak256(abi.encode(name, contentHash)).
type ModelId is bytes32;

/// @notice Identifies a batch: keccak256(abi.encode(chainid, Batches, Header)), so none is anchored twice and its
/// header needs no storage: whoever acts on a batch shows the header, and it must hash to the id.
type BatchId is bytes32;

/// @notice Identifies a challenge: keccak256(abi.encode(chainid, Calibration, operator, modelId, role, nonce)).
type ChallengeId is bytes32;

/// @notice What a batch is about. Fixed at anchor time, emitted then, and committed to by the batch's id.
struct Header {
    address node;
    ModelId modelId;
    bytes32 root; // of the Merkle tree over the leaves
    bytes32 canary; // salted commitment to the leaves that are known to be bad; random where there are none
}

/// @notice The two kinds of work that an operator is calibrated for and has a reputation in.
enum Role {
    Node,
    Verifier
}

/// @dev One outcome in a record of reputation: counts are in millionths, because a seat earns by the leaf.
uint64 constant OUTCOME = 1_000_000;

/// @title How ids follow from what they name
library Ids {
    function model(string calldata name, bytes32 contentHash) internal pure returns (ModelId) {
        return ModelId.wrap(keccak256(abi.encode(name, contentHash)));
    }

    /// @param batches The `Batches` contract.
    function batch(address batches, Header memory header) internal view returns (BatchId) {
        return BatchId.wrap(keccak256(abi.encode(block.chainid, batches, header)));
    }

    /// @param calibration The `Calibration` contract.
    function challenge(address calibration, address operator, ModelId modelId, Role role, uint256 nonce)
        internal
        view
        returns (ChallengeId)
    {
        return ChallengeId.wrap(keccak256(abi.encode(block.chainid, calibration, operator, modelId, role, nonce)));
    }
}
