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

    mapping(ModelId modelId => Model) private _models;

    constructor(address owner) Ownable(owner) {}

    /// @inheritdoc IModelRegistry
    function register(
        string calldata name,
        string calldata source,
        bytes calldata manifest,
        bytes calldata policy,
        bytes calldata prompts,
        uint32 promptCount,
        uint128 pricePerTokenWei
    ) external onlyOwner returns (ModelId modelId) {
        _requireLength("name", bytes(name).length, MAX_NAME_BYTES);
        _requireLength("source", bytes(source).length, MAX_SOURCE_BYTES);
        _requireLength("manifest", manifest.length, MAX_DOCUMENT_BYTES);
        bytes32 contentHash = keccak256(manifest);
        modelId = Ids.model(name, contentHash);
        Model storage model = _models[modelId];
        require(model.registeredBlock == 0, ModelRegistryAlreadyRegistered(modelId));
        model.contentHash = contentHash;
        model.registeredBlock = block.number.toUint64();
        emit ModelRegistered(modelId, contentHash, name, source, manifest);
        _setPolicy(modelId, model, policy);
        _setPromptSet(modelId, model, prompts, promptCount);
        _setPrice(modelId, model, pricePerTokenWei);
    }

    /// @inheritdoc IModelRegistry
    function setPolicy(ModelId modelId, bytes calldata policy) external onlyOwner {
        _setPolicy(modelId, _known(modelId), policy);
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
    function modelOf(ModelId modelId) external view returns (Model memory) {
        return _known(modelId);
    }

    function _setPolicy(ModelId modelId, Model storage model, bytes calldata policy) private {
        _requireLength("policy", policy.length, MAX_DOCUMENT_BYTES);
        model.policyHash = keccak256(policy);
        model.policyBlock = block.number.toUint64();
        ++model.policyVersion;
        emit PolicySet(modelId, model.policyVersion, model.policyHash, policy);
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
