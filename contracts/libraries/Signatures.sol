// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

/// @title Whether an account has signed
/// @notice An account's own key first, then its code (EIP-1271). Code alone, as is usual for accounts that have some,
/// would let an account with a key sign, be served, and set code by EIP-7702 that knows nothing of its signature.
library Signatures {
    function isBy(address signer, bytes32 digest, bytes memory signature) internal view returns (bool) {
        // What the third value says of a malformed signature does not matter.
        // slither-disable-next-line unused-return
        (address recovered, ECDSA.RecoverError failure,) = ECDSA.tryRecover(digest, signature);
        if (failure == ECDSA.RecoverError.NoError && recovered == signer) return true;
        return SignatureChecker.isValidERC1271SignatureNow(signer, digest, signature);
    }
}
