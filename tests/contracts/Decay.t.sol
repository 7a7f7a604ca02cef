// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Decay} from "../../contracts/libraries/Decay.sol";
import {Check, vm} from "./Vm.sol";

contract DecayTest {
    uint256 private constant FRACTION_BITS = 40;
    uint64 private constant HALF_LIFE = 30 days;

    /// The true value to 2 ** -39 of it: one square root of one half for every bit of the exponent's fraction.
    function testFuzz_aMultiplierIsCloseToTheTrueOne(uint64 elapsed, uint64 halfLife) external {
        vm.assume(halfLife > 0);
        uint256 halvings = elapsed / halfLife;
        uint256 fraction = (uint256(elapsed % halfLife) << FRACTION_BITS) / halfLife;
        uint256 exact = 1 << 126;
        uint256 root = 1 << 125;
        for (uint256 bit = FRACTION_BITS; bit > 0; --bit) {
            root = Math.sqrt(root << 126);
            if ((fraction >> (bit - 1)) & 1 == 1) exact = (exact * root) >> 126;
        }
        exact = (exact >> 62) >> halvings;
        uint256 actual = Decay.multiplier(elapsed, halfLife);
        uint256 slack = (exact >> 38) + 3;
        Check.yes(actual + slack >= exact, "not below");
        Check.yes(actual <= exact + (exact * 15) / 1_000_000 + slack, "at most 1.5e-5 above");
    }

    function testFuzz_moreTimeNeverLeavesMore(uint256 elapsed, uint256 more, uint64 halfLife) external {
        vm.assume(halfLife > 0);
        elapsed %= 1 << 128;
        more %= 1 << 128;
        Check.yes(Decay.multiplier(elapsed + more, halfLife) <= Decay.multiplier(elapsed, halfLife), "any span");
        // Close together, where the steps of the table are.
        elapsed %= uint256(halfLife) * 3;
        more %= uint256(halfLife) / 32 + 2;
        Check.yes(Decay.multiplier(elapsed + more, halfLife) <= Decay.multiplier(elapsed, halfLife), "neighbours");
    }

    function testFuzz_decayNeverAddsAndRoundsAsItSays(uint128 value, uint64 elapsed, uint64 halfLife) external {
        vm.assume(halfLife > 0);
        Check.eq(Decay.decay(value, 0, halfLife), value, "no time takes nothing");
        Check.eq(Decay.decay(value, halfLife, halfLife), value / 2, "a half-life takes half");
        uint256 left = Decay.multiplier(elapsed, halfLife);
        Check.yes(left <= Decay.ONE, "at most one");
        uint256 down = Decay.down(value, left);
        uint256 up = Decay.up(value, left);
        Check.eq(down, Math.mulDiv(value, left, Decay.ONE), "down");
        Check.eq(up, Math.mulDiv(value, left, Decay.ONE, Math.Rounding.Ceil), "up");
        Check.yes(up <= value, "never adds");
    }

    function testAllOfTheTimeLeavesNothing() external pure {
        Check.eq(Decay.multiplier(type(uint256).max, 1), 0, "shortest half-life");
        Check.eq(Decay.multiplier(type(uint256).max, type(uint64).max), 0, "longest half-life");
        Check.eq(Decay.multiplier(uint256(HALF_LIFE) * 64, HALF_LIFE), 1, "64 half-lives");
        Check.eq(Decay.multiplier(uint256(HALF_LIFE) * 65, HALF_LIFE), 0, "65 half-lives");
    }

    function testDecayIsWhatPythonComputes() external view {
        string memory json = vm.readFile("tests/vectors/reputation.json");
        bytes32[] memory halfLife = vm.parseJsonBytes32Array(json, ".decay_halfLife");
        bytes32[] memory elapsed = vm.parseJsonBytes32Array(json, ".decay_elapsed");
        bytes32[] memory value = vm.parseJsonBytes32Array(json, ".decay_value");
        bytes32[] memory multiplier = vm.parseJsonBytes32Array(json, ".decay_multiplier");
        bytes32[] memory left = vm.parseJsonBytes32Array(json, ".decay_left");
        Check.yes(halfLife.length > 0, "there are cases");
        for (uint256 i = 0; i < halfLife.length; ++i) {
            uint64 h = uint64(uint256(halfLife[i]));
            Check.eq(Decay.multiplier(uint256(elapsed[i]), h), uint256(multiplier[i]), "multiplier");
            Check.eq(Decay.decay(uint256(value[i]), uint256(elapsed[i]), h), uint256(left[i]), "left");
        }
    }
}
