// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {LeafLib, Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {Header, ModelId} from "../../contracts/types/Types.sol";

/// @notice Trees over receipts as nodes build them: depth 8, missing leaves zero, pairs sorted.
library Trees {
    function root(Receipt[] memory receipts) internal pure returns (bytes32) {
        return _fold(_hashes(receipts), 0, new bytes32[](LeafLib.DEPTH));
    }

    function open(Receipt[] memory receipts, uint256 index, bytes32 canary) internal pure returns (Opening memory) {
        return open(_hashes(receipts), index, receipts[index], canary);
    }

    /// Of any layer of hashes at the bottom.
    function open(bytes32[] memory hashes, uint256 index, Receipt memory receipt, bytes32 canary)
        internal
        pure
        returns (Opening memory opening)
    {
        opening.proof = new bytes32[](LeafLib.DEPTH);
        opening.root = _fold(hashes, index, opening.proof);
        opening.canary = canary;
        opening.index = index;
        opening.receipt = receipt;
    }

    function headerOf(Opening memory opening) internal pure returns (Header memory) {
        Receipt memory receipt = opening.receipt;
        return Header(receipt.node, ModelId.wrap(receipt.modelId), opening.root, opening.canary);
    }

    function pair(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return LeafLib.parent(a, b);
    }

    function _hashes(Receipt[] memory receipts) private pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](receipts.length);
        for (uint256 i = 0; i < receipts.length; ++i) {
            hashes[i] = LeafLib.leafHash(i, receipts[i]);
        }
    }

    /// The root; writes the siblings on the way from `index` into `proof`.
    function _fold(bytes32[] memory layer, uint256 index, bytes32[] memory proof) private pure returns (bytes32) {
        bytes32 empty = 0;
        for (uint256 level = 0; level < LeafLib.DEPTH; ++level) {
            uint256 sibling = index ^ 1;
            proof[level] = sibling < layer.length ? layer[sibling] : empty;
            bytes32[] memory above = new bytes32[]((layer.length + 1) / 2);
            for (uint256 i = 0; i < above.length; ++i) {
                above[i] = pair(layer[2 * i], 2 * i + 1 < layer.length ? layer[2 * i + 1] : empty);
            }
            (layer, empty, index) = (above, pair(empty, empty), index / 2);
        }
        return layer[0];
    }
}
