// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BlockHeader} from "@openzeppelin/contracts/utils/BlockHeader.sol";

import {DrandSeeds} from "../../contracts/DrandSeeds.sol";
import {IAppeals} from "../../contracts/interfaces/IAppeals.sol";
import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {IParameters} from "../../contracts/interfaces/IParameters.sol";
import {ISeeds} from "../../contracts/interfaces/ISeeds.sol";
import {IStaking} from "../../contracts/interfaces/IStaking.sol";
import {Bls12381} from "../../contracts/libraries/Bls12381.sol";
import {BatchId, Header} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {BlsSigner} from "./BlsSigner.sol";
import {Built} from "./Built.sol";
import {SeedBlock} from "./SeedBlock.sol";
import {Check, Vm, vm} from "./Vm.sol";
import {World} from "./World.sol";

contract RandaoSeedsTest is World {
    uint256 private constant KNOWN_BLOCKHASHES = 256;

    function setUp() external {
        _calibratedWorld();
    }

    function testASeedIsTheRandaoOfTheBlock() external {
        _mine(3);
        uint256 number = blockNumber - 1;
        bytes32 expected = SeedBlock.randao(number) >> 40;
        _isState(number, ISeeds.State.Recordable);
        vm.expectEmit(address(seeds));
        emit ISeeds.SeedRecorded(number, expected);
        seeds.record(SeedBlock.header(number));
        Check.eq(seeds.seedOf(number, 0), expected, "216 bits");
        _isState(number, ISeeds.State.Recorded);
        seeds.record(SeedBlock.header(number)); // changes nothing
        Check.eq(seeds.source(), "randao", "source");
        Check.yes(seeds.wasShown(number, 0, number + 1), "a block always has a header");
    }

    function testTheHeaderIsReadAsOpenZeppelinReadsIt() external pure {
        bytes memory header = SeedBlock.header(1700);
        Check.eq(BlockHeader.getPrevRandao(header), SeedBlock.randao(1700), "randao");
        Check.eq(BlockHeader.getNumber(header), 1700, "number");
    }

    function testAttackABuilderThatGrindsExtraDataDoesNotChangeWhoIsDrawn() external {
        BatchId id = _anchor("root", 1);
        uint256 seedBlock = batches.batchOf(id).clock;
        _reach(seedBlock + 1);
        bytes32 drawn = _committeeBy(id, _candidateSeed(seedBlock, 0));
        uint256 others = 0;
        for (uint256 n = 1; n < 16; ++n) {
            // Another candidate of the same block, with a hash of its own: a builder makes thousands a second.
            Check.eq(_committeeBy(id, _candidateSeed(seedBlock, n)), drawn, "the committee of the first candidate");
            if (_committeeBy(id, blockhash(seedBlock)) != drawn) ++others;
        }
        Check.yes(others > 0, "which its hash would have changed");
    }

    function testAttackAForgedHeader() external {
        _mine(3);
        uint256 number = blockNumber - 1;
        bytes memory forged = SeedBlock.header(number, "trine", keccak256("what the attacker wants"));
        vm.expectRevert(
            abi.encodeWithSelector(ISeeds.SeedsWrongHeader.selector, number, keccak256(forged), blockhash(number))
        );
        seeds.record(forged);
        // Nor one with something behind, or one that ends early, or none at all.
        bytes memory header = SeedBlock.header(number);
        vm.expectPartialRevert(ISeeds.SeedsWrongHeader.selector);
        seeds.record(bytes.concat(header, hex"80"));
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsBadEvidence.selector, 0));
        seeds.record("");
        _isState(number, ISeeds.State.Recordable);
    }

    function testAttackTheHeaderOfAnotherBlock() external {
        BatchId id = _anchor("root", 1);
        uint256 seedBlock = batches.batchOf(id).clock;
        _reach(seedBlock + 2);
        seeds.record(SeedBlock.header(seedBlock + 1));
        seeds.record(SeedBlock.header(seedBlock - 1));
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsNotRecorded.selector, seedBlock));
        batches.draw(_headerOf(id));
        // Under the number of the seed block it hashes to nothing that the chain knows.
        vm.expectPartialRevert(ISeeds.SeedsWrongHeader.selector);
        seeds.record(SeedBlock.header(seedBlock, "trine", SeedBlock.randao(seedBlock + 1)));
    }

    function testAttackABlockThatIsNotThereYet() external {
        uint256 ahead = blockNumber;
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsAhead.selector, ahead));
        seeds.record(SeedBlock.header(ahead));
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsAhead.selector, ahead));
        seeds.seedOf(ahead, 0);
        _isState(ahead, ISeeds.State.Ahead);
    }

    function testAttackALateRecord() external {
        _mine(1);
        uint256 number = blockNumber - 1;
        (, uint256 last) = seeds.stateOf(number, 0);
        Check.eq(last, number + KNOWN_BLOCKHASHES, "as long as the chain knows its hash");
        _reach(last + 1);
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsGone.selector, number));
        seeds.record(SeedBlock.header(number));
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsGone.selector, number));
        seeds.seedOf(number, 0);
        _isState(number, ISeeds.State.Gone);
    }

    function testTheLastBlockIsInTime() external {
        _mine(1);
        uint256 number = blockNumber - 1;
        _reach(number + KNOWN_BLOCKHASHES);
        seeds.record(SeedBlock.header(number));
        Check.eq(seeds.seedOf(number, 0), SeedBlock.randao(number) >> 40, "seed");
    }

    function testAttackALaterBlockTakesThePlaceOfASeedThatIsNeeded() external {
        _mine(1);
        uint256 number = blockNumber - 1;
        seeds.record(SeedBlock.header(number));
        _reach(number + KNOWN_BLOCKHASHES);
        bytes32 seed = seeds.seedOf(number, 0);
        Check.yes(seed != 0, "still there in the last block of the window");
        vm.expectPartialRevert(ISeeds.SeedsAhead.selector);
        seeds.record(SeedBlock.header(number + KNOWN_BLOCKHASHES));
        _mine(1);
        seeds.record(SeedBlock.header(number + KNOWN_BLOCKHASHES));
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsGone.selector, number));
        seeds.seedOf(number, 0);
    }

    function testAChainWithoutRandaoIsRefusedWhenItIsDeployedThere() external {
        // Scroll, Arbitrum, Linea, ZKsync
        uint256[4] memory constants = [uint256(0), 1, 2, 2_500_000_000_000_000];
        for (uint256 i = 0; i < constants.length; ++i) {
            vm.prevrandao(bytes32(constants[i]));
            vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsNoRandao.selector, 0, bytes32(constants[i])));
            Built.create("RandaoSeeds");
        }
    }

    function testABlockWithADifficultyHasNoRandao() external {
        _mine(2);
        uint256 number = blockNumber - 1;
        bytes memory header = SeedBlock.header(number, hex"01", "nitro", SeedBlock.randao(number));
        vm.setBlockhash(number, keccak256(header));
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsNoRandao.selector, 1, SeedBlock.randao(number)));
        seeds.record(header);
        header = SeedBlock.header(number, "trine", bytes32(uint256(2)));
        vm.setBlockhash(number, keccak256(header));
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsNoRandao.selector, 0, bytes32(uint256(2))));
        seeds.record(header);
    }

    function testTheSeedOfAnEarlierBlockInItsPlaceIsNoSeedOfABlock() external {
        _mine(1);
        uint256 number = blockNumber - 1;
        seeds.record(SeedBlock.header(number));
        uint256 later = number + KNOWN_BLOCKHASHES;
        _reach(later + 1);
        _isState(later, ISeeds.State.Recordable);
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsNotRecorded.selector, later));
        seeds.seedOf(later, 0);
        seeds.record(SeedBlock.header(later));
        Check.eq(seeds.seedOf(later, 0), SeedBlock.randao(later) >> 40, "its own");
    }

    function testTheSmallestRandaoIsTakenAndTheNextSmallerIsNone() external {
        _mine(2);
        bytes32 least = bytes32(uint256(1) << 128);
        bytes32 less = bytes32(uint256(1 << 128) - 1);
        uint256 number = blockNumber - 1;
        bytes memory header = SeedBlock.header(number, "trine", less);
        vm.setBlockhash(number, keccak256(header));
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsNoRandao.selector, 0, less));
        seeds.record(header);
        header = SeedBlock.header(number, "trine", least);
        vm.setBlockhash(number, keccak256(header));
        seeds.record(header);
        Check.eq(seeds.seedOf(number, 0), least >> 40, "seed");
    }

    function testARandaoIsFoundBehindExtraDataOfAnyLength() external {
        uint256[7] memory lengths = [uint256(0), 2, 55, 56, 255, 256, 1000];
        for (uint256 i = 0; i < lengths.length; ++i) {
            uint256 length = lengths[i];
            bytes memory begin = abi.encodePacked(hex"b9", uint16(length));
            if (length < 256) begin = abi.encodePacked(hex"b8", uint8(length));
            if (length < 56) begin = abi.encodePacked(uint8(0x80 + length));
            _recorded(300 + i, bytes.concat(begin, new bytes(length)));
        }
        // One byte below 0x80 is itself.
        _recorded(400, hex"7f");
        _recorded(401, hex"8180");
    }

    function testABlocksNumberMayBeOfOneByte() external {
        uint256[4] memory numbers = [uint256(1), 127, 128, 255];
        for (uint256 i = 0; i < numbers.length; ++i) {
            _recorded(numbers[i], hex"857472696e65");
        }
    }

    function testAttackAHeaderThatEndsBeforeItsNumberOrHasAnEndlessField() external {
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsBadEvidence.selector, 448));
        seeds.record(new bytes(448));
        bytes memory header = SeedBlock.header(blockNumber - 1);
        header[448] = 0xba; // a length of three bytes
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsBadEvidence.selector, header.length));
        seeds.record(header);
    }

    function testOneTransactionRecordsAndDraws() external {
        BatchId id = _anchor("root", 1);
        uint256 seedBlock = batches.batchOf(id).clock;
        _reach(seedBlock + 1);
        bytes memory draw = abi.encodeCall(IBatches.draw, (_headerOf(id)));
        seeds.recordAndCall(SeedBlock.header(seedBlock), address(batches), draw);
        Check.eq(_state(id), uint256(IBatches.State.Drawn), "drawn");
        // What the call says is what one hears.
        vm.expectRevert(
            abi.encodeWithSelector(
                IBatches.BatchesWrongState.selector, id, IBatches.State.Drawn, IBatches.State.Anchored
            )
        );
        seeds.recordAndCall(SeedBlock.header(seedBlock), address(batches), draw);
    }

    function testAttackARecordThatIsRefusedCallsNothing() external {
        BatchId id = _anchor("root", 1);
        uint256 seedBlock = batches.batchOf(id).clock;
        _reach(seedBlock + 1);
        bytes memory forged = SeedBlock.header(seedBlock, "trine", keccak256("wanted"));
        vm.expectPartialRevert(ISeeds.SeedsWrongHeader.selector);
        seeds.recordAndCall(forged, address(batches), abi.encodeCall(IBatches.draw, (_headerOf(id))));
        Check.eq(_state(id), uint256(IBatches.State.Anchored), "not drawn");
    }

    /// What a batch that shares its seed block with no other pays for it. See docs/randomness.md.
    function testTheRecordOfASeedStaysCheap() external {
        _mine(1);
        uint256 number = blockNumber - 1;
        seeds.record(SeedBlock.header(number));
        Check.atMost(vm.lastCallGas().gasTotalUsed, 62_000, "the first in its place");
        vm.snapshotGasLastCall("randaoseeds", "record in a new place");
        _reach(number + KNOWN_BLOCKHASHES - 1);
        BatchId id = _anchor("cheap", 1);
        number = batches.batchOf(id).clock;
        _reach(number + 1);
        bytes memory header = SeedBlock.header(number);
        seeds.recordAndCall(header, address(batches), abi.encodeCall(IBatches.draw, (_headerOf(id))));
        vm.snapshotGasLastCall("randaoseeds", "record in a new place, and draw");
        _mine(KNOWN_BLOCKHASHES);
        number += KNOWN_BLOCKHASHES;
        seeds.record(SeedBlock.header(number));
        Check.atMost(vm.lastCallGas().gasTotalUsed, 48_000, "in a used place, as all are after an hour");
        vm.snapshotGasLastCall("randaoseeds", "record");
        _reach(number + KNOWN_BLOCKHASHES - 2);
        id = _anchor("cheaper", 1);
        number += KNOWN_BLOCKHASHES;
        Check.eq(batches.batchOf(id).clock, number, "a used place");
        _reach(number + 1);
        uint256 added = _addedToDraw(id, SeedBlock.header(number));
        Check.atMost(added, 24_000, "with a draw");
        vm.snapshotValue("randaoseeds", "record, added to a draw", added);
    }

    function _isState(uint256 number, ISeeds.State expected) private view {
        (ISeeds.State state,) = seeds.stateOf(number, 0);
        Check.eq(uint256(state), uint256(expected), "state");
    }

    /// Records a block with this extra data, RLP, as soon as it is there.
    function _recorded(uint256 number, bytes memory extraData) private {
        bytes memory header = SeedBlock.headerWith(number, hex"80", extraData, SeedBlock.randao(number));
        vm.roll(number + 1);
        vm.setBlockhash(number, keccak256(header));
        seeds.record(header);
        Check.eq(seeds.seedOf(number, 0), SeedBlock.randao(number) >> 40, "seed");
    }

    /// What is recorded when the chain has this candidate of a block.
    function _candidateSeed(uint256 number, uint256 candidate) private returns (bytes32) {
        vm.prevrandao(SeedBlock.randao(number));
        ISeeds fresh = ISeeds(Built.create("RandaoSeeds"));
        bytes memory header = SeedBlock.header(number, bytes5(uint40(candidate)), SeedBlock.randao(number));
        vm.setBlockhash(number, keccak256(header));
        fresh.record(header);
        return fresh.seedOf(number, 0);
    }

    function _committeeBy(BatchId id, bytes32 word) private view returns (bytes32) {
        bytes32 seed = keccak256(abi.encode(word, id, uint8(0)));
        uint256 epoch = committees.epochAt(batches.batchOf(id).clock);
        return keccak256(abi.encode(committees.draw(model, seed, epoch, batches.fixedAt(id), NODE, 3, false)));
    }
}

