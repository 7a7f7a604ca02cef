// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBatches} from "../../contracts/interfaces/IBatches.sol";
import {BatchId} from "../../contracts/types/Types.sol";
import {Check, vm} from "./Vm.sol";
import {World} from "./World.sol";

contract BatchesTest is World {
    function setUp() external {
        _calibratedWorld();
    }

    function testAnAcceptedBatchPaysItsVerifiersAndFreesTheNode() external {
        uint256 before = _owedByStaking();
        BatchId id = _anchor("root", 4);
        Check.eq(staking.stakeOf(NODE).locked, 4 ether, "stake is locked per leaf");
        Check.eq(before - _owedByStaking(), 0.12 ether, "the node paid the fee");
        _draw(id);
        _vote(id, 15, 0, 15, 0, 15, 0);
        Check.eq(_state(id), uint256(IBatches.State.Settled), "settled");
        Check.eq(batches.batchOf(id).accepted, 15, "accepted");
        _finalize(id);
        Check.eq(_owedByStaking(), before, "the verifiers earned it");
        Check.eq(token.balanceOf(address(staking)), before, "nothing is lost");
        Check.eq(_state(id), uint256(IBatches.State.Final), "final");
        Check.eq(staking.stakeOf(NODE).locked, 0, "freed");
        Check.eq(staking.stakeOf(NODE).active, STAKE, "not slashed");
    }
}
