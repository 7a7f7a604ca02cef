// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {ICalibration} from "./interfaces/ICalibration.sol";
import {IDirectory} from "./interfaces/IDirectory.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IReputation} from "./interfaces/IReputation.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {ModelId, Role} from "./types/Types.sol";

/// @title Who serves what
/// @dev Documented in `IDirectory`. View functions only: calls in loops cost nobody anything.
contract Directory is IDirectory {
    uint256 public constant MAX_PAGE = 256;

    IModelRegistry private immutable REGISTRY;
    ICalibration private immutable CALIBRATION;
    IStaking private immutable STAKING;
    IReputation private immutable REPUTATION;

    constructor(IModelRegistry registry, ICalibration calibration, IStaking staking, IReputation reputation) {
        require(
            address(registry) != address(0) && address(calibration) != address(0) && address(staking) != address(0)
                && address(reputation) != address(0),
            DirectoryZeroAddress()
        );
        REGISTRY = registry;
        CALIBRATION = calibration;
        STAKING = staking;
        REPUTATION = reputation;
    }

    /// @inheritdoc IDirectory
    // slither-disable-next-line calls-loop
    function models(uint256 offset, uint256 limit)
        external
        view
        returns (ModelEntry[] memory page, uint256 total)
    {
        total = REGISTRY.modelCount();
        page = new ModelEntry[](_sizeOf(offset, limit, total));
        for (uint256 i = 0; i < page.length; ++i) {
            ModelId modelId = REGISTRY.modelAt(offset + i);
            IModelRegistry.Model memory model = REGISTRY.modelOf(modelId);
            page[i] = ModelEntry(modelId, REGISTRY.nameOf(modelId), model.pricePerTokenWei, model.policyVersion);
        }
    }

    /// @inheritdoc IDirectory
    // slither-disable-next-line calls-loop
    function operators(ModelId modelId, Role role, uint256 offset, uint256 limit)
        external
        view
        returns (OperatorEntry[] memory page, uint256 total)
    {
        total = CALIBRATION.operatorCount(modelId, role);
        page = new OperatorEntry[](_sizeOf(offset, limit, total));
        for (uint256 i = 0; i < page.length; ++i) {
            address operator = CALIBRATION.operatorAt(modelId, role, offset + i);
            page[i] = OperatorEntry({
                operator: operator,
                endpoint: STAKING.endpointOf(operator),
                calibrated: CALIBRATION.isCalibrated(operator, role, modelId),
                validUntil: CALIBRATION.validUntil(operator, role, modelId),
                scoreBps: REPUTATION.scoreBps(operator, role, modelId),
                activeStake: STAKING.stakeOf(operator).active
            });
        }
    }

    function _sizeOf(uint256 offset, uint256 limit, uint256 total) private pure returns (uint256) {
        require(limit <= MAX_PAGE, DirectoryPageTooLarge(limit, MAX_PAGE));
        return offset >= total ? 0 : Math.min(limit, total - offset);
    }
}
