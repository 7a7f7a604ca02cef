// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {IVerifierKeys} from "../../contracts/interfaces/IVerifierKeys.sol";
import {CertificateLib} from "../../contracts/libraries/CertificateLib.sol";
import {BatchId, Header, Role} from "../../contracts/types/Types.sol";
import {BlsSigner} from "./BlsSigner.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @notice Batches that their committee settles by signing the result.
contract BatchesSignedTest is World {
    uint256 private constant FEE = 0.03 ether;
    uint256 private constant WINDOW = 600;

    /// @dev All that `settleSigned` takes.
    struct Call {
        Header header;
        IStaking.Seat[] seats;
        uint256 epoch;
        uint256 accepted;
        uint256 rejected;
        bytes keys;
        bytes signature;
    }

    function setUp() external {
        _calibratedWorld();
        for (uint256 i = 0; i < verifiers; ++i) {
            bytes memory key = BlsSigner.publicKey(_secret(_verifier(i)));
            bytes memory proof = BlsSigner.prove(_secret(_verifier(i)), address(keys), _verifier(i));
            vm.prank(_verifier(i));
            keys.register(key, proof);
        }
    }

    function testSignaturesSettleABatchThatNobodyDrew() external {
        BatchId id = _anchor("root", 4);
        IStaking.Seat[] memory committee = _committee(id);
        Call memory c = _signed(id, committee, 13, 2);
        bytes32 seed = seeds.seedOf(batches.batchOf(id).clock, batches.fixedAt(id));
        vm.expectEmit(address(batches));
        emit IBatches.CommitteeDrawn(
            id, 0, _locked(committee), keccak256(abi.encode(seed, id, uint8(0))), block.timestamp
        );
        vm.expectEmit(address(batches));
        emit IBatches.BatchSettled(id, NODE, model, 13, 2, 0, true);
        _send(c);
        IBatches.Batch memory batch = batches.batchOf(id);
        Check.yes(batch.signed && batch.state == IBatches.State.Settled, "settled by signatures");
        Check.eq(batch.accepted, 13, "accepted");
        Check.eq(batch.rejected, 2, "rejected");
        Check.eq(batch.clock, block.timestamp, "since when");
        for (uint256 i = 0; i < 3; ++i) {
            (bool revealed, uint256 accepts, uint256 rejects) = batches.voteOf(id, 0, i);
            Check.yes(revealed && accepts == 13 && rejects == 2, "all voted so");
            Check.eq(staking.stakeOf(committee[i].verifier).locked, 60 ether, "who signs answers with its stake");
        }
        uint256 before = _owedByStaking();
        _finalizeSigned(id, _locked(committee));
        for (uint256 i = 0; i < 3; ++i) {
            Check.eq(staking.stakeOf(committee[i].verifier).locked, 0, "until it is final");
        }
        Check.eq(staking.stakeOf(NODE).active, STAKE - 1 ether, "the rejected leaf");
        Check.eq(_owedByStaking() + 1 ether - before, 4 * FEE, "the signers share the fee");
        Check.eq(token.balanceOf(address(staking)), _owedByStaking(), "to the wei");
    }

    function testSignaturesSettleABatchThatWasDrawn() external {
        BatchId id = _drawn("root", 2);
        IStaking.Seat[] memory committee = _seatsOf(id);
        _send(_signed(id, committee, 3, 0));
        Check.yes(batches.batchOf(id).signed, "signed");
        Check.eq(staking.stakeOf(committee[0].verifier).locked, 60 ether, "its seats stay locked");
        _finalize(id);
        Check.eq(staking.stakeOf(committee[0].verifier).locked, 0, "until it is final");
    }

    function testSignaturesSettleASecondRound() external {
        BatchId id = _drawn("root", 1);
        timestamp = batches.batchOf(id).clock + 1;
        vm.warp(timestamp);
        _settle(id);
        IStaking.Seat[] memory committee = _committee(id);
        _send(_signed(id, committee, 1, 0));
        Check.eq(batches.batchOf(id).round, 1, "the second committee");
        Check.eq(_state(id), uint256(IBatches.State.Settled), "settled");
    }

    function testAFullBatchCanBeSigned() external {
        BatchId id = _anchor("root", 256);
        _send(_signed(id, _committee(id), type(uint256).max, 0));
        Check.eq(batches.batchOf(id).accepted, type(uint256).max, "all");
    }

    function testAnAppealAgainstASignedResultReachesAllSigners() external {
        BatchId id = _anchor("root", 1);
        IStaking.Seat[] memory committee = _committee(id);
        _send(_signed(id, committee, 1, 0));
        committee = _locked(committee);
        uint256 before = staking.stakeOf(committee[1].verifier).active;
        vm.startPrank(address(appeals));
        finality.openAppeal(_headerOf(id), committee, 0);
        uint256 bounty = finality.concludeAppeal(_headerOf(id), committee, 0, IVerdicts.Verdict.Rejected);
        vm.stopPrank();
        Check.eq(bounty, 12.1 ether, "half of three fines, and of what the client leaves of the node's stake");
        Check.eq(before - staking.stakeOf(committee[1].verifier).active, 8 ether, "who signed answers for it");
        Check.eq(staking.stakeOf(NODE).active, STAKE - 1 ether, "and so does the node");
        _finalizeSigned(id, committee);
        Check.eq(token.balanceOf(address(staking)), _owedByStaking(), "to the wei");
    }

    function testAnotherEpochIsRefused() external {
        BatchId id = _anchor("root", 1);
        IStaking.Seat[] memory committee = _committee(id);
        uint256 epoch = batches.batchOf(id).clock / EPOCH_BLOCKS;
        for (uint256 i = 0; i < 2; ++i) {
            uint256 other = i == 0 ? epoch + 1 : epoch - 1;
            Call memory c = _signedFor(id, committee, other, 1, 0);
            _refused(abi.encodeWithSelector(IBatches.BatchesWrongEpoch.selector, other, epoch), c);
        }
    }

    function testTwoSignersAreTooFew() external {
        BatchId id = _anchor("root", 1);
        IStaking.Seat[] memory committee = _committee(id);
        Call memory c = _signed(id, committee, 1, 0);
        bytes32 digest = _digest(id, c.epoch, 1, 0);
        bytes memory first = BlsSigner.sign(_secret(committee[0].verifier), digest);
        c.signature = BlsSigner.add(first, BlsSigner.sign(_secret(committee[1].verifier), digest));
        _refused(abi.encodeWithSelector(IVerifierKeys.VerifierKeysNotSigned.selector, digest), c);
        // Nor do their keys alone do.
        uint256[] memory secrets = new uint256[](2);
        (secrets[0], secrets[1]) = (_secret(committee[0].verifier), _secret(committee[1].verifier));
        (c.keys, c.signature) = BlsSigner.signAll(secrets, digest);
        _refused(abi.encodeWithSelector(IVerifierKeys.VerifierKeysKeysLength.selector, 512, 768), c);
    }

    function testKeysInAnotherOrderAreRefused() external {
        BatchId id = _anchor("root", 1);
        IStaking.Seat[] memory committee = _committee(id);
        (committee[0], committee[1]) = (committee[1], committee[0]);
        Call memory c = _signed(id, committee, 1, 0);
        vm.expectPartialRevert(IVerifierKeys.VerifierKeysWrongKey.selector);
        _send(c);
    }

    function testWhoWasNotDrawnCannotSign() external {
        BatchId id = _anchor("root", 1);
        IStaking.Seat[] memory committee = _committee(id);
        for (uint256 i = 0; i < verifiers; ++i) {
            address other = _verifier(i);
            bool sits = other == committee[0].verifier || other == committee[1].verifier;
            if (!sits && other != committee[2].verifier) {
                committee[2].verifier = other;
                break;
            }
        }
        Call memory c = _signed(id, committee, 1, 0);
        vm.expectPartialRevert(IVerifierKeys.VerifierKeysWrongKey.selector);
        _send(c);
    }

    function testAnotherResultThanTheSignedIsRefused() external {
        BatchId id = _anchor("root", 2);
        Call memory c = _signed(id, _committee(id), 1, 2);
        (c.accepted, c.rejected) = (3, 0);
        _refused(
            abi.encodeWithSelector(IVerifierKeys.VerifierKeysNotSigned.selector, _digest(id, c.epoch, 3, 0)), c
        );
        // Nor do signatures on one batch settle another.
        BatchId next = _anchor("next", 2);
        IStaking.Seat[] memory committee = _committee(next);
        c = _signed(id, committee, 3, 0);
        c.epoch = batches.batchOf(next).clock / EPOCH_BLOCKS;
        c.header = _headerOf(next);
        _refused(
            abi.encodeWithSelector(IVerifierKeys.VerifierKeysNotSigned.selector, _digest(next, c.epoch, 3, 0)), c
        );
    }

    function testWordsThatMakeNoSenseAreRefused() external {
        BatchId id = _anchor("root", 2);
        IStaking.Seat[] memory committee = _committee(id);
        _refused(
            abi.encodeWithSelector(IBatches.BatchesResultContradicts.selector, 1), _signed(id, committee, 3, 1)
        );
        bytes4 range = IBatches.BatchesVoteOutOfRange.selector;
        _refused(abi.encodeWithSelector(range, 4, 2), _signed(id, committee, 7, 0));
        _refused(abi.encodeWithSelector(range, 1 << 255, 2), _signed(id, committee, 3, 1 << 255));
    }

    function testCalibrationsCannotBeSigned() external {
        BatchId id = _answer(_request(NODE, Role.Node), "calibration");
        _refused(
            abi.encodeWithSelector(IBatches.BatchesNotForCalibration.selector, id), _signed(id, _seatsOf(id), 3, 0)
        );
    }

    function testSignaturesSettleNothingOnceAVoteIsCommitted() external {
        BatchId id = _drawn("root", 1);
        Call memory c = _signed(id, _seatsOf(id), 1, 0);
        _commit(id, 1, 1, 0);
        _refused(abi.encodeWithSelector(IBatches.BatchesVotesExist.selector, id), c);
    }

    function testSignaturesNeedTheSeedBlocksHash() external {
        BatchId id = _anchor("root", 1);
        uint256 seedBlock = batches.batchOf(id).clock;
        Call memory c = _signed(id, _seats(_verifier(0), _verifier(1), _verifier(2)), 1, 0);
        _reach(seedBlock);
        _refused(abi.encodeWithSelector(IBatches.BatchesSeedBlockNotReached.selector, seedBlock, seedBlock), c);
        IStaking.Seat[] memory committee = _committee(id);
        c = _signed(id, committee, 1, 0);
        _reach(seedBlock + EPOCH_BLOCKS + 1);
        _refused(abi.encodeWithSelector(IBatches.BatchesSeedExpired.selector, seedBlock + EPOCH_BLOCKS), c);
    }

    function testTheLastBlockOfTheWindowIsInTime() external {
        BatchId id = _anchor("root", 1);
        Call memory c = _signed(id, _committee(id), 1, 0);
        _reach(batches.batchOf(id).clock + EPOCH_BLOCKS);
        _send(c);
        Check.eq(_state(id), uint256(IBatches.State.Settled), "settled");
    }

    function testABatchIsSettledOnce() external {
        BatchId id = _anchor("root", 1);
        Call memory c = _signed(id, _committee(id), 1, 0);
        _send(c);
        bytes4 wrong = IBatches.BatchesWrongState.selector;
        _refused(abi.encodeWithSelector(wrong, id, IBatches.State.Settled, IBatches.State.Anchored), c);
        vm.expectRevert(abi.encodeWithSelector(wrong, id, IBatches.State.Settled, IBatches.State.Anchored));
        batches.draw(_headerOf(id));
    }

    /// The committee that a draw would name.
    function _committee(BatchId id) private returns (IStaking.Seat[] memory) {
        address[] memory drawn = _named(id);
        return _seats(drawn[0], drawn[1], drawn[2]);
    }

    function _seats(address a, address b, address c) private pure returns (IStaking.Seat[] memory seats) {
        seats = new IStaking.Seat[](3);
        (seats[0].verifier, seats[1].verifier, seats[2].verifier) = (a, b, c);
    }

    function _signed(BatchId id, IStaking.Seat[] memory seats, uint256 accepted, uint256 rejected)
        private
        view
        returns (Call memory)
    {
        return _signedFor(id, seats, batches.batchOf(id).clock / EPOCH_BLOCKS, accepted, rejected);
    }

    function _signedFor(
        BatchId id,
        IStaking.Seat[] memory seats,
        uint256 epoch,
        uint256 accepted,
        uint256 rejected
    ) private view returns (Call memory c) {
        uint256[] memory secrets = new uint256[](3);
        for (uint256 i = 0; i < 3; ++i) {
            secrets[i] = _secret(seats[i].verifier);
        }
        c.header = _headerOf(id);
        c.seats = seats;
        (c.epoch, c.accepted, c.rejected) = (epoch, accepted, rejected);
        (c.keys, c.signature) = BlsSigner.signAll(secrets, _digest(id, epoch, accepted, rejected));
    }

    function _digest(BatchId id, uint256 epoch, uint256 accepted, uint256 rejected) private view returns (bytes32) {
        return CertificateLib.resultDigest(
            block.chainid, address(batches), epoch, BatchId.unwrap(id), accepted, rejected
        );
    }

    function _send(Call memory c) private {
        batches.settleSigned(c.header, c.seats, c.epoch, c.accepted, c.rejected, c.keys, c.signature);
    }

    function _refused(bytes memory error_, Call memory c) private {
        vm.expectRevert(error_);
        _send(c);
    }

    /// The seats as `CommitteeDrawn` tells.
    function _locked(IStaking.Seat[] memory committee) private pure returns (IStaking.Seat[] memory) {
        for (uint256 i = 0; i < 3; ++i) {
            committee[i].locked = 60 ether;
        }
        return committee;
    }

    function _finalizeSigned(BatchId id, IStaking.Seat[] memory committee) private {
        Header[] memory headers = new Header[](1);
        IStaking.Seat[][] memory seats = new IStaking.Seat[][](1);
        (headers[0], seats[0]) = (_headerOf(id), committee);
        _wait(WINDOW + 1);
        finality.finalize(headers, seats);
    }

    function _secret(address verifier) private pure returns (uint256) {
        return uint160(verifier);
    }
}
