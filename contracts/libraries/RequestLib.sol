// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {LeafLib, Receipt} from "./LeafLib.sol";

/// @notice What a client signs for one answer. The EIP-712 type; `trine.protocol.messages.Request` is its twin. Every
/// verifier looks for the signature, so an accepted leaf that names a request has one, or was posted (`Requests`).
struct Request {
    address client;
    bytes32 modelId;
    bytes32 inputHash;
    uint32 maxTokens;
    uint256 maxFeeWei;
    uint256 nonce;
    uint64 deadline; // seconds; the node must not start after it
}

/// @title What client and node sign for an answer, under the domain of `Batches`
library RequestLib {
    bytes32 internal constant REQUEST_TYPEHASH = keccak256(
        // A type string is one literal.
        // solhint-disable-next-line max-line-length
        "Request(address client,bytes32 modelId,bytes32 inputHash,uint32 maxTokens,uint256 maxFeeWei,uint256 nonce,uint64 deadline)"
    );

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// @notice What the client signs; `Receipt.requestHash`.
    function digest(Request memory request, address batches) internal view returns (bytes32) {
        return _digest(batches, keccak256(abi.encode(REQUEST_TYPEHASH, request)));
    }

    /// @notice What the node signs.
    function digest(Receipt memory receipt, address batches) internal view returns (bytes32) {
        return _digest(batches, LeafLib.structHash(receipt));
    }

    function _digest(address batches, bytes32 structHash) private view returns (bytes32) {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN_TYPEHASH, keccak256("Trine"), keccak256("1"), block.chainid, batches));
        return MessageHashUtils.toTypedDataHash(domain, structHash);
    }
}
