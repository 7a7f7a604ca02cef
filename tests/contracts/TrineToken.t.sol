// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {IERC3009, IERC3009Cancel} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";

import {Built} from "./Built.sol";
import {Check, vm} from "./Vm.sol";

/// @notice What x402 pays by: EIP-3009 authorizations of the devnet's token.
contract TrineTokenTest {
    struct Authorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    bytes32 private constant TRANSFER_TYPEHASH = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 private constant CANCEL_TYPEHASH = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");
    uint256 private constant PAYER_KEY = 0xBEEF;
    uint256 private constant START = 1_000_000;
    uint256 private constant CHAIN_ID = 31_337;
    address private constant NODE = address(0xA0);

    IERC20 private _token;
    address private _payer;

    function setUp() external {
        vm.warp(START);
        _payer = vm.addr(PAYER_KEY);
        _token = IERC20(Built.create("TrineToken", abi.encode(_payer, 100 ether)));
    }

    /// @dev x402's clients draw nonces at random, so an order of nonces would leave most payments unpaid.
    function testFuzz_authorizationsWithAnyNoncesPayOnceEachInAnyOrder(bytes32 one, bytes32 other) external {
        vm.assume(one != other);
        _pay(_authorization(one));
        _pay(_authorization(other));
        Check.eq(_token.balanceOf(NODE), 2 ether, "each once");
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, _payer, one));
        _pay(_authorization(one));
    }

    function testFuzz_aTransferOfAnythingElseThanWasSignedFails(address to, uint256 value) external {
        Authorization memory signed = _authorization(bytes32("nonce"));
        vm.assume(to != NODE || value != signed.value);
        (uint8 v, bytes32 r, bytes32 s) = _sign(signed);
        signed.to = to;
        signed.value = value;
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009InvalidSignature.selector));
        _send(signed, v, r, s);
    }

    function testNothingIsPaidOutsideOfItsTime() external {
        Authorization memory signed = _authorization(bytes32("nonce"));
        vm.warp(signed.validBefore);
        vm.expectRevert(
            abi.encodeWithSelector(ERC3009.ERC3009InvalidAuthorizationTime.selector, 0, signed.validBefore)
        );
        _pay(signed);
        vm.warp(signed.validBefore - 1);
        _pay(signed);
        Check.eq(_token.balanceOf(NODE), 1 ether, "until the last second");
    }

    function testWhatItsPayerHasCancelledIsNeverPaid() external {
        Authorization memory signed = _authorization(bytes32("nonce"));
        bytes32 structHash = keccak256(abi.encode(CANCEL_TYPEHASH, _payer, signed.nonce));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PAYER_KEY, _digest(structHash));
        IERC3009Cancel(address(_token)).cancelAuthorization(_payer, signed.nonce, v, r, s);
        vm.expectRevert(abi.encodeWithSelector(ERC3009.ERC3009UsedAuthorization.selector, _payer, signed.nonce));
        _pay(signed);
        Check.eq(_token.balanceOf(NODE), 0, "nothing");
    }

    function _authorization(bytes32 nonce) private view returns (Authorization memory) {
        return Authorization(_payer, NODE, 1 ether, 0, START + 1 days, nonce);
    }

    function _pay(Authorization memory signed) private {
        (uint8 v, bytes32 r, bytes32 s) = _sign(signed);
        _send(signed, v, r, s);
    }

    function _send(Authorization memory a, uint8 v, bytes32 r, bytes32 s) private {
        IERC3009(address(_token)).transferWithAuthorization(
            a.from, a.to, a.value, a.validAfter, a.validBefore, a.nonce, v, r, s
        );
    }

    function _sign(Authorization memory signed) private returns (uint8, bytes32, bytes32) {
        return vm.sign(PAYER_KEY, _digest(keccak256(abi.encode(TRANSFER_TYPEHASH, signed))));
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Trine"),
                keccak256("1"),
                CHAIN_ID,
                address(_token)
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }
}
