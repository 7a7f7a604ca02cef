// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAppeals} from "../../contracts/interfaces/IAppeals.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {BatchId} from "../../contracts/types/Types.sol";
import {Check, Vm, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice A world with enough verifiers for two appeals of a leaf, and helpers that walk an appeal through its life.
abstract contract AppealWorld is World {
    IVerdicts.Verdict internal constant ACCEPTED = IVerdicts.Verdict.Accepted;
    IVerdicts.Verdict internal constant REJECTED = IVerdicts.Verdict.Rejected;
    IVerdicts.Verdict internal constant INCONCLUSIVE = IVerdicts.Verdict.Inconclusive;
    IVerdicts.Verdict internal constant UNAVAILABLE = IVerdicts.Verdict.Unavailable;
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B);
    uint256 internal constant BOND_1 = 28 ether;
    uint256 internal constant BOND_2 = 60 ether;

    mapping(BatchId id => mapping(uint256 leaf => mapping(uint256 level => IStaking.Seat[]))) private _juries;
    mapping(BatchId id => mapping(uint256 leaf => uint256)) private _levels; // drawn last

    function _appealWorld() internal {
        _calibratedWorld(30);
        _fund(ALICE);
        _fund(BOB);
    }

    function _appeal(address who, BatchId id, uint256 leaf, IVerdicts.Verdict claim) internal {
        vm.prank(who);
        appeals.appeal(_headerOf(id), _seatsOf(id), leaf, claim);
    }

    function _appealAgain(address who, BatchId id, uint256 leaf, IVerdicts.Verdict claim) internal {
        vm.prank(who);
        appeals.appealAgain(id, leaf, claim);
    }

    function _drawAppeal(BatchId id, uint256 leaf) internal {
        IAppeals.Case memory appealed = appeals.caseOf(id, leaf);
        _reach(appealed.clock + 1);
        _showSeed(appealed.clock, appealed.fixedAt);
        uint256 level = appeals.caseOf(id, leaf).level;
        _levels[id][leaf] = level;
        vm.recordLogs();
        appeals.draw(_headerOf(id), leaf, _judges(id, leaf, level));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] != IAppeals.AppealDrawn.selector) continue;
            (,, IStaking.Seat[] memory seats,,) =
                abi.decode(logs[i].data, (uint256, uint256, IStaking.Seat[], bytes32, uint256));
            delete _juries[id][leaf][level];
            for (uint256 k = 0; k < seats.length; ++k) {
                _juries[id][leaf][level].push(seats[k]);
            }
        }
    }

    /// The batch's seats and those of the levels below `level`.
    function _judges(BatchId id, uint256 leaf, uint256 level) internal view returns (IStaking.Seat[][] memory judges) {
        judges = new IStaking.Seat[][](level);
        judges[0] = _seatsOf(id);
        for (uint256 i = 1; i < level; ++i) {
            judges[i] = _juries[id][leaf][i];
        }
    }

    /// The seats drawn last; reads no contract, so that a revert can be expected of what follows.
    function _jury(BatchId id, uint256 leaf) internal view returns (IStaking.Seat[] memory) {
        return _juries[id][leaf][_levels[id][leaf]];
    }

    function _juror(BatchId id, uint256 leaf, uint256 seat) internal view returns (address) {
        return _jury(id, leaf)[seat].verifier;
    }

    function _commitAppeal(BatchId id, uint256 leaf, uint256 seat, IVerdicts.Verdict vote) internal {
        IStaking.Seat[] memory seats = _jury(id, leaf);
        bytes32 commitment = _appealCommitment(id, leaf, seats[seat].verifier, vote);
        vm.prank(seats[seat].verifier);
        appeals.commit(id, leaf, seats, seat, commitment);
    }

    function _revealAppeal(BatchId id, uint256 leaf, uint256 seat, IVerdicts.Verdict vote) internal {
        IStaking.Seat[] memory seats = _jury(id, leaf);
        vm.prank(seats[seat].verifier);
        appeals.reveal(id, leaf, seats, seat, vote, SALT);
    }

    /// All commit and reveal: the first `accepts` seats accept, the next `rejects` reject, the rest cannot tell.
    function _voteAppeal(BatchId id, uint256 leaf, uint256 accepts, uint256 rejects) internal {
        uint256 seats = _jury(id, leaf).length;
        for (uint256 i = 0; i < seats; ++i) {
            _commitAppeal(id, leaf, i, _voteOf(i, accepts, rejects));
        }
        for (uint256 i = 0; i < seats; ++i) {
            _revealAppeal(id, leaf, i, _voteOf(i, accepts, rejects));
        }
    }

    /// All of the jury say that they were shown nothing.
    function _hideFrom(BatchId id, uint256 leaf) internal {
        uint256 seats = _jury(id, leaf).length;
        for (uint256 i = 0; i < seats; ++i) {
            _commitAppeal(id, leaf, i, UNAVAILABLE);
        }
        for (uint256 i = 0; i < seats; ++i) {
            _revealAppeal(id, leaf, i, UNAVAILABLE);
        }
    }

    /// Draws, votes and resolves.
    function _hear(BatchId id, uint256 leaf, uint256 accepts, uint256 rejects) internal {
        _drawAppeal(id, leaf);
        _voteAppeal(id, leaf, accepts, rejects);
        _resolve(id, leaf);
    }

    function _resolve(BatchId id, uint256 leaf) internal {
        appeals.resolve(_headerOf(id), leaf, _jury(id, leaf));
    }

    /// Waits until the time to appeal again is over and concludes.
    function _conclude(BatchId id, uint256 leaf) internal {
        _wait(_values().appealWindowSeconds + 1);
        _concludeNow(id, leaf);
    }

    function _concludeNow(BatchId id, uint256 leaf) internal {
        appeals.conclude(_headerOf(id), leaf, _judges(id, leaf, appeals.caseOf(id, leaf).level + 1));
    }

    function _voteOf(uint256 seat, uint256 accepts, uint256 rejects) internal pure returns (IVerdicts.Verdict) {
        if (seat < accepts) return ACCEPTED;
        return seat < accepts + rejects ? REJECTED : INCONCLUSIVE;
    }

    function _appealCommitment(BatchId id, uint256 leaf, address verifier, IVerdicts.Verdict vote)
        internal
        view
        returns (bytes32)
    {
        IAppeals.Case memory case_ = appeals.caseOf(id, leaf);
        uint256 round = case_.levels[case_.level - 1].round;
        return keccak256(
            abi.encode(block.chainid, address(appeals), id, leaf, case_.level, round, verifier, vote, SALT)
        );
    }

    function _verdictOf(BatchId id, uint256 leaf, IVerdicts.Verdict verdict, bool isFinal) internal view {
        (IVerdicts.Verdict actual, bool actuallyFinal) = finality.verdictOf(id, leaf);
        Check.eq(uint256(actual), uint256(verdict), "verdict");
        Check.yes(actuallyFinal == isFinal, "final");
    }
}
