// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Built} from "./Built.sol";
import {CommitteesWorld} from "./Committees.t.sol";
import {MeasuredTree} from "./Measured.sol";
import {Check, vm} from "./Vm.sol";

/// @notice What sortition costs. `hardhat test solidity --snapshot` writes the numbers to snapshots/.
contract SortitionTreeGasTest {
    uint256 private constant EPOCH = 1000;
    // A transaction fills no more: writing a new word costs 22,100.
    uint256 private constant CHUNK = 500;

    function testTenMembers() external {
        _measure("10 members", 10, 2, 12_000, 23_000);
    }

    function testAThousandMembers() external {
        _measure("1,000 members", 1000, 4, 30_000, 39_000);
    }

    function testAHundredThousandMembers() external {
        _measure("100,000 members", 100_000, 6, 45_000, 55_000);
    }

    function _measure(string memory name, uint256 members, uint256 depth, uint256 maxDraw, uint256 maxSet) private {
        MeasuredTree tree = MeasuredTree(Built.create("MeasuredTree"));
        for (uint256 level = 0; level < depth; ++level) {
            uint256 nodes = (members + 7 ** (level + 1) - 1) / 7 ** (level + 1);
            for (uint256 first = 0; first < nodes; first += CHUNK) {
                tree.fill(members, level, first, first + CHUNK < nodes ? first + CHUNK : nodes, EPOCH);
            }
        }
        tree.finish(members, depth, EPOCH);
        Check.eq(tree.sum(EPOCH), members, "filled");

        uint256[3] memory targets = [(members * 31) / 100, (members * 57) / 100, (members * 83) / 100];
        _note(name, "three picks", tree.pickThree(EPOCH, targets), maxDraw);
        // The first three epochs write words that were zero.
        uint256 position = (members * 2) / 3;
        uint256 fresh = tree.set(position, 2, EPOCH);
        vm.snapshotValue("sortition", string.concat(name, ", update into fresh words"), fresh);
        tree.set(position, 3, EPOCH + 1);
        tree.set(position, 4, EPOCH + 2);
        _note(name, "first update of an epoch", tree.set(position, 5, EPOCH + 3), maxSet);
        _note(name, "second update of an epoch", tree.set(position, 6, EPOCH + 3), maxSet);
        // Weights pending and of both needed epochs: reading costs the same.
        uint256 older = tree.pickThree(EPOCH + 2, targets);
        _note(name, "three picks from the epoch before, all changed since", older, maxDraw);
        Check.eq(tree.sum(EPOCH + 2), members + 2, "the epoch before");
        Check.eq(tree.sum(EPOCH + 4), members + 5, "pending");
    }

    function _note(string memory name, string memory what, uint256 gas, uint256 maximum) private {
        vm.snapshotValue("sortition", string.concat(name, ", ", what), gas);
        Check.yes(gas <= maximum, string.concat(name, ", ", what));
    }
}

/// @notice The whole draw (without a transaction's base cost) and the whole refresh (with it): members' addresses,
/// classes, stake and events are in.
contract SortitionGasTest is CommitteesWorld {
    function testADrawOfTenMembers() external {
        _fill(10);
        committees.draw(MODEL, "seed", epoch, block.timestamp, NODE, 3, false);
        vm.snapshotGasLastCall("sortition", "draw of 3 from 10, cold call");
    }

    function testADrawOfAThousandMembers() external {
        _fill(1000);
        committees.draw(MODEL, "seed", epoch, block.timestamp, NODE, 3, false);
        vm.snapshotGasLastCall("sortition", "draw of 3 from 1,000, cold call");
        committees.draw(MODEL, "seed", epoch, block.timestamp, NODE, 7, false);
        vm.snapshotGasLastCall("sortition", "draw of 7 from 1,000, cold call");
        committees.draw(MODEL, "seed", epoch, block.timestamp, NODE, 15, false);
        vm.snapshotGasLastCall("sortition", "draw of 15 from 1,000, cold call");
        for (uint256 i = 1; i < 4; ++i) {
            standing.set(_verifier(500), STAKE + i * 1 ether, true, 10_000);
            committees.refresh(MODEL, _verifier(500));
            _nextEpoch();
        }
        standing.set(_verifier(500), STAKE, true, 10_000);
        committees.refresh(MODEL, _verifier(500));
        vm.snapshotGasLastCall("sortition", "refresh among 1,000, two pools, as a transaction");
        committees.refresh(MODEL, _verifier(500));
        vm.snapshotGasLastCall("sortition", "refresh among 1,000 that changes nothing, as a transaction");
    }

    function _fill(uint256 members) private {
        for (uint256 i = 0; i < members; ++i) {
            _join(i, i % 2 == 0 ? CPU : GPU);
        }
        _nextEpoch();
    }
}
