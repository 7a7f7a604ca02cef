// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {BatchId, Header, Ids, ModelId} from "../types/Types.sol";

/// @notice What a node signs for one answer. The EIP-712 type; `trine.protocol.messages.Receipt` is its twin.
struct Receipt {
    bytes32 requestHash; // EIP-712 digest of the client's signed Request; zero for an unsigned request
    address client; // zero for an unsigned request
    address node;
    bytes32 modelId;
    bytes32 inputHash; // keccak256 of the canonical JSON of what the client asked
    bytes32 promptHash; // keccak256 of the prompt's token ids, 4 bytes big-endian each
    bytes32 outputHash; // the same of the answer's token ids
    bytes32 textHash; // keccak256 of the answer's text as the client gets it, UTF-8
    bytes32 fingerprintHash; // keccak256 of the fingerprint
    uint32 promptTokens;
    uint32 outputTokens;
    uint32 maxTokens; // the limit the answer was generated under
    uint8 finishReason; // 0: stop (end-of-sequence token), 1: length (maxTokens reached)
    bytes32 engineClass; // short string, e.g. "cpu-bf16"
    uint256 feeWei;
    uint64 issuedAt; // seconds
}

/// @notice Shows that a receipt is a leaf of a batch: what the batch id commits to, and the way to the root.
struct Opening {
    bytes32 root;
    bytes32 canary;
    uint256 index;
    Receipt receipt;
    bytes32[] proof; // DEPTH siblings, from the leaf up
}

/// @title Hashes of receipts and leaves
library LeafLib {
    /// @dev Depth of every batch's tree: 256 leaves, missing ones are zero.
    uint256 internal constant DEPTH = 8;

    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        // A type string is one literal.
        // solhint-disable-next-line max-line-length
        "Receipt(bytes32 requestHash,address client,address node,bytes32 modelId,bytes32 inputHash,bytes32 promptHash,bytes32 outputHash,bytes32 textHash,bytes32 fingerprintHash,uint32 promptTokens,uint32 outputTokens,uint32 maxTokens,uint8 finishReason,bytes32 engineClass,uint256 feeWei,uint64 issuedAt)"
    );

    /// @notice EIP-712 struct hash.
    function structHash(Receipt memory receipt) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPEHASH, receipt));
    }

    /// @notice Leaf of a batch's tree: hashed twice against second preimages; the index is inside, because
    /// sorted-pair proofs do not bind a position.
    function leafHash(uint256 index, Receipt memory receipt) internal pure returns (bytes32) {
        return leafHash(index, structHash(receipt));
    }

    /// @notice The same from the receipt's struct hash.
    function leafHash(uint256 index, bytes32 receiptHash) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(index, receiptHash))));
    }

    /// @notice Whether the opening's receipt is the leaf of that index in the batch.
    function opens(Opening calldata opening, address batches, BatchId batchId) internal view returns (bool) {
        ModelId modelId = ModelId.wrap(opening.receipt.modelId);
        BatchId opened = Ids.batch(batches, Header(opening.receipt.node, modelId, opening.root, opening.canary));
        return BatchId.unwrap(opened) == BatchId.unwrap(batchId) && opening.proof.length == DEPTH
            && MerkleProof.verifyCalldata(opening.proof, opening.root, leafHash(opening.index, opening.receipt));
    }
}
