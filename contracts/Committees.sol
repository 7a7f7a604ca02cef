// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Wired} from "./Wired.sol";
import {ICalibration} from "./interfaces/ICalibration.sol";
import {ICommittees} from "./interfaces/ICommittees.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {SumTree} from "./libraries/SumTree.sol";
import {ModelId, Role} from "./types/Types.sol";

/// @title Pools of verifiers and the draw of three
/// @dev Documented in `ICommittees`.
contract Committees is ICommittees, Wired {
    using SumTree for SumTree.Tree;
    using SafeCast for uint256;

    uint256 public constant SEATS = 3;
    uint256 public constant MAX_TRIES = 64;
    /// @notice Stake that weighs 1. Weights are 64-bit, so stake up to 2^64 of these counts.
    uint256 public constant WEIGHT_UNIT_WEI = 1e15;

    IStaking private immutable STAKING;

    ICalibration private _calibration;
    address private _batches;
    mapping(ModelId modelId => SumTree.Tree) private _candidates;
    mapping(ModelId modelId => SumTree.Tree) private _calibrated;
    mapping(ModelId modelId => mapping(address verifier => bool)) private _nominated;

    constructor(IStaking staking, address wirer) Wired(wirer) {
        require(address(staking) != address(0), WiredZeroAddress());
        STAKING = staking;
    }

    /// @notice Names who nominates and admits, and who draws. Once.
    // `_wire` refuses zero.
    // slither-disable-next-line missing-zero-check
    function wire(ICalibration calibration, address batches) external {
        address[] memory counterparts = new address[](2);
        (counterparts[0], counterparts[1]) = (address(calibration), batches);
        _wire(counterparts);
        _calibration = calibration;
        _batches = batches;
    }

    /// @inheritdoc ICommittees
    function nominate(ModelId modelId, address verifier) external {
        _requireCaller(address(_calibration));
        _nominated[modelId][verifier] = true;
        _setWeights(modelId, verifier);
    }

    /// @inheritdoc ICommittees
    function admit(ModelId modelId, address verifier) external {
        _requireCaller(address(_calibration));
        _setWeights(modelId, verifier);
    }

    /// @inheritdoc ICommittees
    function refresh(ModelId modelId, address verifier) external {
        _setWeights(modelId, verifier);
    }

    /// @inheritdoc ICommittees
    function draw(ModelId modelId, bytes32 seed, address excluded, bool calibration)
        external
        returns (address[3] memory verifiers)
    {
        _requireCaller(_batches);
        // Four: whoever is being checked is excluded and may be one of them.
        bool fromCandidates = calibration && _calibrated[modelId].nonzero < SEATS + 1;
        SumTree.Tree storage pool = fromCandidates ? _candidates[modelId] : _calibrated[modelId];
        uint256 eligible = pool.nonzero - (pool.weightOf(excluded) > 0 ? 1 : 0);
        require(eligible >= SEATS, CommitteesTooFew(eligible, SEATS));
        uint256 seats = 0;
        for (uint256 k = 0; k < MAX_TRIES && seats < SEATS; ++k) {
            uint256 total = pool.total();
            if (total == 0) break;
            address picked = pool.pick(uint256(keccak256(abi.encode(seed, k))) % total);
            if (_weightOf(modelId, picked, !fromCandidates) == 0) {
                _setWeights(modelId, picked);
            } else if (picked != excluded && picked != verifiers[0] && picked != verifiers[1]) {
                verifiers[seats++] = picked;
            }
        }
        require(seats == SEATS, CommitteesTooFew(seats, SEATS));
    }

    /// @inheritdoc ICommittees
    function poolOf(ModelId modelId, bool calibrated)
        external
        view
        returns (address[] memory verifiers, uint64[] memory weights)
    {
        SumTree.Tree storage pool = calibrated ? _calibrated[modelId] : _candidates[modelId];
        verifiers = pool.members;
        weights = new uint64[](verifiers.length);
        for (uint256 i = 0; i < verifiers.length; ++i) {
            weights[i] = pool.weightAt(i);
        }
    }

    function _setWeights(ModelId modelId, address verifier) private {
        _setWeight(modelId, verifier, false);
        _setWeight(modelId, verifier, true);
    }

    function _setWeight(ModelId modelId, address verifier, bool calibrated) private {
        SumTree.Tree storage pool = calibrated ? _calibrated[modelId] : _candidates[modelId];
        uint64 weight = _weightOf(modelId, verifier, calibrated);
        if (weight == pool.weightOf(verifier)) return;
        pool.set(verifier, weight);
        emit VerifierWeightChanged(modelId, verifier, calibrated, weight);
    }

    /// @dev The weight that stake and calibration earn now; zero for who may not be drawn.
    // A draw tries a bounded number of times.
    // slither-disable-start calls-loop
    function _weightOf(ModelId modelId, address verifier, bool calibrated) private view returns (uint64) {
        uint256 active = STAKING.stakeOf(verifier).active;
        if (active < _calibration.minStakeOf(Role.Verifier)) return 0;
        bool eligible = calibrated
            ? _calibration.isCalibrated(verifier, Role.Verifier, modelId)
            : _nominated[modelId][verifier];
        return eligible ? (active / WEIGHT_UNIT_WEI).toUint64() : 0;
    }
    // slither-disable-end calls-loop
}
