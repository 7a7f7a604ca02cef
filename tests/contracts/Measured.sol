// SPDX-License-Identifier: MIT
// Contracts of the tests that a measured call runs or goes through. They are compiled as what is deployed
// (hardhat.config.js), and tests create them with `Built`, so what is measured does not depend on how tests are compiled.
pragma solidity 0.8.37;

import {ICertificateVerifier} from "../../contracts/interfaces/ICertificateVerifier.sol";
import {IReputation} from "../../contracts/interfaces/IReputation.sol";
import {IRequests} from "../../contracts/interfaces/IRequests.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {Bls12381} from "../../contracts/libraries/Bls12381.sol";
import {Decay} from "../../contracts/libraries/Decay.sol";
import {EpochTree} from "../../contracts/libraries/EpochTree.sol";
import {BatchId, ModelId, OUTCOME, Role} from "../../contracts/types/Types.sol";
import {Consumer} from "./Consumer.sol";

/// @notice A tree that can be filled at once, and what its functions cost. Every call is a transaction of its own
/// (`isolate`), so storage is cold.
contract MeasuredTree {
    using EpochTree for EpochTree.Tree;
    using EpochTree for EpochTree.Snapshot;

    EpochTree.Tree private _tree;

    /// Writes the words of one level for `members` members of weight 1 each, from node `first` up to `last`.
    function fill(uint256 members, uint256 level, uint256 first, uint256 last, uint256 from) external {
        uint256 size = 7 ** level;
        for (uint256 node = first; node < last; ++node) {
            uint256 word = 0;
            for (uint256 slot = 0; slot < 7; ++slot) {
                uint256 start = (node * 7 + slot) * size;
                if (start >= members) break;
                uint256 weight = members - start < size ? members - start : size;
                word = EpochTree.put(word, slot, 0, weight);
            }
            _tree.nodes[(level << 248) | (node << 2)] = EpochTree.stamp(word, from);
        }
    }

    function finish(uint256 members, uint256 depth, uint256 from) external {
        _tree.roots = (depth << 64) | (members << 32) | from;
    }

    function set(uint256 position, uint256 weight, uint256 epoch) external returns (uint256 gas) {
        gas = gasleft();
        _tree.set(position, weight, epoch);
        gas -= gasleft();
    }

    function pickThree(uint256 epoch, uint256[3] calldata targets) external view returns (uint256 gas) {
        gas = gasleft();
        EpochTree.Snapshot memory snapshot = _tree.asOf(epoch);
        uint256 positions = _tree.pick(snapshot, targets[0]);
        positions += _tree.pick(snapshot, targets[1]);
        positions += _tree.pick(snapshot, targets[2]);
        gas -= gasleft();
        require(positions > 0);
    }

    function sum(uint256 epoch) external view returns (uint256) {
        return _tree.asOf(epoch).total();
    }
}

/// @notice Measures what a check costs besides the transaction around it.
contract Checker {
    function verify(bytes32 message, bytes calldata keys, bytes calldata signature)
        external
        view
        returns (bool valid, uint256 gasUsed)
    {
        gasUsed = gasleft();
        valid = Bls12381.verify(message, keys, signature);
        gasUsed -= gasleft();
    }

    function hashToG1(bytes calldata message, bytes calldata tag) external view returns (bytes memory) {
        return Bls12381.hashToG1(message, tag);
    }

    function aggregate(bytes calldata keys) external view returns (bytes memory) {
        return Bls12381.aggregate(keys);
    }
}

/// @notice What Committees asks of stake, calibration and reputation, set by hand to any value.
contract Standing {
    uint256 private constant MIN_STAKE_WEI = 200 ether;

    mapping(address operator => IStaking.Stake) private _stakes;
    mapping(address operator => uint256) private _validUntil;
    mapping(address operator => uint256) private _scores;

    function set(address operator, uint256 activeWei, bool calibrated, uint256 scoreBps_) external {
        setUntil(operator, activeWei, calibrated ? type(uint32).max : 0, scoreBps_);
    }

    function setUntil(address operator, uint256 activeWei, uint256 until, uint256 scoreBps_) public {
        (_stakes[operator].active, _stakes[operator].own) = (uint128(activeWei), uint128(activeWei));
        _validUntil[operator] = until;
        _scores[operator] = scoreBps_;
    }

    function unbondingDelay() external pure returns (uint256) {
        return 30 days;
    }

    function stakeOf(address operator) external view returns (IStaking.Stake memory) {
        return _stakes[operator];
    }

    function validUntil(address operator, Role role, ModelId) external view returns (uint256) {
        return role == Role.Verifier ? _validUntil[operator] : 0;
    }

    function minStakeOf(Role role) external pure returns (uint256) {
        return role == Role.Verifier ? MIN_STAKE_WEI : type(uint256).max;
    }

    function scoreBps(address operator, Role role, ModelId) external view returns (uint256) {
        return role == Role.Verifier ? _scores[operator] : 0;
    }
}

/// @notice A transaction that only checks.
contract Relay {
    ICertificateVerifier private immutable VERIFIER;

    event Checked(bytes32 batchId);

    constructor(ICertificateVerifier verifier) {
        VERIFIER = verifier;
    }

    function relay(ICertificateVerifier.Certificate calldata certificate) external {
        (bytes32 batchId,,) = VERIFIER.check(certificate);
        emit Checked(batchId);
    }
}

/// @notice Settles as `Batches` does, within one transaction: the contract is warm, the record is not.
contract MeasuredSettlement {
    ModelId private constant MODEL = ModelId.wrap("model");
    BatchId private constant BATCH = BatchId.wrap("batch");

    function settle(IReputation reputation) external returns (uint256 spent, uint256 spentOnMany) {
        reputation.halfLifeSeconds();
        spent = gasleft();
        reputation.record(address(0xA0), Role.Node, MODEL, BATCH, 255 * OUTCOME, OUTCOME, 0);
        spent -= gasleft();
        IReputation.Work[] memory works = new IReputation.Work[](4);
        for (uint160 i = 0; i < 4; ++i) {
            works[i] = IReputation.Work(address(0xB0 + i), i == 0 ? Role.Node : Role.Verifier, OUTCOME, OUTCOME, OUTCOME);
        }
        spentOnMany = gasleft();
        reputation.recordMany(MODEL, BATCH, works);
        spentOnMany -= gasleft();
    }

    function decay(uint256 value, uint256 elapsed, uint64 halfLife)
        external
        view
        returns (uint256 left, uint256 spent)
    {
        spent = gasleft();
        left = Decay.decay(value, elapsed, halfLife);
        spent -= gasleft();
    }
}

/// @notice Notes how much gas it got.
contract MeasuringConsumer is Consumer {
    uint256 public got;

    constructor(IRequests requests) Consumer(requests) {}

    function onTrineAnswer(bytes32, bytes calldata, bytes32, uint256) external {
        got = gasleft();
    }
}
