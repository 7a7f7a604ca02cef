// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Reputation} from "../../contracts/Reputation.sol";
import {Wired} from "../../contracts/Wired.sol";
import {BatchId, ModelId, Role} from "../../contracts/types/Types.sol";
import {Check, vm} from "./Vm.sol";

contract ReputationTest {
    Reputation private _reputation;
    ModelId private constant MODEL = ModelId.wrap("model");
    address private constant NODE = address(0xA0);

    function setUp() external {
        _reputation = new Reputation(address(this));
        _reputation.wire(address(this));
    }

    function testItStartsAtZeroAndIsEarned() external {
        Check.eq(_reputation.scoreBps(NODE, Role.Node, MODEL), 0, "starts at zero");
        _record(20, 0, 0);
        Check.eq(_reputation.scoreBps(NODE, Role.Node, MODEL), 5000, "earned");
        Check.eq(_reputation.scoreBps(NODE, Role.Verifier, MODEL), 0, "per role");
        Check.eq(_reputation.scoreBps(NODE, Role.Node, ModelId.wrap("other")), 0, "per model");
        _record(0, 1, 0);
        Check.eq(_reputation.scoreBps(NODE, Role.Node, MODEL), 4000, "one rejection weighs ten");
    }

    function testFuzz_scoresAreMonotonous(uint32 accepted, uint32 rejected, uint32 missed, uint32 more) external {
        _record(accepted, rejected, missed);
        uint256 score = _reputation.scoreBps(NODE, Role.Node, MODEL);
        Check.yes(score <= 10_000, "at most all");
        _record(more, 0, 0);
        uint256 better = _reputation.scoreBps(NODE, Role.Node, MODEL);
        Check.yes(better >= score, "accepted work never lowers it");
        _record(0, more, 0);
        Check.yes(_reputation.scoreBps(NODE, Role.Node, MODEL) <= better, "rejected work never raises it");
    }

    function testOnlyBatchesRecords() external {
        vm.prank(NODE);
        vm.expectPartialRevert(Wired.WiredUnauthorized.selector);
        _reputation.record(NODE, Role.Node, MODEL, BatchId.wrap("b"), 1, 0, 0);
    }

    function _record(uint64 accepted, uint64 rejected, uint64 missed) private {
        _reputation.record(NODE, Role.Node, MODEL, BatchId.wrap("b"), accepted, rejected, missed);
    }
}
