// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// Assembly where its comment says why.
// slither-disable-start assembly,too-many-digits
/// @title Exponential decay in integers
/// @notice What is left of a value after `elapsed` seconds when half of it goes in every `halfLife` seconds.
/// @dev `trine.protocol.reputation` is its twin, bit for bit. With x = 2 ** (64 - elapsed / halfLife), the true value,
/// `multiplier` lies in [x - 2, x * (1 + 1.5e-5) + 2]: the straight lines between the table's entries lie above the
/// curve by at most (ln(2) / 64) ** 2 / 8 of it. It never rises with `elapsed`, and is 2 ** 64, one, for none.
library Decay {
    /// @notice A multiplier of one.
    uint256 internal constant ONE = 1 << 64;

    uint256 private constant HALF = 1 << 63;
    uint256 private constant STEPS = 64;
    /// @dev 2 ** (64 - i / 64) - 2 ** 63 for i from 0 to 64, rounded down, 8 bytes each: without what all have in
    /// common the first fits, too.
    bytes private constant TABLE =
        hex"80000000000000007d3e0c0cf486c1747a83b2db722a033a77d0df730ad13bb8"
        hex"75257d152486cc2c7281773c59ffb1396fe4b99bdcdaf5cb6d4f301ed9942b84"
        hex"6ac0c6e7dd24392e68396a503c4bdc6865b906e77c8348a8633f8972be8a5a51"
        hex"60ccdeec2a94e1115e60f4825e0e91235bfbb797daf23755599d15c278afd7b5"
        hex"5744fccad69d6af454f35aabcfedfa1f52a81d91f12ae45a506333daef2b2594"
        hex"4e248c151f8480e34bec14fef2727c5c49b9bd866e2f27a2478d74c8abb9b15c"
        hex"45672a115506dadd4346ccda24976407412c4cca667094563f1799b67a731082"
        hex"3d08a39f580c36be3aff5ab2133e45fb38fbaf4762fb9ee936fd91e328d17791"
        hex"3504f333f9de64843311c412a91124893123f581d2ac258f2f3b78ad690a4374"
        hex"2d583eea42a14ac62b7a39b5a93ed33729a15ab4ea7c0ef827cd93b4e9653569"
        hex"25fed6a9b15138ea243515ae09e6809e227043030c49681820b0510fb9714fc2"
        hex"1ef5326091a111ad1d3ed9a72cffb7501b8d39b9d54e553819e0459320b7fa64"
        hex"1837f0518db8a96f16942d3720185a0014f4efa8fef70961135a2b2f13e6e92b"
        hex"11c3d373ab11c3361031dc431466b1dc0ea4398b45cd53c00d1adf5b7e5ba9e5"
        hex"0b95c1e3ea8bd6e60a14d575496efd9a08980e8092da8527071f61969e8d1010"
        hex"05aac367cc487b14043a28c3acde404602cd8698ac2ba1d70164d1f3bc030773"
        hex"0000000000000000";

    /// @notice 2 ** 64 times the part that is left.
    /// @param halfLife Not zero.
    function multiplier(uint256 elapsed, uint64 halfLife) internal pure returns (uint256) {
        bytes memory table = TABLE;
        uint256 here;
        uint256 next;
        unchecked {
            // A remainder of a uint64 takes up to 64 bits, so 70 with the steps, and the product below 64 + 57.
            uint256 within = (elapsed % halfLife) * STEPS;
            uint256 step = within / halfLife;
            // solhint-disable-next-line no-inline-assembly
            assembly ("memory-safe") {
                // The last 8 bytes of a word that ends with the entry; step <= 63, so step + 1 is in the table. The
                // word of the first entry begins with the array's length.
                let entry := add(table, mul(8, add(step, 1)))
                here := and(mload(entry), 0xffffffffffffffff)
                next := and(mload(add(entry, 8)), 0xffffffffffffffff)
            }
            // Shifts by more than all bits leave zero.
            return (HALF + here - ((here - next) * (within % halfLife)) / halfLife) >> (elapsed / halfLife);
        }
    }

    /// @notice `value` times the multiplier, rounded down.
    /// @param value At most 2 ** 128; for `left` out of `multiplier` nothing overflows then.
    function down(uint256 value, uint256 left) internal pure returns (uint256) {
        unchecked {
            return (value * left) >> 64;
        }
    }

    /// @notice `value` times the multiplier, rounded up; like `down` it never exceeds the value.
    function up(uint256 value, uint256 left) internal pure returns (uint256) {
        unchecked {
            return (value * left + ONE - 1) >> 64;
        }
    }

    /// @notice What is left of `value`, rounded down.
    function decay(uint256 value, uint256 elapsed, uint64 halfLife) internal pure returns (uint256) {
        return down(value, multiplier(elapsed, halfLife));
    }
}
// slither-disable-end assembly,too-many-digits
