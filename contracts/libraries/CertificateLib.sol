// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;
import {BatchId} from "../types/Types.sol";
library CertificateLib {
    function digest(uint256 chainId, address batches, uint256 epoch, BatchId batchId, uint256 accepted, uint256 rejected) internal pure returns (bytes32) {
        return keccak256(abi.encode(chainId, batches, epoch, batchId, accepted, rejected));
    }
}
