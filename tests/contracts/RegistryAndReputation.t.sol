// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Reputation} from "../../contracts/Reputation.sol";
import {Wired} from "../../contracts/Wired.sol";
import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {BatchId, ModelId, Role} from "../../contracts/types/Types.sol";
import {Check, vm} from "./Vm.sol";

contract ModelRegistryTest {
    ModelRegistry private _registry;

    function setUp() external {
        vm.roll(77);
        _registry = new ModelRegistry(address(this));
    }

    function testFuzz_aModelIsItsNameAndContent(string calldata name, bytes calldata manifest) external {
        vm.assume(bytes(name).length > 0 && bytes(name).length <= 64 && manifest.length > 0);
        ModelId id = _registry.register(name, "file:/m", manifest, "policy", "prompts", 3, 5);
        Check.eq(ModelId.unwrap(id), keccak256(abi.encode(name, keccak256(manifest))), "id");
        IModelRegistry.Model memory m = _registry.modelOf(id);
        Check.eq(m.contentHash, keccak256(manifest), "content");
        Check.eq(m.policyHash, keccak256("policy"), "policy");
        Check.eq(m.promptSetHash, keccak256("prompts"), "prompts");
        Check.eq(m.registeredBlock, 77, "block of the documents");
        Check.eq(m.policyVersion, 1, "version");
        Check.eq(m.promptCount, 3, "count");
        Check.eq(m.pricePerTokenWei, 5, "price");
        vm.expectPartialRevert(IModelRegistry.ModelRegistryAlreadyRegistered.selector);
        _registry.register(name, "file:/m", manifest, "policy", "prompts", 3, 5);
    }

    function testChangesAreVersionedAndKeepTheContent() external {
        ModelId id = _registry.register("m", "file:/m", "manifest", "policy", "prompts", 3, 5);
        vm.roll(99);
        _registry.setPolicy(id, "policy 2");
        _registry.setPromptSet(id, "prompts 2", 4);
        _registry.setPrice(id, 6);
        IModelRegistry.Model memory m = _registry.modelOf(id);
        Check.eq(m.policyVersion, 2, "version");
        Check.eq(m.policyBlock, 99, "policy block");
        Check.eq(m.registeredBlock, 77, "content block");
        Check.eq(m.contentHash, keccak256("manifest"), "content");
        Check.eq(m.promptCount, 4, "prompts");
        Check.eq(m.pricePerTokenWei, 6, "price");
    }

    function testRefusals() external {
        vm.expectPartialRevert(IModelRegistry.ModelRegistryEmpty.selector);
        _registry.register("", "s", "m", "p", "q", 1, 1);
        vm.expectPartialRevert(IModelRegistry.ModelRegistryTooLong.selector);
        _registry.register(string(new bytes(65)), "s", "m", "p", "q", 1, 1);
        vm.expectPartialRevert(IModelRegistry.ModelRegistryEmpty.selector);
        _registry.register("n", "s", "m", "p", "q", 0, 1);
        vm.expectPartialRevert(IModelRegistry.ModelRegistryUnknownModel.selector);
        _registry.modelOf(ModelId.wrap("none"));
        vm.expectPartialRevert(IModelRegistry.ModelRegistryUnknownModel.selector);
        _registry.setPolicy(ModelId.wrap("none"), "p");
        vm.prank(address(1));
        vm.expectPartialRevert(Ownable.OwnableUnauthorizedAccount.selector);
        _registry.register("n", "s", "m", "p", "q", 1, 1);
    }
}

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
