// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What keys sign, and the leaves that eligible keys have
/// @notice `trine.protocol.certificate` and `trine.protocol.key_root` are the twins. All statements name the source
/// chain and its `Batches`, so that they hold for one network only. None names the chain that they are shown on: they
/// are as true there as anywhere, and who acts on them keeps track of what it has acted on.
library CertificateLib {
    bytes32 internal constant RESULT_TYPEHASH = keccak256(
        "TrineResult(uint256 chainId,address batches,uint256 epoch,bytes32 batchId,uint256 accepted,uint256 rejected)"
    );

    bytes32 internal constant HANDOVER_TYPEHASH = keccak256(
        // A type string is one literal.
        // solhint-disable-next-line max-line-length
        "TrineHandover(uint256 chainId,address batches,uint256 signingEpoch,bytes32 signingRoot,uint256 epoch,bytes32 root,uint256 count,uint256 totalWeight,uint256 validUntil)"
    );

    /// @notice A batch's id. It commits to everything that a certificate says of the batch.
    /// @param canary Salted commitment to the leaves that are known to be bad; random where there are none.
    function batchId(
        uint256 chainId,
        address batches,
        address node,
        bytes32 modelId,
        bytes32 root,
        bytes32 canary
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(chainId, batches, node, modelId, root, canary));
    }

    /// @notice What a committee signs: a batch's result.
    /// @param epoch Whose keys they are.
    function resultDigest(
        uint256 chainId,
        address batches,
        uint256 epoch,
        bytes32 batchId_,
        uint256 accepted,
        uint256 rejected
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(RESULT_TYPEHASH, chainId, batches, epoch, batchId_, accepted, rejected));
    }

    /// @notice Leaf of a tree of eligible keys: hashed twice against second preimages; the index is inside, because
    /// sorted-pair proofs do not bind a position.
    function keyLeaf(uint256 index, bytes32 keyHash, uint64 weight) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(index, keyHash, weight))));
    }
}
