// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IStaking} from "../interfaces/IStaking.sol";

// Assembly where its comment says why.
// slither-disable-start assembly,too-many-digits
/// @title What is kept of a drawn committee
/// @notice keccak256 over the seats, 64 bytes each (verifier, locked), cut to 160 bits: the contract makes the hash,
/// so nobody can look for two committees with the same. Events tell the seats, callers show them, contracts compare.
library SeatsLib {
    uint256 private constant SEAT_BYTES = 64;

    /// @dev Straight from calldata; bits that do not belong to an address or an amount only make it differ.
    function hash(IStaking.Seat[] calldata seats) internal pure returns (uint160 hashed) {
        // Copying to memory seat by seat, as `abi.encode` would, costs three times as much in every vote.
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            let buffer := mload(0x40)
            let size := mul(seats.length, SEAT_BYTES)
            calldatacopy(buffer, seats.offset, size)
            hashed := shr(96, keccak256(buffer, size))
        }
    }

    function hashMemory(IStaking.Seat[] memory seats) internal pure returns (uint160) {
        bytes memory packed = new bytes(seats.length * SEAT_BYTES);
        for (uint256 i = 0; i < seats.length; ++i) {
            (address verifier, uint256 locked) = (seats[i].verifier, seats[i].locked);
            // solhint-disable-next-line no-inline-assembly
            assembly ("memory-safe") {
                let at_ := add(add(packed, 32), mul(i, SEAT_BYTES))
                mstore(at_, verifier)
                mstore(add(at_, 32), locked)
            }
        }
        return uint160(uint256(keccak256(packed)) >> 96);
    }
}
// slither-disable-end assembly,too-many-digits
