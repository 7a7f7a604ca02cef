// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Create3} from "@openzeppelin/contracts/utils/Create3.sol";
import {Errors} from "@openzeppelin/contracts/utils/Errors.sol";

import {IFactory} from "../../contracts/interfaces/IFactory.sol";
import {Built} from "./Built.sol";
import {Check, vm} from "./Vm.sol";

/// @notice Knows its counterpart from the start, as Trine's contracts do.
contract Half {
    address public immutable OTHER;
    uint256 public immutable NUMBER;

    error HalfNumberZero();

    constructor(address other, uint256 number) payable {
        require(number > 0, HalfNumberZero());
        OTHER = other;
        NUMBER = number;
    }
}

contract FactoryTest {
    bytes32 private constant SALT = "left";

    IFactory private _factory;

    function setUp() external {
        _factory = IFactory(Built.create("Factory"));
    }

    function testTwoContractsKnowOneAnotherWithoutAWiringStep() external {
        address left = _factory.addressOf(address(this), "left");
        address right = _factory.addressOf(address(this), "right");
        vm.expectEmit(address(_factory));
        emit IFactory.Deployed(address(this), "left", left);
        Check.eq(_factory.deploy("left", _initCode(right, 1)), left, "left");
        Check.eq(_factory.deploy("right", _initCode(left, 2)), right, "right");
        Check.eq(Half(left).OTHER(), right, "left knows right");
        Check.eq(Half(right).OTHER(), left, "right knows left");
    }

    function testFuzz_theAddressIsKnownBeforehandWhateverTheCode(address deployer, bytes32 salt, uint256 number)
        external
    {
        vm.assume(number > 0);
        address expected = _factory.addressOf(deployer, salt);
        Check.eq(expected.code.length, 0, "nothing there yet");
        bytes memory initCode = _initCode(address(this), number);
        vm.prank(deployer);
        Check.eq(_factory.deploy(salt, initCode), expected, "address");
        Check.eq(Half(expected).NUMBER(), number, "constructor's argument");
    }

    /// keccak256(0xff, factory, keccak256(deployer, salt), keccak256(proxy)), then the proxy's first creation.
    function testFuzz_theAddressFollowsTheFormula(address deployer, bytes32 salt) external view {
        bytes32 proxyCode = keccak256(hex"73365f5f37365f34f06012573d5f5f3e3d5ffd5b005f526014600cf3");
        bytes32 bound = keccak256(abi.encode(deployer, salt));
        address proxy =
            address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", address(_factory), bound, proxyCode)))));
        address created = address(uint160(uint256(keccak256(abi.encodePacked(hex"d694", proxy, hex"01")))));
        Check.eq(_factory.addressOf(deployer, salt), created, "formula");
    }

    function testFuzz_nobodyTakesAnothersAddress(address squatter) external {
        vm.assume(squatter != address(this));
        address mine = _factory.addressOf(address(this), SALT);
        bytes memory initCode = _initCode(address(this), 1);
        vm.prank(squatter);
        Check.yes(_factory.deploy(SALT, initCode) != mine, "another address");
        Check.eq(mine.code.length, 0, "mine is free");
        Check.eq(_factory.deploy(SALT, initCode), mine, "and still mine");
    }

    function testASaltIsUsedOnce() external {
        _factory.deploy(SALT, _initCode(address(this), 1));
        vm.expectRevert(abi.encodeWithSelector(Errors.FailedDeployment.selector));
        _factory.deploy(SALT, _initCode(address(this), 2));
    }

    function testAConstructorsErrorReachesTheDeployerAndFreesTheSalt() external {
        vm.expectRevert(abi.encodeWithSelector(Half.HalfNumberZero.selector));
        _factory.deploy(SALT, _initCode(address(this), 0));
        _factory.deploy(SALT, _initCode(address(this), 1));
    }

    function testValueGoesToTheConstructor() external {
        address deployed = _factory.deploy{value: 5}(SALT, _initCode(address(this), 1));
        Check.eq(deployed.balance, 5, "value");
        Check.eq(address(_factory).balance, 0, "nothing stays");
    }

    function testNoCodeIsRefused() external {
        vm.expectRevert(abi.encodeWithSelector(Create3.Create3EmptyBytecode.selector));
        _factory.deploy(SALT, "");
    }

    function testFuzz_argumentsEncodedAsACallGiveTheSame(bytes4 selector, address other, uint256 number) external {
        vm.assume(number > 0);
        address expected = _factory.addressOf(address(this), SALT);
        bytes memory call = abi.encodeWithSelector(selector, other, number);
        Check.eq(_factory.deployWith(SALT, type(Half).creationCode, call), expected, "address");
        Check.eq(Half(expected).OTHER(), other, "first argument");
        Check.eq(Half(expected).NUMBER(), number, "second argument");
    }

    function testACallWithoutASelectorIsRefused() external {
        vm.expectRevert(abi.encodeWithSelector(IFactory.FactoryCallTooShort.selector, 3));
        _factory.deployWith(SALT, type(Half).creationCode, hex"010203");
    }

    function _initCode(address other, uint256 number) private pure returns (bytes memory) {
        return bytes.concat(type(Half).creationCode, abi.encode(other, number));
    }
}
