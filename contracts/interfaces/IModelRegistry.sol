// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ModelId} from "../types/Types.sol";

/// @title What a model is, byte for byte, and how its answers are judged
/// @notice Storage holds hashes; the documents themselves (manifest, policy, prompt set) are in the events of the
/// blocks that the record names, so that one `eth_getLogs` of one block returns each.
interface IModelRegistry {
    struct Model {
        bytes32 contentHash; // keccak256 of the manifest: every file's name, size and SHA-256
        bytes32 policyHash; // keccak256 of the verdict policy
        bytes32 promptSetHash; // keccak256 of the calibration prompt set
        uint64 registeredBlock;
        uint64 policyBlock;
        uint64 promptSetBlock;
        uint32 promptCount;
        uint32 policyVersion;
        uint128 pricePerTokenWei; // of prompt and output tokens alike
    }

    event ModelRegistered(
        ModelId indexed modelId, bytes32 contentHash, string name, string source, bytes manifest
    );
    /// @param policyId The policy's number over all models.
    event PolicySet(
        ModelId indexed modelId, uint24 indexed policyId, uint32 version, bytes32 policyHash, bytes policy
    );
    /// @notice The classes of hardware that the policy knows.
    event ClassesSet(ModelId indexed modelId, uint24 indexed policyId, bytes32[] classes);
    event PromptSetSet(ModelId indexed modelId, bytes32 promptSetHash, uint32 count, bytes prompts);
    event PriceSet(ModelId indexed modelId, uint128 pricePerTokenWei);
    event RegistrarSet(address indexed registrar);

    error ModelRegistryUnauthorized(address caller);
    error ModelRegistryUnknownModel(ModelId modelId);
    error ModelRegistryUnknownPolicy(uint24 policyId);
    error ModelRegistryAlreadyRegistered(ModelId modelId);
    error ModelRegistryEmpty(string field);
    error ModelRegistryTooLong(string field, uint256 length, uint256 maximum);
    error ModelRegistryClassesNotSorted(uint256 index);

    /// @notice Registers a model with its policy, prompt set and price. The owner, or the registrar, who need not
    /// wait as the owner, a timelock, does: a new model changes nothing for those that exist.
    /// @param name OpenAI-style model name, 1 to 64 bytes.
    /// @param source `hf:…`, `pypi:…` or `file:…`, 1 to 256 bytes; a hint where to get it, never trusted.
    /// @param manifest The manifest's canonical bytes.
    /// @param policy The policy's canonical bytes.
    /// @param classes The classes of hardware on which operators may be calibrated, ascending, 1 to 32: those that the
    /// policy knows. Committees mix by class, so a class that nobody else is in gets its verifiers more seats than
    /// their stake: name no class that nobody uses.
    /// @param prompts The prompt set's canonical bytes.
    /// @param promptCount How many prompts it holds.
    function register(
        string calldata name,
        string calldata source,
        bytes calldata manifest,
        bytes calldata policy,
        bytes32[] calldata classes,
        bytes calldata prompts,
        uint32 promptCount,
        uint128 pricePerTokenWei
    ) external returns (ModelId modelId);

    /// @notice Sets how answers anchored from now on are judged, and which classes may be calibrated. Only the owner.
    /// @dev Who was calibrated in a class that goes away stays so until that expires.
    function setPolicy(ModelId modelId, bytes calldata policy, bytes32[] calldata classes) external;

    /// @notice Only the owner.
    function setPromptSet(ModelId modelId, bytes calldata prompts, uint32 promptCount) external;

    /// @notice Only the owner.
    function setPrice(ModelId modelId, uint128 pricePerTokenWei) external;

    /// @notice Names who may register models besides the owner; zero: nobody. Only the owner.
    function setRegistrar(address newRegistrar) external;

    /// @notice The record of a registered model; reverts `ModelRegistryUnknownModel` otherwise.
    function modelOf(ModelId modelId) external view returns (Model memory);

    /// @notice Number of the policy that answers of the model are judged by now.
    function currentPolicyId(ModelId modelId) external view returns (uint24);

    /// @notice What a policy's number stands for. Policies are numbered from 1 in the order in which they were set,
    /// and never forgotten; the document itself is in the `PolicySet` event of that number.
    /// @return modelId The model it is of.
    /// @return version Counted per model from 1.
    /// @return policyHash keccak256 of the document.
    function policyOf(uint24 policyId) external view returns (ModelId modelId, uint32 version, bytes32 policyHash);

    /// @notice The classes of hardware of the model's policy.
    function classesOf(ModelId modelId) external view returns (bytes32[] memory);

    /// @notice Whether the model's policy has the class.
    function hasClass(ModelId modelId, bytes32 hardwareClass) external view returns (bool);

    /// @notice How many models are registered. They are never removed.
    function modelCount() external view returns (uint256);

    /// @notice The models in the order in which they were registered, from 0; reverts with a panic beyond the last.
    function modelAt(uint256 index) external view returns (ModelId);

    /// @notice The name that a model was registered under; empty for an unknown one.
    function nameOf(ModelId modelId) external view returns (string memory);

    function registrar() external view returns (address);
}
