// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Wired} from "./Wired.sol";
import {IReputation} from "./interfaces/IReputation.sol";
import {BatchId, ModelId, Role} from "./types/Types.sol";

/// @title Record of settled work, per operator, role and model
/// @dev Documented in `IReputation`.
contract Reputation is IReputation, Wired {
    using SafeCast for uint256;

    uint256 public constant REJECTED_WEIGHT = 10;
    uint256 public constant MISSED_WEIGHT = 2;
    uint256 public constant PRIOR = 20;
    uint256 private constant BPS = 10_000;

    address private _batches;
    mapping(address operator => mapping(Role role => mapping(ModelId modelId => Record))) private _records;

    constructor(address wirer) Wired(wirer) {}

    /// @notice Names the contract that may record. Once.
    // `_wire` refuses zero.
    // slither-disable-next-line missing-zero-check
    function wire(address batches) external {
        address[] memory counterparts = new address[](1);
        counterparts[0] = batches;
        _wire(counterparts);
        _batches = batches;
    }

    /// @inheritdoc IReputation
    function record(
        address operator,
        Role role,
        ModelId modelId,
        BatchId batchId,
        uint64 accepted,
        uint64 rejected,
        uint64 missed
    ) external {
        _requireCaller(_batches);
        Record storage r = _records[operator][role][modelId];
        r.accepted += accepted;
        r.rejected += rejected;
        r.missed += missed;
        r.updatedAt = block.timestamp.toUint64();
        emit ReputationChanged(operator, modelId, batchId, role, r.accepted, r.rejected, r.missed, _score(r));
    }

    /// @inheritdoc IReputation
    function recordOf(address operator, Role role, ModelId modelId) external view returns (Record memory) {
        return _records[operator][role][modelId];
    }

    /// @inheritdoc IReputation
    function scoreBps(address operator, Role role, ModelId modelId) external view returns (uint256) {
        return _score(_records[operator][role][modelId]);
    }

    function _score(Record storage r) private view returns (uint256) {
        uint256 accepted = r.accepted;
        uint256 weighed = accepted + REJECTED_WEIGHT * r.rejected + MISSED_WEIGHT * r.missed + PRIOR;
        return (accepted * BPS) / weighed;
    }
}