/// @notice A world on a rollup, whose seeds come from a beacon with a key of the tests' own.
contract DrandSeedsTest is AppealWorld {
    bytes private constant TAG = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";
    uint256 private constant SECRET = 0xbeac04;
    uint256 private constant GENESIS = 500_000;
    uint256 private constant PERIOD = 3;
    uint256 private constant MARGIN = 30;
    // drand's network quicknet, and its round 1000.
    bytes private constant QUICKNET = abi.encodePacked(
        hex"000000000000000000000000000000000d1fec758c921cc22b0e17e63aaf4bcb",
        hex"5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a",
        hex"0000000000000000000000000000000003cf0f2896adee7eb8b5f01fcad39122",
        hex"12c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451",
        hex"000000000000000000000000000000000e5db2b6bfbb01c867749cadffca88b3",
        hex"6c24f3012ba09fc4d3022c5c37dce0f977d3adb5d183c7477c442b1f04515273",
        hex"0000000000000000000000000000000001a714f2edb74119a2f2b0d5a7c75ba9",
        hex"02d163700a61bc224ededd8e63aef7be1aaf8e93d7a9718b047ccddb3eb5d68b"
    );
    bytes private constant QUICKNET_1000 = abi.encodePacked(
        hex"00000000000000000000000000000000144679b9a59af2ec876b1a6b1ad52ea9",
        hex"b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
        hex"0000000000000000000000000000000011f92e4521ef54f047b64b85fa98db2d",
        hex"46f0f44add1f60b93f8a0dbddd63b34f238657c2d93aed18b90bddd60a01b6d2"
    );

    function setUp() external {
        _appealWorld();
    }

    function testARealRoundOfQuicknetIsTaken() external {
        DrandSeeds quicknet = DrandSeeds(
            Built.create("DrandSeeds", abi.encode(uint256(1_692_803_367), uint256(3), uint256(30), QUICKNET))
        );
        vm.expectEmit(address(quicknet));
        emit ISeeds.SeedRecorded(1000, keccak256(QUICKNET_1000));
        quicknet.submit(1000, QUICKNET_1000);
        uint256 fixedAt = 1_692_803_367 + 999 * 3 - 30;
        Check.eq(quicknet.seedOf(0, fixedAt), keccak256(QUICKNET_1000), "seed");
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsForgedRound.selector, 1001));
        quicknet.submit(1001, QUICKNET_1000);
    }

    function testARoundIsRecordableFromItsVerySecondOn() external {
        uint256 fixedAt = timestamp;
        uint256 due = DrandSeeds(address(seeds)).timeOf(seeds.indexOf(0, fixedAt));
        vm.warp(due - 1);
        (ISeeds.State state,) = seeds.stateOf(0, fixedAt);
        Check.yes(state == ISeeds.State.Ahead, "a second before");
        vm.warp(due);
        uint256 lastBlock;
        (state, lastBlock) = seeds.stateOf(0, fixedAt);
        Check.yes(state == ISeeds.State.Recordable, "then");
        Check.eq(lastBlock, type(uint256).max, "for ever");
    }

    function testRoundsByTime() external view {
        DrandSeeds drand = DrandSeeds(address(seeds));
        Check.eq(drand.roundAfter(GENESIS - MARGIN - 100), 1, "before the beacon began");
        Check.eq(drand.roundAfter(GENESIS - MARGIN), 1, "the first");
        Check.eq(drand.roundAfter(GENESIS - MARGIN + 1), 2, "after, never before");
        for (uint256 fixedAt = START; fixedAt < START + 12; ++fixedAt) {
            uint256 due = drand.timeOf(drand.roundAfter(fixedAt));
            Check.yes(due >= fixedAt + MARGIN && due < fixedAt + MARGIN + PERIOD, "the first after the margin");
        }
        Check.eq(seeds.source(), "drand", "source");
    }

    function testOneRoundServesAllThatWasFixedInItsPeriod() external {
        BatchId one = _anchor("one", 1);
        BatchId other = _anchor("other", 1);
        uint256 round = seeds.indexOf(0, batches.fixedAt(one));
        Check.eq(seeds.indexOf(0, batches.fixedAt(other)), round, "the same");
        _reach(batches.batchOf(one).clock + 1);
        _wait(MARGIN + PERIOD);
        seeds.record(_evidence(round));
        batches.draw(_headerOf(one));
        batches.draw(_headerOf(other));
    }

    function testAttackARoundThatIsNotThereYet() external {
        BatchId id = _anchor("root", 1);
        uint256 round = seeds.indexOf(0, timestamp);
        _reach(batches.batchOf(id).clock + 1);
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsAhead.selector, round));
        batches.draw(_headerOf(id));
        // Rounds that are there say nothing of it.
        seeds.record(_evidence(round - 1));
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsAhead.selector, round));
        batches.draw(_headerOf(id));
        _wait(MARGIN + PERIOD);
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsNotRecorded.selector, round));
        batches.draw(_headerOf(id));
    }

    function testAttackAForgedSignature() external {
        uint256 round = seeds.indexOf(0, timestamp);
        bytes8 number = bytes8(uint64(round));
        bytes memory error_ = abi.encodeWithSelector(ISeeds.SeedsForgedRound.selector, round);
        _refusedRecord(error_, bytes.concat(number, _sign(SECRET + 1, round)));
        _refusedRecord(error_, bytes.concat(number, _sign(SECRET, round + 1)));
        error_ = abi.encodeWithSelector(Bls12381.Bls12381Infinity.selector);
        _refusedRecord(error_, bytes.concat(number, new bytes(128)));
        error_ = abi.encodeWithSelector(ISeeds.SeedsBadEvidence.selector, 8);
        _refusedRecord(error_, abi.encodePacked(number));
    }

    function testAttackTheSequencerGrindsNothingOfItsBlocks() external {
        BatchId id = _anchor("root", 1);
        IBatches.Batch memory batch = batches.batchOf(id);
        _reachDraw(id);
        bytes32 seed = seeds.seedOf(batch.clock, batches.fixedAt(id));
        for (uint256 n = 0; n < 8; ++n) {
            vm.setBlockhash(batch.clock, keccak256(abi.encode("candidate", n)));
            vm.prevrandao(keccak256(abi.encode("candidate", n)));
            Check.eq(seeds.seedOf(batch.clock, batches.fixedAt(id)), seed, "the beacon's");
        }
    }

    function testAttackALateRecordDrawsNothing() external {
        BatchId id = _anchor("root", 1);
        uint256 fixedAt = batches.fixedAt(id);
        uint256 last = batches.batchOf(id).clock + EPOCH_BLOCKS;
        _wait(MARGIN + PERIOD);
        _reach(last + 1);
        seeds.record(_evidence(seeds.indexOf(0, fixedAt)));
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchesSeedExpired.selector, last));
        batches.draw(_headerOf(id));
    }

    function testASilentBeaconCostsTheNodeNothing() external {
        uint256 credit = staking.creditOf(NODE);
        BatchId id = _anchor("root", 3);
        uint256 fixedAt = batches.fixedAt(id);
        uint256 last = batches.batchOf(id).clock + EPOCH_BLOCKS;
        _wait(MARGIN + PERIOD);
        _reach(last - 1);
        // Back for the last moments.
        seeds.record(_evidence(seeds.indexOf(0, fixedAt)));
        _reach(last + 1);
        vm.expectEmit(address(batches));
        emit IBatches.BatchVoided(id, IBatches.VoidReason.SeedMissing);
        _expire(id);
        Check.eq(staking.stakeOf(NODE).active, STAKE, "no stake");
        Check.eq(staking.stakeOf(NODE).locked, 0, "all free");
        Check.eq(staking.creditOf(NODE), credit, "and the fee is back");
        Check.eq(BatchId.unwrap(_anchor("root", 3)), BatchId.unwrap(id), "it may come again");
    }

    function testASilentBeaconGivesBackAFeeOfOneWeiAndSaysNothingOfNone() external {
        IParameters.Values memory values = _values();
        (values.verifierFeePerLeafWei, values.verifierFeePerTokenWei) = (1, 0);
        parameters.set(values);
        uint256 credit = staking.creditOf(NODE);
        BatchId cheap = _anchor("cheap", 1);
        values.verifierFeePerLeafWei = 0;
        parameters.set(values);
        BatchId free = _anchor("free", 1);
        Check.eq(staking.creditOf(NODE), credit - 1, "what one of them cost");
        _reach(batches.batchOf(free).clock + EPOCH_BLOCKS + 1);
        vm.expectEmit(address(staking));
        emit IStaking.CreditAdded(NODE, 1, credit);
        _expire(cheap);
        vm.recordLogs();
        _expire(free);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            Check.yes(logs[i].topics[0] != IStaking.CreditAdded.selector, "nothing is credited");
        }
        Check.eq(staking.creditOf(NODE), credit, "as before");
    }

    function testAttackSittingOutADrawThatTheBeaconAllowedCosts() external {
        BatchId id = _anchor("root", 3);
        uint256 round = seeds.indexOf(0, batches.fixedAt(id));
        uint256 last = batches.batchOf(id).clock + EPOCH_BLOCKS;
        _wait(MARGIN + 2 * PERIOD);
        _mine(3);
        // Any later round shows that the one before was there.
        seeds.record(_evidence(round + 1));
        _reach(last + 1);
        vm.expectEmit(address(batches));
        emit IBatches.BatchVoided(id, IBatches.VoidReason.DrawExpired);
        _expire(id);
        Check.eq(staking.stakeOf(NODE).active, STAKE - 1 ether, "a leaf's stake");
    }

    function testASilentBeaconDoesNotCostAnAppellantTheBond() external {
        BatchId id = _settled(_root("appealed", 0), 1);
        uint256 supply = token.totalSupply();
        _appeal(ALICE, id, 0, REJECTED);
        IAppeals.Case memory appealed = appeals.caseOf(id, 0);
        _reach(appealed.clock + EPOCH_BLOCKS + 1);
        appeals.expire(id, 0);
        _wait(601);
        _conclude(id, 0);
        Check.eq(appeals.creditOf(ALICE), BOND_1, "the bond is back");
        Check.eq(token.totalSupply(), supply, "nothing burned");
    }

    function testAppealsAreDrawnByTheBeacon() external {
        BatchId id = _settled(_root("appealed", 0), 1);
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        Check.eq(_jury(id, 0).length, 7, "seven");
    }

    /// Whoever knew its seed beforehand would know the next jury when it lets the first one fail.
    function testTheNextJuryOfAnAppealIsDrawnByALaterRound() external {
        BatchId id = _settled(_root("appealed", 0), 1);
        _appeal(ALICE, id, 0, REJECTED);
        _drawAppeal(id, 0);
        _wait(_values().commitSeconds + 1);
        _resolve(id, 0);
        IAppeals.Case memory appealed = appeals.caseOf(id, 0);
        uint256 round = seeds.indexOf(0, timestamp);
        _reach(appealed.clock + 1);
        IStaking.Seat[][] memory judges = _judges(id, 0, 1);
        Header memory header = _headerOf(id);
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsAhead.selector, round));
        appeals.draw(header, 0, judges);
        _drawAppeal(id, 0);
    }

    function testAttackALapsedDrawOfAnAppealStillCostsTheBondWhereTheBeaconSpoke() external {
        BatchId id = _settled(_root("appealed", 0), 1);
        _appeal(ALICE, id, 0, REJECTED);
        IAppeals.Case memory appealed = appeals.caseOf(id, 0);
        _reach(appealed.clock + 1);
        _showSeed(appealed.clock, appealed.fixedAt);
        _reach(appealed.clock + EPOCH_BLOCKS + 1);
        appeals.expire(id, 0);
        _wait(601);
        _conclude(id, 0);
        Check.eq(appeals.creditOf(ALICE), 0, "lost");
    }

    function testSettingsThatCannotBeRight() external {
        bytes memory key = BlsSigner.publicKey(SECRET);
        _refused("beaconMarginSeconds", GENESIS, PERIOD, 29, key);
        _refused("beaconMarginSeconds", GENESIS, PERIOD, 3601, key);
        _refused("beaconPeriodSeconds", GENESIS, 0, MARGIN, key);
        _refused("beaconPeriodSeconds", GENESIS, 3601, MARGIN, key);
        _refused("beaconGenesisSeconds", 0, PERIOD, MARGIN, key);
        _refused("beaconGenesisSeconds", 1 << 40, PERIOD, MARGIN, key);
        _refused("beaconKey", GENESIS, PERIOD, MARGIN, hex"00");
        // The smallest and the largest that can.
        Built.create("DrandSeeds", abi.encode(uint256(1), uint256(1), uint256(30), key));
        Built.create("DrandSeeds", abi.encode(uint256(type(uint40).max), uint256(3600), uint256(3600), key));
    }

    function testARoundShowsTheBeaconToThoseWhoHadHalfOfTheirTimeLeft() external {
        _reach((blockNumber / 4 + 8) * 4);
        uint256 heard = blockNumber;
        uint256 fixedAt = timestamp;
        seeds.record(_evidence(seeds.indexOf(0, fixedAt)));
        // An earlier round takes nothing of that back.
        seeds.record(_evidence(seeds.indexOf(0, fixedAt) - 1));
        for (uint256 n = heard - 24; n < heard + 8; ++n) {
            // Of 16 blocks the first eight, in whole spans of four.
            bool shown = n + 4 >= heard && n <= heard + 3;
            Check.yes(seeds.wasShown(n, fixedAt, n + 16) == shown, "heard in the first half of its time");
            Check.yes(!seeds.wasShown(n, fixedAt + PERIOD, n + 16), "nothing of the round after it");
        }
    }

    function testARoundIsCheckedCheaply() external {
        uint256 round = seeds.indexOf(0, timestamp);
        seeds.record(_evidence(round));
        Check.atMost(vm.lastCallGas().gasTotalUsed, 205_000, "a round, with its transaction");
        vm.snapshotGasLastCall("drandseeds", "record");
        _mine(4);
        _wait(2 * PERIOD); // whose round is another
        BatchId id = _anchor("dear", 1);
        _reach(batches.batchOf(id).clock + 1);
        _wait(MARGIN + PERIOD);
        uint256 added = _addedToDraw(id, _evidence(seeds.indexOf(0, batches.fixedAt(id))));
        Check.yes(added > 100_000 && added < 185_000, "with a draw: the pairing is most of it");
        vm.snapshotValue("drandseeds", "record, added to a draw", added);
    }

    function _createSeeds() internal override {
        _create("seeds", "DrandSeeds", abi.encode(GENESIS, PERIOD, MARGIN, BlsSigner.publicKey(SECRET)));
    }

    function _showSeed(uint256 seedBlock, uint256 fixedAt) internal override {
        (ISeeds.State state,) = seeds.stateOf(seedBlock, fixedAt);
        if (state == ISeeds.State.Recorded) return;
        if (state == ISeeds.State.Ahead) _wait(MARGIN + PERIOD);
        seeds.record(_evidence(seeds.indexOf(seedBlock, fixedAt)));
    }

    function _refused(string memory setting, uint256 genesis, uint256 period, uint256 margin, bytes memory key)
        private
    {
        vm.expectRevert(abi.encodeWithSelector(ISeeds.SeedsBadSetting.selector, setting));
        Built.create("DrandSeeds", abi.encode(genesis, period, margin, key));
    }

    function _refusedRecord(bytes memory error_, bytes memory evidence) private {
        vm.expectRevert(error_);
        seeds.record(evidence);
    }

    function _evidence(uint256 round) private view returns (bytes memory) {
        return bytes.concat(bytes8(uint64(round)), _sign(SECRET, round));
    }

    function _sign(uint256 secret, uint256 round) private view returns (bytes memory) {
        bytes memory message = abi.encodePacked(sha256(abi.encodePacked(uint64(round))));
        return BlsSigner.sign(secret, message, TAG);
    }
}
