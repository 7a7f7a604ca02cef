// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDirectory} from "../../contracts/interfaces/IDirectory.sol";
import {BatchId, ModelId, Role} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

contract DirectoryTest is World {
    IDirectory private _directory;

    function setUp() external {
        _calibratedWorld();
        _directory = IDirectory(
            Built.create("Directory", abi.encode(registry, calibration, staking, reputation))
        );
    }

    function testEverybodyWhoHasPassedIsListedOnceWithWhatTheOthersSay() external {
        (IDirectory.OperatorEntry[] memory page, uint256 total) =
            _directory.operators(model, Role.Verifier, 0, 256);
        Check.eq(total, verifiers, "all verifiers");
        Check.eq(page.length, verifiers, "in one page");
        vm.prank(NODE);
        staking.setEndpoint("https://node.example");
        (IDirectory.OperatorEntry[] memory nodes, uint256 count) = _directory.operators(model, Role.Node, 0, 256);
        Check.eq(count, 1, "one node");
        Check.eq(nodes[0].operator, NODE, "it");
        Check.yes(keccak256(bytes(nodes[0].endpoint)) == keccak256("https://node.example"), "where");
        Check.yes(nodes[0].calibrated, "may serve");
        Check.eq(nodes[0].validUntil, calibration.validUntil(NODE, Role.Node, model), "until");
        Check.eq(nodes[0].scoreBps, reputation.scoreBps(NODE, Role.Node, model), "score");
        Check.eq(nodes[0].activeStake, staking.stakeOf(NODE).active, "stake");
        vm.warp(nodes[0].validUntil + 1);
        (nodes,) = _directory.operators(model, Role.Node, 0, 256);
        Check.yes(!nodes[0].calibrated, "expired, and still listed");
    }

    function testFuzz_pagesPutTogetherAreTheList(uint256 size) external view {
        size = 1 + size % 7;
        (IDirectory.OperatorEntry[] memory all, uint256 total) = _directory.operators(model, Role.Verifier, 0, 256);
        for (uint256 offset = 0; offset <= total; offset += size) {
            (IDirectory.OperatorEntry[] memory page,) = _directory.operators(model, Role.Verifier, offset, size);
            Check.eq(page.length, total - offset < size ? total - offset : size, "length");
            for (uint256 i = 0; i < page.length; ++i) {
                Check.eq(page[i].operator, all[offset + i].operator, "place");
            }
        }
    }

    function testModelsAreListedOldestFirst() external {
        ModelId later = registry.register("later", "file:/m", "manifest", "policy", _classes(), "prompts", 3, 5);
        (IDirectory.ModelEntry[] memory page, uint256 total) = _directory.models(0, 256);
        Check.eq(total, registry.modelCount(), "count");
        Check.eq(ModelId.unwrap(page[0].modelId), ModelId.unwrap(model), "first");
        Check.eq(ModelId.unwrap(page[total - 1].modelId), ModelId.unwrap(later), "last");
        Check.yes(keccak256(bytes(page[total - 1].name)) == keccak256("later"), "name");
        Check.eq(page[total - 1].pricePerTokenWei, 5, "price");
        Check.eq(page[total - 1].policyVersion, 1, "version");
        (page,) = _directory.models(total, 256);
        Check.eq(page.length, 0, "nothing beyond the last");
        (page,) = _directory.models(type(uint256).max, 256);
        Check.eq(page.length, 0, "nor anywhere else");
    }

    function testNoCounterpartMayBeMissing() external {
        for (uint256 i = 0; i < 4; ++i) {
            address[4] memory parts = [address(1), address(2), address(3), address(4)];
            parts[i] = address(0);
            vm.expectRevert(abi.encodeWithSelector(IDirectory.DirectoryZeroAddress.selector));
            Built.create("Directory", abi.encode(parts));
        }
    }

    function testAPageHasABound() external {
        vm.expectRevert(abi.encodeWithSelector(IDirectory.DirectoryPageTooLarge.selector, 257, 256));
        _directory.models(0, 257);
        vm.expectRevert(abi.encodeWithSelector(IDirectory.DirectoryPageTooLarge.selector, 257, 256));
        _directory.operators(model, Role.Node, 0, 257);
    }

    function testWhoPassesAgainIsNotListedAgain() external {
        (, uint256 before) = _directory.operators(model, Role.Node, 0, 1);
        BatchId renewal = _answer(_request(NODE, Role.Node), "renewal");
        for (uint256 seat = 0; seat < 3; ++seat) {
            _commit(renewal, seat, 3, 0);
        }
        for (uint256 seat = 0; seat < 3; ++seat) {
            _reveal(renewal, seat, 3, 0);
        }
        Check.yes(
            BatchId.unwrap(calibration.resultOf(NODE, Role.Node, model).batchId) == BatchId.unwrap(renewal),
            "has passed again"
        );
        (, uint256 total) = _directory.operators(model, Role.Node, 0, 1);
        Check.eq(total, before, "once");
    }
}
