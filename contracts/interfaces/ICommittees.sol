// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ModelId} from "../types/Types.sol";

/// @title Pools of verifiers and the draw of three
/// @notice Two pools a model: candidates (staked, asked for calibration) and calibrated verifiers. Batches are drawn
/// from the calibrated. While fewer than four are calibrated, calibration batches, and only these, are drawn from
/// the candidates, who so check one another.
interface ICommittees {
    event VerifierWeightChanged(ModelId indexed modelId, address indexed verifier, bool calibrated, uint256 weight);

    error CommitteesTooFew(uint256 eligible, uint256 required);

    /// @notice Puts a staked verifier into the model's candidates. Only `Calibration`.
    function nominate(ModelId modelId, address verifier) external;

    /// @notice Puts a verifier into the model's calibrated pool. Only `Calibration`.
    function admit(ModelId modelId, address verifier) external;

    /// @notice Sets a verifier's weights from its stake and calibration as they are now. Anyone may call;
    /// `Batches` does after every slash.
    function refresh(ModelId modelId, address verifier) external;

    /// @notice Draws three distinct verifiers other than `excluded`, weighted by stake. Only `Batches`.
    /// The k-th try picks position uint256(keccak256(abi.encode(seed, k))) % totalWeight of the pool's sum tree;
    /// a try that hits `excluded`, a verifier already drawn or one whose calibration or stake lapsed moves on to k + 1.
    function draw(ModelId modelId, bytes32 seed, address excluded, bool calibration)
        external
        returns (address[3] memory verifiers);

    /// @notice Members and weights of a pool in tree order, for reproducing a draw off-chain.
    function poolOf(ModelId modelId, bool calibrated)
        external
        view
        returns (address[] memory verifiers, uint64[] memory weights);
}
