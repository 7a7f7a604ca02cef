// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IPayments} from "../../contracts/interfaces/IPayments.sol";
import {IVerdicts} from "../../contracts/interfaces/IVerdicts.sol";
import {LeafLib, Opening, Receipt} from "../../contracts/libraries/LeafLib.sol";
import {BatchId, Header, Ids, ModelId} from "../../contracts/types/Types.sol";

/// @notice Verdicts as a test sets them.
contract VerdictsDouble {
    struct Set {
        IVerdicts.Verdict verdict;
        bool isFinal;
    }

    mapping(BatchId batchId => mapping(uint256 leafIndex => Set)) private _set;

    function set(BatchId batchId, uint256 leafIndex, IVerdicts.Verdict verdict, bool isFinal) external {
        _set[batchId][leafIndex] = Set(verdict, isFinal);
    }

    function verdictOf(BatchId batchId, uint256 leafIndex) external view returns (IVerdicts.Verdict, bool) {
        Set storage s = _set[batchId][leafIndex];
        return (s.verdict, s.isFinal);
    }
}

/// @notice A stake whose pools take the share that a test sets, and which notes what it was told.
contract RewardsDouble {
    uint256 public shareBps;
    mapping(address operator => uint256) public rewarded;

    function setShare(uint256 bps) external {
        shareBps = bps;
    }

    function poolShareOf(address, uint256 amount) external view returns (uint256) {
        return (amount * shareBps) / 10_000;
    }

    function reward(address operator, uint256 amount) external {
        rewarded[operator] += amount;
    }
}

interface IHook {
    function onTokens(address from, address to, uint256 amount) external;
}

/// @notice A token that tells sender and receiver of every transfer, as ERC-777 does, if they have asked for it.
contract HookedToken is ERC20, ERC20Burnable, ERC20Permit {
    mapping(address account => IHook) private _hooks;

    constructor(address holder, uint256 supply) ERC20("Trine", "TRI") ERC20Permit("Trine") {
        _mint(holder, supply);
    }

    function setHook(IHook hook) external {
        _hooks[msg.sender] = hook;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (address(_hooks[from]) != address(0)) _hooks[from].onTokens(from, to, amount);
        super._update(from, to, amount);
        if (address(_hooks[to]) != address(0)) _hooks[to].onTokens(from, to, amount);
    }
}

/// @notice When tokens come or go, it tries a call of its own once and keeps the error.
contract Reenterer is IHook {
    address private _target;
    bytes private _data;
    bytes public failure;
    bool public tried;
    bool public succeeded;

    function prepare(address target, bytes calldata data) external {
        (_target, _data, tried) = (target, data, false);
    }

    function onTokens(address, address, uint256) external {
        if (tried || _target == address(0)) return;
        tried = true;
        (succeeded, failure) = _target.call(_data);
    }

    function watch(HookedToken token) external {
        token.setHook(this);
    }

    function execute(address target, bytes calldata data) external returns (bytes memory) {
        (bool done, bytes memory result) = target.call(data);
        require(done, string(result));
        return result;
    }
}

/// @notice A wallet whose owner's signature counts as its own (EIP-1271), as long as it likes.
contract ContractWallet {
    address private immutable OWNER;
    bool private _refuses;

    constructor(address owner) {
        OWNER = owner;
    }

    function changeItsMind() external {
        _refuses = true;
    }

    function deposit(IERC20 token, IPayments payments, address payee, uint256 amount) external {
        require(token.approve(address(payments), amount));
        payments.deposit(payee, amount);
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        bool signed = !_refuses && ECDSA.recover(digest, signature) == OWNER;
        return signed ? this.isValidSignature.selector : bytes4(0);
    }
}

/// @notice Batches of one leaf: opening and id.
library Leaves {
    bytes32 internal constant CANARY = keccak256("canary");

    function opening(address batches, uint256 index, Receipt memory receipt)
        internal
        view
        returns (BatchId id, Opening memory o)
    {
        o.receipt = receipt;
        o.index = index;
        o.canary = CANARY;
        o.proof = new bytes32[](LeafLib.DEPTH);
        bytes32 node = LeafLib.leafHash(index, receipt);
        bytes32 empty = 0;
        for (uint256 i = 0; i < LeafLib.DEPTH; ++i) {
            o.proof[i] = empty;
            node = LeafLib.parent(node, empty);
            empty = LeafLib.parent(empty, empty);
        }
        o.root = node;
        id = Ids.batch(batches, Header(receipt.node, ModelId.wrap(receipt.modelId), o.root, CANARY));
    }
}
