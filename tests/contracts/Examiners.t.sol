// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IExaminers} from "../../contracts/interfaces/IExaminers.sol";
import {Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, Header, ModelId, Role} from "../../contracts/types/Types.sol";
import {AppealWorld} from "./AppealWorld.sol";
import {Trees} from "./Trees.sol";
import {Check, vm} from "./Vm.sol";

/// @notice Batches of eight leaves: verifiers are paid 0.24 tokens for one, so it earns 0.12 at most.
contract ExaminersTest is AppealWorld {
    uint256 private constant CLIENT_KEY = 0xC11E47;
    uint256 private constant LEAVES = 8;
    uint256 private constant ALL = 255;
    uint256 private constant POOL = 100 ether;
    uint256 private constant BOUNTY = 0.05 ether;

    address private _client;
    uint256 private _batch; // makes each another

    function setUp() external {
        _appealWorld();
        _client = vm.addr(CLIENT_KEY);
        require(token.transfer(address(examiners), POOL));
    }

    function testAnExaminerIsPaidForConfirmedCanaries() external {
        BatchId id = _examined(18, ALL ^ 18, 18);
        Header memory header = _headerOf(id);
        (uint256 confirmed, uint256 counted, uint256 due) = examiners.dueFor(header);
        Check.yes(confirmed == 2 && counted == 2 && due == 2 * BOUNTY, "two of eight");
        uint256 before = token.balanceOf(NODE);
        vm.expectEmit(address(examiners));
        emit IExaminers.ExaminerPaid(id, NODE, 2, 2, 2 * BOUNTY);
        vm.prank(ALICE);
        Check.eq(examiners.claim(header), 2 * BOUNTY, "anyone may call");
        Check.eq(token.balanceOf(NODE) - before, 2 * BOUNTY, "the node has it");
        Check.eq(token.balanceOf(address(examiners)), POOL - 2 * BOUNTY, "out of the pool");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "and no stake of it is gone");
    }

    function testAttackAlwaysAcceptingLosesAgainstCanaries() external {
        uint256 perBatch = 0.24 ether / 3;
        // One canary in a hundred batches takes more than they pay.
        BatchId id = _anchored(1);
        _vote(id, ALL, 0, ALL ^ 1, 1, ALL ^ 1, 1);
        _open(id, 1);
        address lazy = _seatOf(id, 0);
        uint256[3] memory before = _stakes(id);
        _finalize(id);
        uint256 lost = before[0] - staking.stakeOf(lazy).active;
        Check.yes(lost > 100 * perBatch, "it always accepted");
        Check.yes(staking.stakeOf(_seatOf(id, 1)).active > before[1], "who looked is paid");
        examiners.claim(_headerOf(id));
    }

    function testAttackAMajorityThatAlwaysAcceptsLosesByTheExaminersAppeal() external {
        BatchId id = _anchored(1);
        _vote(id, ALL, 0, ALL, 0, ALL, 0);
        _open(id, 1);
        uint256[3] memory before = _stakes(id);
        _appeal(NODE, id, 0, REJECTED);
        _hear(id, 0, 0, 7);
        _conclude(id, 0);
        _finalize(id);
        for (uint256 i = 0; i < 3; ++i) {
            Check.yes(before[i] - _stakes(id)[i] > 29 ether, "each of them");
        }
        Check.yes(appeals.creditOf(NODE) > BOND_1, "the examiner has its bond back, and of the fines");
        Check.eq(examiners.claim(_headerOf(id)), BOUNTY, "and is paid, though the committee had accepted");
    }

    function testAttackAnExaminerThatPlantsOnlyCheats() external {
        BatchId id = _examined(ALL, 0, ALL);
        Header memory header = _headerOf(id);
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersNothingToPay.selector, id, 8, 0));
        examiners.claim(header);
        // With two ordinary ones it is still mostly cheats.
        id = _examined(63, 192, 63);
        header = _headerOf(id);
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersNothingToPay.selector, id, 6, 2));
        examiners.claim(header);
    }

    function testAttackMoreCanariesThanOrdinaryLeavesCarry() external {
        // Four canaries, four ordinary leaves: one counts.
        BatchId id = _examined(15, 240, 15);
        Check.eq(examiners.claim(_headerOf(id)), BOUNTY, "as many as ordinary leaves are around them");
    }

    function testAttackFillingUpWithLeavesThatNobodyAccepts() external {
        // One canary, and seven that the committee could not tell, or rejected.
        BatchId id = _anchored(1);
        _vote(id, 0, 1, 0, 1, 0, 1);
        _open(id, 1);
        _finalize(id);
        Header memory header = _headerOf(id);
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersNothingToPay.selector, id, 1, 0));
        examiners.claim(header);
    }

    function testAttackACanaryThatIsAGoodAnswerCostsNobodyButItsOpener() external {
        BatchId id = _anchored(1);
        _vote(id, ALL, 0, ALL, 0, ALL, 0);
        _open(id, 1);
        uint256[3] memory before = _stakes(id);
        uint256 merits = reputation.recordOf(NODE, Role.Node, model).acceptedMicro;
        // Called bad, it is judged, and stands.
        _appeal(NODE, id, 0, REJECTED);
        _hear(id, 0, 7, 0);
        _conclude(id, 0);
        _finalize(id);
        for (uint256 i = 0; i < 3; ++i) {
            Check.yes(_stakes(id)[i] >= before[i], "no seat is fined");
        }
        Check.yes(appeals.creditOf(NODE) < BOND_1, "the opener has lost of its bond");
        uint256 gained = reputation.recordOf(NODE, Role.Node, model).acceptedMicro - merits;
        Check.atMost(gained, 7e6, "and the merit of that answer");
        Header memory header = _headerOf(id);
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersNothingToPay.selector, id, 0, 7));
        examiners.claim(header);
    }

    function testAttackFarmingBountiesWithOnesOwnLeaves() external {
        // Governance may be generous: more than a batch's verifiers were paid is never paid back, nor all of that.
        examiners.set(IExaminers.Values({bountyWei: 10 ether, budgetWei: 1_000_000 ether, ordinaryPerCanary: 3}));
        uint256 before = token.balanceOf(NODE) + staking.creditOf(NODE);
        BatchId id = _examined(3, ALL ^ 3, 3);
        examiners.claim(_headerOf(id));
        uint256 cost = before - (token.balanceOf(NODE) + staking.creditOf(NODE));
        Check.eq(cost, 0.12 ether, "half of the fees is lost");
    }

    function testAttackPlantingWhatOnlySomeHardwareSeesPaysNothingOfTheFine() external {
        // Two seats see the cheat, one honest seat cannot. It is fined; the examiner has the bounty of any canary.
        BatchId id = _anchored(1);
        _vote(id, ALL, 0, ALL ^ 1, 1, ALL ^ 1, 1);
        _open(id, 1);
        uint256 before = token.balanceOf(NODE);
        _finalize(id);
        examiners.claim(_headerOf(id));
        Check.eq(token.balanceOf(NODE) - before, BOUNTY, "no part of the fine");
        Check.eq(appeals.creditOf(NODE), 0, "nor by another way");
    }

    function testAttackBeingPaidTwice() external {
        BatchId id = _examined(1, ALL ^ 1, 1);
        Header memory header = _headerOf(id);
        examiners.claim(header);
        Check.yes(examiners.isPaid(id), "noted");
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersAlreadyPaid.selector, id));
        examiners.claim(header);
    }

    function testAttackBeingPaidForCanariesThatAreNotOpened() external {
        BatchId id = _anchored(1);
        _vote(id, ALL ^ 1, 1, ALL ^ 1, 1, ALL ^ 1, 1);
        _finalize(id);
        Header memory header = _headerOf(id);
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersNothingToPay.selector, id, 0, 7));
        examiners.claim(header);
        Check.yes(staking.stakeOf(NODE).active < STAKE, "they are bad answers");
    }

    function testAttackBeingPaidBeforeTheVerdictIsFinal() external {
        BatchId id = _anchored(1);
        Header memory header = _headerOf(id);
        bytes memory early = abi.encodeWithSelector(IExaminers.ExaminersNotFinal.selector, id);
        vm.expectRevert(early);
        examiners.claim(header);
        _vote(id, ALL ^ 1, 1, ALL ^ 1, 1, ALL ^ 1, 1);
        _open(id, 1);
        vm.expectRevert(early);
        examiners.claim(header);
        // Somebody takes the canary's side.
        _appeal(ALICE, id, 0, ACCEPTED);
        _wait(601);
        vm.expectRevert(early);
        examiners.claim(header);
    }

    function testAttackEmptyingThePoolInADay() external {
        examiners.set(IExaminers.Values({bountyWei: 0.05 ether, budgetWei: 0.12 ether, ordinaryPerCanary: 3}));
        Header[3] memory headers;
        for (uint256 i = 0; i < 3; ++i) {
            headers[i] = _headerOf(_examined(1, ALL ^ 1, 1));
        }
        _wait(1 days - block.timestamp % 1 days);
        examiners.claim(headers[0]);
        examiners.claim(headers[1]);
        (uint256 left, uint256 until) = examiners.budget();
        Check.eq(left, 0.02 ether, "left");
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersBudgetSpent.selector, left, BOUNTY, until));
        examiners.claim(headers[2]);
        _wait(until - block.timestamp);
        Check.eq(examiners.claim(headers[2]), BOUNTY, "the next day");
        (left,) = examiners.budget();
        Check.eq(left, 0.07 ether, "of a new budget");
    }

    function testABudgetIsSpentToTheLastWei() external {
        examiners.set(IExaminers.Values({bountyWei: 0.05 ether, budgetWei: 0.1 ether, ordinaryPerCanary: 3}));
        Header memory first = _headerOf(_examined(1, ALL ^ 1, 1));
        Header memory second = _headerOf(_examined(1, ALL ^ 1, 1));
        _wait(1 days - block.timestamp % 1 days);
        examiners.claim(first);
        Check.eq(examiners.claim(second), BOUNTY, "all of it");
        (uint256 left, uint256 until) = examiners.budget();
        Check.eq(left, 0, "nothing left");
        Check.eq(until, timestamp + 1 days, "for a day");
    }

    function testABountyOfOneWeiIsPaid() external {
        examiners.set(IExaminers.Values({bountyWei: 1, budgetWei: 1, ordinaryPerCanary: 3}));
        Header memory header = _headerOf(_examined(1, ALL ^ 1, 1));
        Check.eq(examiners.claim(header), 1, "one wei");
    }

    function testOnlyWhatIsThereIsPaid() external {
        vm.expectEmit(address(examiners));
        emit IExaminers.Released(BOB, POOL);
        examiners.release(BOB, POOL);
        BatchId id = _examined(1, ALL ^ 1, 1);
        Header memory header = _headerOf(id);
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersPoolTooSmall.selector, 0, BOUNTY));
        examiners.claim(header);
        require(token.transfer(address(examiners), BOUNTY));
        Check.eq(examiners.claim(header), BOUNTY, "once there is something");
    }

    function testProtocolFeesMayGoToExaminers() external {
        payments.setProtocolFee(100, address(examiners));
        (, address treasury,) = payments.protocolFee();
        Check.eq(treasury, address(examiners), "the treasury");
    }

    function testOnlyTheOwnerSetsWithinBoundsAndReleases() external {
        IExaminers.Values memory values = IExaminers.Values(1, 1, 3);
        vm.startPrank(ALICE);
        vm.expectPartialRevert(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        examiners.set(values);
        vm.expectPartialRevert(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        examiners.release(ALICE, 1);
        vm.stopPrank();
        _refusedValues(IExaminers.Values(10 ether + 1, 1, 3), "bountyWei");
        _refusedValues(IExaminers.Values(1, 1_000_000 ether + 1, 3), "budgetWei");
        _refusedValues(IExaminers.Values(1, 1, 2), "ordinaryPerCanary");
        _refusedValues(IExaminers.Values(1, 1, 256), "ordinaryPerCanary");
        examiners.set(IExaminers.Values(10 ether, 1_000_000 ether, 255));
        vm.expectEmit(address(examiners));
        emit IExaminers.ValuesSet(values);
        examiners.set(values);
        Check.eq(examiners.current().budgetWei, 1, "set");
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersZeroAddress.selector));
        examiners.release(address(0), 1);
    }

    function testNoCounterpartMayBeMissing() external {
        for (uint256 i = 0; i < 3; ++i) {
            address[3] memory parts;
            for (uint256 k = 0; k < 3; ++k) {
                parts[k] = k == i ? address(0) : address(1);
            }
            bytes memory code =
                bytes.concat(vm.getCode("Examiners"), abi.encode(parts, address(this), _examining()));
            vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersZeroAddress.selector));
            factory.deploy("missing", code);
        }
    }

    function _refusedValues(IExaminers.Values memory values, string memory name) private {
        vm.expectRevert(abi.encodeWithSelector(IExaminers.ExaminersOutOfBounds.selector, name));
        examiners.set(values);
    }

    /// Anchored with these canaries, judged alike by all seats, opened, final.
    function _examined(uint256 leaves, uint256 accepts, uint256 rejects) private returns (BatchId id) {
        id = _anchored(leaves);
        _vote(id, accepts, rejects, accepts, rejects, accepts, rejects);
        _open(id, leaves);
        _finalize(id);
    }

    function _anchored(uint256 leaves) private returns (BatchId id) {
        ++_batch;
        id = _anchor(Trees.root(_receipts(_batch)), keccak256(abi.encode(leaves, SALT)), LEAVES);
        _draw(id);
    }

    function _open(BatchId id, uint256 leaves) private {
        Receipt[] memory receipts = _receipts(_batch);
        Header memory header = _headerOf(id);
        uint256 count = 0;
        for (uint256 i = 0; i < LEAVES; ++i) {
            count += (leaves >> i) & 1;
        }
        Opening[] memory openings = new Opening[](count);
        bytes[] memory signatures = new bytes[](count);
        uint256 next = 0;
        for (uint256 i = 0; i < LEAVES; ++i) {
            if ((leaves >> i) & 1 == 0) continue;
            openings[next] = Trees.open(receipts, i, header.canary);
            signatures[next++] = _sign(canaries.digestOf(id, i));
        }
        canaries.open(header, leaves, SALT, openings, signatures);
    }

    function _sign(bytes32 digest) private returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(CLIENT_KEY, digest);
        return abi.encodePacked(r, s, v);
    }

    function _receipts(uint256 number) private view returns (Receipt[] memory receipts) {
        receipts = new Receipt[](LEAVES);
        for (uint256 i = 0; i < LEAVES; ++i) {
            receipts[i].client = _client;
            receipts[i].node = NODE;
            receipts[i].modelId = ModelId.unwrap(model);
            receipts[i].inputHash = keccak256(abi.encode("input", number, i));
            receipts[i].feeWei = 1 ether;
        }
    }

    function _stakes(BatchId id) private view returns (uint256[3] memory stakes) {
        for (uint256 i = 0; i < 3; ++i) {
            stakes[i] = staking.stakeOf(_seatOf(id, i)).active;
        }
    }
}
