// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {CertificateLib} from "../../contracts/libraries/CertificateLib.sol";
import {BatchId, Header} from "../../contracts/types/Types.sol";
import {BlsSigner} from "./BlsSigner.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice What a batch costs, transaction by transaction, for operators that have worked before.
/// `make gas` writes the numbers to snapshots/, adds them up and explains them in docs/gas.md.
contract GasTest is World {
    uint256 private constant GROUP = 16; // batches that one `finalize` takes

    function setUp() external {
        _calibratedWorld(10);
        // Everybody has a record, a credit and a reward: from here on costs repeat.
        for (uint256 i = 0; i < 24; ++i) {
            _finalize(_settled(_root(keccak256(abi.encode("warm", i)), 200), 1));
        }
        for (uint256 i = 0; i < verifiers; ++i) {
            address verifier = _verifier(i);
            bytes memory proof = BlsSigner.prove(_secret(verifier), address(keys), verifier);
            bytes memory key = BlsSigner.publicKey(_secret(verifier));
            vm.prank(verifier);
            keys.register(key, proof);
        }
    }

    function testAFullBatch() external {
        _life("full batch", 256);
    }

    function testASingleAnswer() external {
        _life("single answer", 1);
    }

    function testAFullBatchSettledBySignatures() external {
        _signedLife("full batch signed", 256);
    }

    function testASingleAnswerSettledBySignatures() external {
        _signedLife("single answer signed", 1);
    }

    function _life(string memory group, uint256 leaves) private {
        uint256 all = _all(leaves);
        BatchId id = _anchor(_root(keccak256("root"), 200 * leaves), keccak256("canary"), leaves);
        vm.snapshotGasLastCall(group, "anchor");
        _draw(id);
        vm.snapshotGasLastCall(group, "draw");
        string[3] memory names = ["1", "2", "3"];
        for (uint256 i = 0; i < 3; ++i) {
            _commit(id, i, all, 0);
            vm.snapshotGasLastCall(group, string.concat("commit ", names[i]));
        }
        for (uint256 i = 0; i < 3; ++i) {
            _reveal(id, i, all, 0);
            vm.snapshotGasLastCall(group, string.concat("reveal ", names[i]));
        }
        Check.eq(batches.batchOf(id).accepted, all, "settled");
        _payout(group, id, _seatsOf(id), false);
    }

    function _signedLife(string memory group, uint256 leaves) private {
        BatchId id = _anchor(_root(keccak256("root"), 200 * leaves), keccak256("canary"), leaves);
        vm.snapshotGasLastCall(group, "anchor");
        IStaking.Seat[] memory seats = _settleSigned(id, leaves);
        vm.snapshotGasLastCall(group, "settle signed");
        Check.eq(batches.batchOf(id).accepted, _all(leaves), "settled");
        _payout(group, id, seats, true);
    }

    /// What `finalize` costs for this batch alone, and for sixteen in one call.
    function _payout(string memory group, BatchId id, IStaking.Seat[] memory seats, bool signed) private {
        vm.prank(NODE);
        staking.stake(STAKE);
        Header[] memory headers = new Header[](GROUP);
        IStaking.Seat[][] memory drawn = new IStaking.Seat[][](GROUP);
        for (uint256 i = 0; i < GROUP; ++i) {
            // Stake for full batches would have to be locked for all of them at once; their number of leaves does not
            // change the cost.
            BatchId other = _anchor(_root(keccak256(abi.encode(group, i)), 800), 4);
            if (signed) {
                drawn[i] = _settleSigned(other, 4);
            } else {
                _draw(other);
                _vote(other, 15, 0, 15, 0, 15, 0);
                drawn[i] = _seatsOf(other);
            }
            headers[i] = _headerOf(other);
        }
        _wait(_values().appealWindowSeconds + 1);
        finality.finalize(headers, drawn);
        vm.snapshotGasLastCall(group, "finalize sixteen batches");
        Check.eq(uint256(batches.batchOf(id).state), uint256(IBatches.State.Settled), "not among them");
        (headers, drawn) = (new Header[](1), new IStaking.Seat[][](1));
        (headers[0], drawn[0]) = (_headerOf(id), seats);
        finality.finalize(headers, drawn);
        vm.snapshotGasLastCall(group, "finalize one batch");
        Check.eq(uint256(batches.batchOf(id).state), uint256(IBatches.State.Final), "final");
    }

    /// All three accept all, by one signature; the seats are those that a draw would have named, and locked.
    function _settleSigned(BatchId id, uint256 leaves) private returns (IStaking.Seat[] memory seats) {
        uint256 epoch = committees.epochAt(batches.batchOf(id).clock);
        seats = _seatsOf(_named(id));
        (bytes memory publicKeys, bytes memory signature) = _signed(id, seats, epoch, _all(leaves));
        IStaking.Seat[] memory none = new IStaking.Seat[](0);
        batches.settleSigned(_headerOf(id), none, epoch, _all(leaves), 0, publicKeys, signature);
        for (uint256 i = 0; i < 3; ++i) {
            seats[i].locked = uint96(_values().seatStakeWei);
        }
    }

    function _signed(BatchId id, IStaking.Seat[] memory seats, uint256 epoch, uint256 accepts)
        private
        view
        returns (bytes memory publicKeys, bytes memory signature)
    {
        uint256[] memory secrets = new uint256[](seats.length);
        for (uint256 i = 0; i < seats.length; ++i) {
            secrets[i] = _secret(seats[i].verifier);
        }
        bytes32 digest =
            CertificateLib.resultDigest(block.chainid, address(batches), epoch, BatchId.unwrap(id), accepts, 0);
        return BlsSigner.signAll(secrets, digest);
    }

    function _seatsOf(address[] memory drawn) private pure returns (IStaking.Seat[] memory seats) {
        seats = new IStaking.Seat[](drawn.length);
        for (uint256 i = 0; i < drawn.length; ++i) {
            seats[i].verifier = drawn[i];
        }
    }

    function _all(uint256 leaves) private pure returns (uint256) {
        return leaves == 256 ? type(uint256).max : (1 << leaves) - 1;
    }

    function _secret(address verifier) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(verifier))) >> 8;
    }
}
