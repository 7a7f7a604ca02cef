// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Identifies a model: keccak256(abi.encode(name, contentHash)).
type ModelId is bytes32;

/// @notice Identifies a batch: keccak256(abi.encode(chainid, Batches, node, root, canary)), so none is anchored twice and
/// neither root nor canary commitment needs storage: who opens a leaf shows them, and they must hash to the id.
type BatchId is bytes32;

/// @notice Identifies a challenge: keccak256(abi.encode(chainid, Calibration, operator, modelId, role, nonce)).
type ChallengeId is bytes32;

/// @notice The two kinds of work that an operator is calibrated for and has a reputation in.
enum Role {
    Node,
    Verifier
}

/// @title How ids follow from what they name
library Ids {
    function model(string calldata name, bytes32 contentHash) internal pure returns (ModelId) {
        return ModelId.wrap(keccak256(abi.encode(name, contentHash)));
    }

    /// @param batches The `Batches` contract.
    /// @param canary Salted commitment to the leaves that are known to be bad; random where there are none.
    function batch(address batches, address node, bytes32 root, bytes32 canary) internal view returns (BatchId) {
        return BatchId.wrap(keccak256(abi.encode(block.chainid, batches, node, root, canary)));
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
