// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {ICanaries} from "./interfaces/ICanaries.sol";
import {IFinality} from "./interfaces/IFinality.sol";
import {LeafLib, Opening} from "./libraries/LeafLib.sol";
import {Majority} from "./libraries/Majority.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {BatchId, Header, Ids} from "./types/Types.sol";

/// @title Known-bad leaves that test verifiers
/// @dev Documented in `ICanaries`.
contract Canaries is ICanaries, EIP712 {
    using LeafLib for Opening;

    bytes32 public constant CANARY_TYPEHASH = keccak256("Canary(bytes32 batchId,uint256 leafIndex)");

    address private immutable BATCHES;
    IFinality private immutable FINALITY;

    constructor(address batches, IFinality finality) EIP712("Trine", "1") {
        require(batches != address(0) && address(finality) != address(0), CanariesZeroAddress());
        BATCHES = batches;
        FINALITY = finality;
    }

    /// @inheritdoc ICanaries
    function open(
        Header calldata header,
        uint256 leaves,
        bytes32 salt,
        Opening[] calldata openings,
        bytes[] calldata signatures
    ) external {
        bytes32 opened = keccak256(abi.encode(leaves, salt));
        require(opened == header.canary, CanariesCommitmentMismatch(header.canary, opened));
        uint256 count = Majority.popcount(leaves);
        require(openings.length == count, CanariesWrongNumber(openings.length, count));
        require(signatures.length == count, CanariesWrongNumber(signatures.length, count));
        BatchId batchId = Ids.batch(BATCHES, header);
        uint256 left = leaves;
        for (uint256 i = 0; i < count; ++i) {
            // The lowest bit that is set: openings come in order, so none can be shown twice.
            uint256 bit = left & (~left + 1);
            left ^= bit;
            uint256 index = openings[i].index;
            require(index < 256 && bit == 1 << index, CanariesWrongLeaf(index, Majority.popcount(bit - 1)));
            require(openings[i].opens(BATCHES, batchId), CanariesBadOpening(batchId, index));
            address client = openings[i].receipt.client;
            // A loop over at most 256 leaves that the caller brings; a wallet that fails is a bad signature.
            // slither-disable-next-line calls-loop
            bool signed = Signatures.isBy(client, digestOf(batchId, index), signatures[i]);
            require(client != address(0) && signed, CanariesBadSignature(index, client));
        }
        FINALITY.noteCanaries(header, leaves);
    }

    /// @inheritdoc ICanaries
    function digestOf(BatchId batchId, uint256 leafIndex) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(CANARY_TYPEHASH, batchId, leafIndex)));
    }
}
