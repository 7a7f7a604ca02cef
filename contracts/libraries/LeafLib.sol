// SPDX-License-Identifier: MIT
// solhint-disable-next-line compiler-version
pragma solidity ^0.8.27;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {BatchId, Header, Ids, ModelId} from "../types/Types.sol";

/// @notice What a node signs for one answer. The EIP-712 type; `trine.protocol.messages.Receipt` is its twin.
struct Receipt {
    bytes32 requestHash; // digest of the client's signed Request, or the id of a posted one; zero: nobody's
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
    uint64 anchorBy; // seconds; in no batch by then, it costs the node stake (`Inclusion`)
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
/// @dev A batch's tree counts tokens: the last 32 bits of every node, the root's too, are the tokens (prompts and
/// answers) of all receipts below it, the others are of a hash over both children with their counts. So whoever opens
/// a leaf has shown how many tokens the whole batch claims, and a node that claims too few cannot open all its leaves.
library LeafLib {
    /// @dev Depth of every batch's tree: 256 leaves, missing ones are zero.
    uint256 internal constant DEPTH = 8;

    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        // A type string is one literal.
        // solhint-disable-next-line max-line-length
        "Receipt(bytes32 requestHash,address client,address node,bytes32 modelId,bytes32 inputHash,bytes32 promptHash,bytes32 outputHash,bytes32 textHash,bytes32 fingerprintHash,uint32 promptTokens,uint32 outputTokens,uint32 maxTokens,uint8 finishReason,bytes32 engineClass,uint256 feeWei,uint64 issuedAt,uint64 anchorBy)"
    );

    uint256 private constant TOKENS_MASK = type(uint32).max;

    error LeafTooManyTokens(uint256 tokens);

    /// @notice EIP-712 struct hash.
    function structHash(Receipt memory receipt) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPEHASH, receipt));
    }

    /// @notice Leaf of a batch's tree: hashed twice against second preimages; the index is inside, because
    /// sorted-pair proofs do not bind a position.
    function leafHash(uint256 index, Receipt memory receipt) internal pure returns (bytes32) {
        return leafHash(index, structHash(receipt), uint256(receipt.promptTokens) + receipt.outputTokens);
    }

    /// @notice The same from the receipt's struct hash and the tokens that it counts, prompt and answer together.
    function leafHash(uint256 index, bytes32 receiptHash, uint256 tokens) internal pure returns (bytes32) {
        return _counting(keccak256(bytes.concat(keccak256(abi.encode(index, receiptHash)))), tokens);
    }

    /// @notice Parent of two nodes of a batch's tree, in whatever order.
    function parent(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return _counting(Hashes.commutativeKeccak256(a, b), tokensOf(a) + tokensOf(b));
    }

    /// @notice Tokens, prompts and answers, of all receipts below a node of a batch's tree.
    function tokensOf(bytes32 node) internal pure returns (uint256) {
        return uint256(node) & TOKENS_MASK;
    }

    /// @notice Whether `proof` leads from a leaf to the root of a batch.
    function verify(bytes32[] calldata proof, bytes32 root, bytes32 leaf) internal pure returns (bool) {
        if (proof.length != DEPTH) return false;
        bytes32 node = leaf;
        for (uint256 i = 0; i < DEPTH; ++i) {
            node = parent(node, proof[i]);
        }
        return node == root;
    }

    /// @notice Whether the opening's receipt is the leaf of that index in the batch.
    function opens(Opening calldata opening, address batches, BatchId batchId) internal view returns (bool) {
        return BatchId.unwrap(batchOf(opening, batches)) == BatchId.unwrap(batchId)
            && verify(opening.proof, opening.root, leafHash(opening.index, opening.receipt));
    }

    /// @notice The batch that the opening is of, if it opens any.
    function batchOf(Opening calldata opening, address batches) internal view returns (BatchId) {
        ModelId modelId = ModelId.wrap(opening.receipt.modelId);
        return Ids.batch(batches, Header(opening.receipt.node, modelId, opening.root, opening.canary));
    }

    function _counting(bytes32 hash, uint256 tokens) private pure returns (bytes32) {
        // Counts that wrapped around could claim fewer tokens than there are.
        require(tokens <= TOKENS_MASK, LeafTooManyTokens(tokens));
        return bytes32((uint256(hash) & ~TOKENS_MASK) | tokens);
    }
}
