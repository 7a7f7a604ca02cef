// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {Ids, ModelId} from "./types/Types.sol";

/// @title What a model is, byte for byte, and how its answers are judged
/// @dev Documented in `IModelRegistry`.
contract ModelRegistry is IModelRegistry, Ownable2Step {
    using SafeCast for uint256;

    uint256 public constant MAX_NAME_BYTES = 64;
    uint256 public constant MAX_SOURCE_BYTES = 256;
    uint256 public constant MAX_DOCUMENT_BYTES = 65_536;
    /// @notice Classes of hardware that a policy may have.
    uint256 public constant MAX_CLASSES = 32;

    struct Policy {
        ModelId modelId;
        bytes32 policyHash;
        uint32 version;
    }

    uint24 private _policies;
    address private _registrar;
    ModelId[] private _ids;
    mapping(ModelId modelId => Model) private _models;
    mapping(ModelId modelId => string) private _names;
    mapping(ModelId modelId => uint24) private _currentPolicyIds;
    mapping(uint24 policyId => Policy) private _policyOf;
    mapping(uint24 policyId => bytes32[]) private _classesOf;

    /// @param owner The timelock.
    /// @param registrar_ May register models without it; zero: nobody.
    // Zero is a choice here.
    // slither-disable-next-line missing-zero-check
    constructor(address owner, address registrar_) Ownable(owner) {
        _registrar = registrar_;
        emit RegistrarSet(registrar_);
    }

    /// @inheritdoc IModelRegistry
    function register(
        string calldata name,
        string calldata source,
        bytes calldata manifest,
        bytes calldata policy,
        bytes32[] calldata classes,
        bytes calldata prompts,
        uint32 promptCount,
        uint128 pricePerTokenWei
    ) external returns (ModelId modelId) {
        require(msg.sender == _registrar || msg.sender == owner(), ModelRegistryUnauthorized(msg.sender));
        _requireLength("name", bytes(name).length, MAX_NAME_BYTES);
        _requireLength("source", bytes(source).length, MAX_SOURCE_BYTES);
        _requireLength("manifest", manifest.length, MAX_DOCUMENT_BYTES);
        bytes32 contentHash = keccak256(manifest);
        modelId = Ids.model(name, contentHash);
        Model storage model = _models[modelId];
        require(model.registeredBlock == 0, ModelRegistryAlreadyRegistered(modelId));
        model.contentHash = contentHash;
        model.registeredBlock = block.number.toUint64();
        _ids.push(modelId);
        _names[modelId] = name;
        emit ModelRegistered(modelId, contentHash, name, source, manifest);
        _setPolicy(modelId, model, policy, classes);
        _setPromptSet(modelId, model, prompts, promptCount);
        _setPrice(modelId, model, pricePerTokenWei);
    }

    /// @inheritdoc IModelRegistry
    function setPolicy(ModelId modelId, bytes calldata policy, bytes32[] calldata classes) external onlyOwner {
        _setPolicy(modelId, _known(modelId), policy, classes);
    }

    /// @inheritdoc IModelRegistry
    function setPromptSet(ModelId modelId, bytes calldata prompts, uint32 promptCount) external onlyOwner {
        _setPromptSet(modelId, _known(modelId), prompts, promptCount);
    }

    /// @inheritdoc IModelRegistry
    function setPrice(ModelId modelId, uint128 pricePerTokenWei) external onlyOwner {
        _setPrice(modelId, _known(modelId), pricePerTokenWei);
    }

    /// @inheritdoc IModelRegistry
    // Zero is a choice here.
    // slither-disable-next-line missing-zero-check
    function setRegistrar(address registrar_) external onlyOwner {
        _registrar = registrar_;
        emit RegistrarSet(registrar_);
    }

    /// @inheritdoc IModelRegistry
    function modelOf(ModelId modelId) external view returns (Model memory) {
        return _known(modelId);
    }

    /// @inheritdoc IModelRegistry
    function policyOf(uint24 policyId) external view returns (ModelId modelId, uint32 version, bytes32 policyHash) {
        Policy storage policy = _policyOf[policyId];
        require(policy.version != 0, ModelRegistryUnknownPolicy(policyId));
        return (policy.modelId, policy.version, policy.policyHash);
    }

    /// @inheritdoc IModelRegistry
    function classesOf(ModelId modelId) external view returns (bytes32[] memory) {
        return _classesOf[currentPolicyId(modelId)];
    }

    /// @inheritdoc IModelRegistry
    function hasClass(ModelId modelId, bytes32 hardwareClass) external view returns (bool) {
        bytes32[] storage classes = _classesOf[currentPolicyId(modelId)];
        uint256 count = classes.length;
        for (uint256 i = 0; i < count; ++i) {
            if (classes[i] == hardwareClass) return true;
        }
        return false;
    }

    /// @inheritdoc IModelRegistry
    function modelCount() external view returns (uint256) {
        return _ids.length;
    }

    /// @inheritdoc IModelRegistry
    function modelAt(uint256 index) external view returns (ModelId) {
        return _ids[index];
    }

    /// @inheritdoc IModelRegistry
    function nameOf(ModelId modelId) external view returns (string memory) {
        return _names[modelId];
    }

    /// @inheritdoc IModelRegistry
    function registrar() external view returns (address) {
        return _registrar;
    }

    /// @inheritdoc IModelRegistry
    function currentPolicyId(ModelId modelId) public view returns (uint24 policyId) {
        policyId = _currentPolicyIds[modelId];
        require(policyId != 0, ModelRegistryUnknownModel(modelId));
    }

    function _setPolicy(
        ModelId modelId,
        Model storage model,
        bytes calldata policy,
        bytes32[] calldata classes
    ) private {
        _requireLength("policy", policy.length, MAX_DOCUMENT_BYTES);
        _requireLength("classes", classes.length, MAX_CLASSES);
        for (uint256 i = 0; i < classes.length; ++i) {
            require(classes[i] > (i == 0 ? bytes32(0) : classes[i - 1]), ModelRegistryClassesNotSorted(i));
        }
        bytes32 policyHash = keccak256(policy);
        uint32 version = model.policyVersion + 1;
        uint24 policyId = ++_policies;
        model.policyHash = policyHash;
        model.policyBlock = block.number.toUint64();
        model.policyVersion = version;
        _currentPolicyIds[modelId] = policyId;
        _policyOf[policyId] = Policy(modelId, policyHash, version);
        _classesOf[policyId] = classes;
        emit PolicySet(modelId, policyId, version, policyHash, policy);
        emit ClassesSet(modelId, policyId, classes);
    }

    function _setPromptSet(ModelId modelId, Model storage model, bytes calldata prompts, uint32 promptCount) private {
        _requireLength("prompts", prompts.length, MAX_DOCUMENT_BYTES);
        require(promptCount > 0, ModelRegistryEmpty("promptCount"));
        model.promptSetHash = keccak256(prompts);
        model.promptSetBlock = block.number.toUint64();
        model.promptCount = promptCount;
        emit PromptSetSet(modelId, model.promptSetHash, promptCount, prompts);
    }

    function _setPrice(ModelId modelId, Model storage model, uint128 pricePerTokenWei) private {
        model.pricePerTokenWei = pricePerTokenWei;
        emit PriceSet(modelId, pricePerTokenWei);
    }

    function _known(ModelId modelId) private view returns (Model storage model) {
        model = _models[modelId];
        require(model.registeredBlock != 0, ModelRegistryUnknownModel(modelId));
    }

    function _requireLength(string memory field, uint256 length, uint256 maximum) private pure {
        require(length > 0, ModelRegistryEmpty(field));
        require(length <= maximum, ModelRegistryTooLong(field, length, maximum));
    }
}
