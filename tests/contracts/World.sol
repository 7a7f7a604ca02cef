// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Batches} from "../../contracts/Batches.sol";
import {Calibration} from "../../contracts/Calibration.sol";
import {Committees} from "../../contracts/Committees.sol";
import {ModelRegistry} from "../../contracts/ModelRegistry.sol";
import {Payments} from "../../contracts/Payments.sol";
import {Reputation} from "../../contracts/Reputation.sol";
import {Staking} from "../../contracts/Staking.sol";
import {TrineToken} from "../../contracts/TrineToken.sol";
import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IStakeToken} from "../../contracts/interfaces/IStakeToken.sol";
import {BatchId, ChallengeId, ModelId, Role} from "../../contracts/types/Types.sol";
import {Check, vm} from "./Vm.sol";

/// @notice All contracts, wired, with a model, funded accounts and helpers that walk a batch through its life.
abstract contract World {
    address internal constant NODE = address(0xA0);
    address internal constant CLIENT = address(0xC1);
    uint256 internal constant VERIFIERS = 4;
    uint256 internal constant STAKE = 1000 ether;
    bytes32 internal constant SALT = keccak256("salt");
    uint256 internal constant START = 1_000_000;

    TrineToken internal token;
    Staking internal staking;
    ModelRegistry internal registry;
    Reputation internal reputation;
    Payments internal payments;
    Committees internal committees;
    Calibration internal calibration;
    Batches internal batches;
    ModelId internal model;

    uint256 private _block = 1000;

    function _deploy() internal {
        vm.warp(START);
        vm.roll(_block);
        token = new TrineToken(address(this), 1_000_000 ether);
        IStakeToken stakeToken = IStakeToken(address(token));
        staking = new Staking(stakeToken, 1 days, address(this));
        registry = new ModelRegistry(address(this), address(0));
        reputation = new Reputation(address(this));
        payments = new Payments(IERC20(address(token)), 1 days, address(this));
        committees = new Committees(staking, address(this));
        calibration = new Calibration(
            staking,
            registry,
            Calibration.Parameters({
                minNodeStakeWei: 100 ether,
                minVerifierStakeWei: 200 ether,
                validitySeconds: 30 days,
                answerSeconds: 600,
                promptsPerChallenge: 2,
                seedDelayBlocks: 2
            }),
            address(this)
        );
        batches = new Batches(
            Batches.Contracts(stakeToken, staking, registry, calibration, committees, reputation, payments),
            _batchParameters()
        );
        staking.wire(address(batches));
        reputation.wire(address(batches));
        payments.wire(batches);
        committees.wire(calibration, address(batches));
        calibration.wire(committees, address(batches));
        model = registry.register("tiny", "file:/tiny", "manifest", "policy", "prompts", 64, 1 gwei);
    }

    function _batchParameters() internal pure returns (IBatches.Parameters memory) {
        return IBatches.Parameters({
            stakePerLeafWei: 1 ether,
            refundPerLeafWei: 0.4 ether,
            verifierFeePerLeafWei: 0.03 ether,
            seatStakeWei: 60 ether,
            wrongVotePenaltyWei: 20 ether,
            noRevealPenaltyWei: 25 ether,
            noCommitPenaltyWei: 10 ether,
            drawDelayBlocks: 2,
            commitSeconds: 120,
            revealSeconds: 60,
            maxRounds: 2
        });
    }

    /// Deploys, stakes a node and four verifiers and calibrates them all through the contracts.
    function _calibratedWorld() internal {
        _deploy();
        _fund(NODE);
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            _fund(_verifier(i));
        }
        ChallengeId[] memory challenges = new ChallengeId[](VERIFIERS + 1);
        for (uint256 i = 0; i < VERIFIERS; ++i) {
            challenges[i] = _request(_verifier(i), Role.Verifier);
        }
        challenges[VERIFIERS] = _request(NODE, Role.Node);
        for (uint256 i = 0; i <= VERIFIERS; ++i) {
            BatchId id = _answer(challenges[i], keccak256(abi.encode("calibration", i)));
            _vote(id, 3, 0, 3, 0, 3, 0);
            batches.settle(id);
        }
    }

    function _verifier(uint256 i) internal pure returns (address) {
        return address(uint160(0xB0 + i));
    }

    function _fund(address account) internal {
        require(token.transfer(account, 3 * STAKE));
        vm.startPrank(account);
        token.approve(address(staking), type(uint256).max);
        token.approve(address(batches), type(uint256).max);
        token.approve(address(payments), type(uint256).max);
        staking.stake(STAKE);
        vm.stopPrank();
    }

    function _request(address operator, Role role) internal returns (ChallengeId id) {
        vm.prank(operator);
        id = calibration.request(model, role);
    }

    function _answer(ChallengeId challenge, bytes32 root) internal returns (BatchId id) {
        _mine(3);
        if (calibration.challengeOf(challenge).seed == 0) calibration.seal(challenge);
        address operator = calibration.challengeOf(challenge).operator;
        vm.prank(operator);
        id = batches.anchorCalibration(challenge, root);
        _draw(id);
    }

    function _anchor(bytes32 root, uint256 leaves) internal returns (BatchId id) {
        vm.prank(NODE);
        id = batches.anchor(model, root, leaves);
    }

    function _drawn(bytes32 root, uint256 leaves) internal returns (BatchId id) {
        id = _anchor(root, leaves);
        _draw(id);
    }

    function _draw(BatchId id) internal {
        uint256 seedBlock = batches.batchOf(id).seedBlock;
        _block = seedBlock + 1;
        vm.roll(_block);
        vm.setBlockhash(seedBlock, keccak256(abi.encode("block", seedBlock)));
        batches.draw(id);
    }

    function _mine(uint256 blocks) internal {
        _block += blocks;
        vm.roll(_block);
        for (uint256 i = 1; i <= blocks; ++i) {
            vm.setBlockhash(_block - i, keccak256(abi.encode("block", _block - i)));
        }
    }

    function _vote(BatchId id, uint256 a0, uint256 r0, uint256 a1, uint256 r1, uint256 a2, uint256 r2) internal {
        _commit(id, 0, a0, r0);
        _commit(id, 1, a1, r1);
        _commit(id, 2, a2, r2);
        _reveal(id, 0, a0, r0);
        _reveal(id, 1, a1, r1);
        _reveal(id, 2, a2, r2);
    }

    function _commit(BatchId id, uint256 seat, uint256 accepts, uint256 rejects) internal {
        address verifier = batches.seatsOf(id)[seat].verifier;
        bytes32 commitment = _commitment(id, verifier, accepts, rejects);
        vm.prank(verifier);
        batches.commit(id, commitment);
    }

    function _reveal(BatchId id, uint256 seat, uint256 accepts, uint256 rejects) internal {
        address verifier = batches.seatsOf(id)[seat].verifier;
        vm.prank(verifier);
        batches.reveal(id, accepts, rejects, SALT);
    }

    function _commitment(BatchId id, address verifier, uint256 accepts, uint256 rejects)
        internal
        view
        returns (bytes32)
    {
        uint8 round = batches.batchOf(id).round;
        return keccak256(
            abi.encode(block.chainid, address(batches), id, round, verifier, accepts, rejects, SALT)
        );
    }

    function _state(BatchId id) internal view returns (uint256) {
        return uint256(batches.batchOf(id).state);
    }
}
