// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IModelRegistry} from "../../contracts/interfaces/IModelRegistry.sol";
import {ModelId} from "../../contracts/types/Types.sol";
import {Built} from "./Built.sol";
import {Check, vm} from "./Vm.sol";

contract ModelRegistryTest {
    address private constant REGISTRAR = address(0x4E);

    IModelRegistry private _registry;

    function setUp() external {
        vm.roll(77);
        _registry = IModelRegistry(Built.create("ModelRegistry", abi.encode(address(this), REGISTRAR)));
    }

    function testFuzz_aModelIsItsNameAndContent(string calldata name, bytes calldata manifest) external {
        vm.assume(bytes(name).length > 0 && bytes(name).length <= 64 && manifest.length > 0);
        ModelId id = _registry.register(name, "file:/m", manifest, "policy", _classes(), "prompts", 3, 5);
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
        _registry.register(name, "file:/m", manifest, "policy", _classes(), "prompts", 3, 5);
    }

    function testChangesAreVersionedAndKeepTheContent() external {
        ModelId id = ModelId.wrap(keccak256(abi.encode("m", keccak256("manifest"))));
        vm.expectEmit(address(_registry));
        emit IModelRegistry.ModelRegistered(id, keccak256("manifest"), "m", "file:/m", "manifest");
        _registry.register("m", "file:/m", "manifest", "policy", _classes(), "prompts", 3, 5);
        vm.roll(99);
        _registry.setPolicy(id, "policy 2", _classes());
        vm.expectEmit(address(_registry));
        emit IModelRegistry.PromptSetSet(id, keccak256("prompts 2"), 4, "prompts 2");
        _registry.setPromptSet(id, "prompts 2", 4);
        vm.expectEmit(address(_registry));
        emit IModelRegistry.PriceSet(id, 6);
        _registry.setPrice(id, 6);
        IModelRegistry.Model memory m = _registry.modelOf(id);
        Check.eq(m.policyVersion, 2, "version");
        Check.eq(m.policyBlock, 99, "policy block");
        Check.eq(m.promptSetBlock, 99, "block of the prompts");
        Check.eq(m.registeredBlock, 77, "content block");
        Check.eq(m.contentHash, keccak256("manifest"), "content");
        Check.eq(m.promptCount, 4, "prompts");
        Check.eq(m.pricePerTokenWei, 6, "price");
    }

    function testRefusals() external {
        vm.expectPartialRevert(IModelRegistry.ModelRegistryEmpty.selector);
        _registry.register("", "s", "m", "p", _classes(), "q", 1, 1);
        vm.expectPartialRevert(IModelRegistry.ModelRegistryTooLong.selector);
        _registry.register(string(new bytes(65)), "s", "m", "p", _classes(), "q", 1, 1);
        vm.expectPartialRevert(IModelRegistry.ModelRegistryEmpty.selector);
        _registry.register("n", "s", "m", "p", _classes(), "q", 0, 1);
        vm.expectPartialRevert(IModelRegistry.ModelRegistryUnknownModel.selector);
        _registry.modelOf(ModelId.wrap("none"));
        vm.expectPartialRevert(IModelRegistry.ModelRegistryUnknownModel.selector);
        _registry.setPolicy(ModelId.wrap("none"), "p", _classes());
    }

    function testNothingIsEmptyOrLongerThanItsBound() external {
        string[5] memory fields = ["name", "source", "manifest", "policy", "prompts"];
        uint256[5] memory longest = [uint256(64), 256, 65_536, 65_536, 65_536];
        uint256[5] memory lengths = [uint256(64), 256, 65_536, 65_536, 65_536]; // a copy
        for (uint256 i = 0; i < 5; ++i) {
            lengths[i] = 0;
            vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryEmpty.selector, fields[i]));
            this.registerOf(lengths);
            lengths[i] = longest[i] + 1;
            vm.expectRevert(
                abi.encodeWithSelector(
                    IModelRegistry.ModelRegistryTooLong.selector, fields[i], lengths[i], longest[i]
                )
            );
            this.registerOf(lengths);
            lengths[i] = longest[i];
        }
        ModelId id = this.registerOf(longest);
        Check.eq(bytes(_registry.nameOf(id)).length, 64, "the longest of all");
        Check.eq(_registry.classesOf(id).length, 32, "and the most classes");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryEmpty.selector, "promptCount"));
        _registry.setPromptSet(id, "q", 0);
        _registry.setPromptSet(id, "q", 1);
        Check.eq(_registry.modelOf(id).promptCount, 1, "one prompt");
        ModelId none = ModelId.wrap("none");
        bytes memory unknown = abi.encodeWithSelector(IModelRegistry.ModelRegistryUnknownModel.selector, none);
        vm.expectRevert(unknown);
        _registry.setPromptSet(none, "q", 1);
        vm.expectRevert(unknown);
        _registry.setPrice(none, 1);
    }

    /// Lengths of name, source, manifest, policy and prompts.
    function registerOf(uint256[5] memory lengths) external returns (ModelId) {
        bytes32[] memory classes = new bytes32[](32);
        for (uint256 i = 0; i < 32; ++i) {
            classes[i] = bytes32(i + 1);
        }
        return _registry.register(
            string(new bytes(lengths[0])),
            string(new bytes(lengths[1])),
            new bytes(lengths[2]),
            new bytes(lengths[3]),
            classes,
            new bytes(lengths[4]),
            1,
            1
        );
    }

    function testTheRegistrarRegistersAndChangesNothing() external {
        vm.prank(REGISTRAR);
        ModelId id = _registry.register("m", "file:/m", "manifest", "policy", _classes(), "prompts", 3, 5);
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, REGISTRAR);
        vm.startPrank(REGISTRAR);
        vm.expectRevert(refusal);
        _registry.setPolicy(id, "p", _classes());
        vm.expectRevert(refusal);
        _registry.setPromptSet(id, "q", 1);
        vm.expectRevert(refusal);
        _registry.setPrice(id, 1);
        vm.expectRevert(refusal);
        _registry.setRegistrar(address(1));
        vm.expectPartialRevert(IModelRegistry.ModelRegistryAlreadyRegistered.selector);
        _registry.register("m", "file:/m", "manifest", "other policy", _classes(), "prompts", 3, 5);
        vm.stopPrank();
    }

    function testAStrangerDoesNotRegister() external {
        vm.prank(address(1));
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryUnauthorized.selector, address(1)));
        _registry.register("n", "s", "m", "p", _classes(), "q", 1, 1);
    }

    function testTheOwnerReplacesTheRegistrar() external {
        Check.eq(_registry.registrar(), REGISTRAR, "at first");
        vm.expectEmit(address(_registry));
        emit IModelRegistry.RegistrarSet(address(0));
        _registry.setRegistrar(address(0));
        Check.eq(_registry.registrar(), address(0), "nobody");
        vm.prank(REGISTRAR);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryUnauthorized.selector, REGISTRAR));
        _registry.register("n", "s", "m", "p", _classes(), "q", 1, 1);
        _registry.register("n", "s", "m", "p", _classes(), "q", 1, 1);
    }

    function testPoliciesAreNumberedOverAllModels() external {
        ModelId a = _registry.register("a", "s", "m", "policy a", _classes(), "q", 1, 1);
        ModelId b = _registry.register("b", "s", "m", "policy b", _classes(), "q", 1, 1);
        Check.eq(_registry.currentPolicyId(a), 1, "first");
        Check.eq(_registry.currentPolicyId(b), 2, "second");
        _registry.setPolicy(a, "policy a2", _classes());
        Check.eq(_registry.currentPolicyId(a), 3, "third");
        Check.eq(_registry.currentPolicyId(b), 2, "the other model keeps its own");
        _policyIs(1, a, 1, "policy a");
        _policyIs(2, b, 1, "policy b");
        _policyIs(3, a, 2, "policy a2");
    }

    function testFuzz_aPolicyIsNeverForgotten(bytes calldata first, bytes calldata second) external {
        vm.assume(first.length > 0 && second.length > 0);
        ModelId id = _registry.register("a", "s", "m", first, _classes(), "q", 1, 1);
        _registry.setPolicy(id, second, _classes());
        _policyIs(1, id, 1, first);
        _policyIs(2, id, 2, second);
    }

    function testAPolicyKnowsItsClasses() external {
        ModelId id = _registry.register("a", "s", "m", "p", _classes(), "q", 1, 1);
        Check.yes(_registry.hasClass(id, "cpu-bf16") && _registry.hasClass(id, "cpu-fp32"), "both");
        Check.yes(!_registry.hasClass(id, "cpu-int8") && !_registry.hasClass(id, 0), "no others");
        Check.eq(keccak256(abi.encode(_registry.classesOf(id))), keccak256(abi.encode(_classes())), "listed");
        bytes32[] memory other = new bytes32[](1);
        other[0] = "cpu-int8";
        vm.expectEmit(address(_registry));
        emit IModelRegistry.PolicySet(id, 2, 2, keccak256("p2"), "p2");
        vm.expectEmit(address(_registry));
        emit IModelRegistry.ClassesSet(id, 2, other);
        _registry.setPolicy(id, "p2", other);
        Check.yes(_registry.hasClass(id, "cpu-int8") && !_registry.hasClass(id, "cpu-bf16"), "a policy's own");
        vm.expectRevert(
            abi.encodeWithSelector(IModelRegistry.ModelRegistryUnknownModel.selector, ModelId.wrap("none"))
        );
        _registry.hasClass(ModelId.wrap("none"), "cpu-bf16");
    }

    function testClassesAreSortedAndBounded() external {
        bytes32[] memory classes = new bytes32[](0);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryEmpty.selector, "classes"));
        _registry.register("a", "s", "m", "p", classes, "q", 1, 1);
        classes = new bytes32[](33);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryTooLong.selector, "classes", 33, 32));
        _registry.register("a", "s", "m", "p", classes, "q", 1, 1);
        classes = _classes();
        (classes[0], classes[1]) = (classes[1], classes[0]);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryClassesNotSorted.selector, 1));
        _registry.register("a", "s", "m", "p", classes, "q", 1, 1);
        classes[1] = classes[0];
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryClassesNotSorted.selector, 1));
        _registry.register("a", "s", "m", "p", classes, "q", 1, 1);
        classes[0] = 0;
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryClassesNotSorted.selector, 0));
        _registry.register("a", "s", "m", "p", classes, "q", 1, 1);
    }

    function testUnknownPoliciesAreRefused() external {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryUnknownPolicy.selector, 0));
        _registry.policyOf(0);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelRegistryUnknownPolicy.selector, 1));
        _registry.policyOf(1);
        vm.expectRevert(
            abi.encodeWithSelector(IModelRegistry.ModelRegistryUnknownModel.selector, ModelId.wrap("none"))
        );
        _registry.currentPolicyId(ModelId.wrap("none"));
    }

    function _classes() private pure returns (bytes32[] memory classes) {
        classes = new bytes32[](2);
        (classes[0], classes[1]) = ("cpu-bf16", "cpu-fp32");
    }

    function _policyIs(uint24 policyId, ModelId modelId, uint32 version, bytes memory policy) private view {
        (ModelId ofModel, uint32 ofVersion, bytes32 policyHash) = _registry.policyOf(policyId);
        Check.eq(ModelId.unwrap(ofModel), ModelId.unwrap(modelId), "model");
        Check.eq(ofVersion, version, "version");
        Check.eq(policyHash, keccak256(policy), "hash");
    }
}
