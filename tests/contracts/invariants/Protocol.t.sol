// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Check} from "../Vm.sol";
import {Claims} from "./Claims.sol";
import {Handler} from "./Handler.sol";
import {Model} from "./Model.sol";

/// @dev The runner knows contracts of this file only.
contract Roles is Claims {}

/// @notice What holds after any sequence of acts of any roles. One campaign checks everything after every call.
contract ProtocolInvariants {
    Roles private _handler;

    function setUp() external {
        _handler = new Roles();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function invariantEverythingHolds() external view {
        _check();
    }

    /// Checks of states that are never reached would be worth nothing.
    function testRandomActsComeToEveryCorner() external {
        bytes4[20] memory acts = [
            Handler.anchor.selector,
            Handler.anchorAgain.selector,
            Handler.draw.selector,
            Handler.expire.selector,
            Handler.live.selector,
            Handler.live.selector,
            Handler.finalize.selector,
            Handler.openCanaries.selector,
            Handler.voteOnAppeal.selector,
            Handler.drawAppeal.selector,
            Handler.conclude.selector,
            Handler.refund.selector,
            Handler.post.selector,
            Handler.answer.selector,
            Claims.openAnswers.selector,
            Claims.openAnswers.selector,
            Claims.claimMissing.selector,
            Claims.answerClaim.selector,
            Claims.concludeClaim.selector,
            Claims.claimForExaminer.selector
        ];
        for (uint256 i = 0; i < 2100; ++i) {
            uint256 a = uint256(keccak256(abi.encode(i, "a")));
            uint256 b = uint256(keccak256(abi.encode(i, "b")));
            if (i % 8 == 0) _handler.appeal(a, b, b % 2 == 0);
            else if (i % 8 == 1) _handler.appealAgain(a, b % 2 == 0);
            // Claims take hours, in which times to appeal pass: they come last.
            else _act(abi.encodeWithSelector(acts[a % (i < 1500 ? 14 : acts.length)], b, a));
            if (i % 50 == 0) {
                _handler.stake(27, a);
                _handler.addCredit(0, a);
                _handler.deposit(a, b);
                _handler.fundExaminers(a);
                _check();
            }
        }
        for (uint256 i = 0; i < 4; ++i) {
            _examine();
        }
        string memory missing = "";
        for (uint256 i = 0; i <= uint256(type(Model.Corner).max); ++i) {
            // Named by a letter, A for the first.
            if (_handler.reached(Model.Corner(i)) > 0) continue;
            missing = string.concat(missing, string(abi.encodePacked(bytes1(uint8(65 + i)))));
        }
        Check.eq(bytes(missing).length, 0, missing);
    }

    /// Batches of five with one canary, judged as honest seats do; and an answer that is anchored when it is claimed.
    function _examine() private {
        _handler.stake(27, 299 ether);
        _handler.addCredit(0, 49 ether);
        _handler.fundExaminers(1 ether);
        _handler.anchor(259, 1);
        _handler.claimMissing(0, 0);
        for (uint256 i = 0; i < 6; ++i) {
            _handler.live(i, 1759);
            _handler.openCanaries(i);
        }
        for (uint256 i = 1; i < 12; i += 2) {
            _handler.finalize(i - 1);
            _handler.finalize(i);
            _handler.answerClaim(i);
            _handler.claimForExaminer(i);
        }
        _check();
    }

    function _act(bytes memory data) private {
        (bool done, bytes memory reason) = address(_handler).call(data);
        if (done) return;
        assembly ("memory-safe") {
            revert(add(reason, 32), mload(reason))
        }
    }

    function _check() private view {
        _handler.stakingHoldsWhatItOwesToTheWei();
        _handler.stakeCreditAndLocksAreAsTheModelSays();
        _handler.lockedStakeIsThere();
        _handler.lockedStakeCoversOpenLeaves();
        _handler.sharesAreWorthNoMoreThanTheirPools();
        _handler.paymentsHoldAtLeastWhatTheyOwe();
        _handler.depositsAreAsTheModelSays();
        _handler.appealsHoldBondsAndCreditsToTheWei();
        _handler.requestsHoldWhatTheyOweToTheWei();
        _handler.nobodyHasMoreThanCameIn();
        _handler.halfOfWhatIsTakenIsBurned();
        _handler.bondsOfClaimsAreHeldToTheWei();
        _handler.claimsAreAsTheModelSays();
        _handler.examinersArePaidFromThePoolOnly();
        _handler.votesAreThoseThatWereCast();
        _handler.verdictsChangeByAppealsOnly();
        _handler.closedBatchesDoNotChange();
        _handler.scoresAreWithinBounds();
        _handler.weightsOfAnEpochAreFrozen();
        _handler.weightIsStakeThatIsThere();
        _handler.supplyOnlyFalls();
    }
}
