// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ICommittees} from "./interfaces/ICommittees.sol";
import {IRewards} from "./interfaces/IRewards.sol";
import {IStakeToken} from "./interfaces/IStakeToken.sol";
import {IStaking} from "./interfaces/IStaking.sol";
import {Shares} from "./libraries/Shares.sol";

/// @title Stake of node and verifier operators, and of those who delegate to them
/// @dev Documented in `IStaking`. Nobody owns it and nothing pauses it: stake can always leave.
contract Staking is IStaking, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;
    using Shares for Shares.Pool;

    /// @dev Who may do what with stake. `payments` and `requests` may only add, `inclusion` may only slash.
    struct Contracts {
        IStakeToken token;
        address batches;
        address finality;
        address appeals;
        address payments;
        address requests;
        ICommittees committees;
        address inclusion;
    }

    /// @dev The first word is all that anchoring, drawing and settling touch.
    struct Operator {
        uint104 active;
        uint104 locked;
        uint40 busyUntil; // seconds; when all that it was drawn for can be checked
        bool delegated; // somebody else may hold shares of active stake
        uint128 shares; // of active stake
        uint32 activeNonce; // shares are void when it moves on
        uint32 unbondingNonce;
        uint16 commissionBps;
        uint16 previousCommissionBps; // in force until commissionFrom
        uint32 commissionFrom; // seconds; good until 2106
        Shares.Pool unbonding;
    }

    /// @dev Income of a pool with delegators that is not its holders' yet.
    struct Release {
        uint104 amount;
        uint40 since; // seconds; from then on it is released evenly
        uint40 until;
    }

    uint256 public constant MIN_UNBONDING_DELAY = 1 minutes;
    uint256 public constant MAX_UNBONDING_DELAY = 90 days;
    uint256 public constant MAX_COMMISSION_BPS = 5000;
    uint256 public constant MAX_ENDPOINT_BYTES = 256;
    /// @notice Income of a pool with delegators is released to its holders over so long: whoever comes just before an
    /// income and leaves after it has next to nothing of it.
    uint256 public constant RELEASE_SECONDS = 7 days;
    /// @notice Least amount that can be staked or unbonded in part: dust is not worth a share.
    uint256 public constant MIN_AMOUNT_WEI = 1e9;
    uint256 private constant BPS = 10_000;
    /// @dev Of every slash half is burned at least, or a node that is to be judged would have its stake back by being
    /// its own client, and an operator by appealing or claiming against itself.
    uint256 private constant SHARED_DIVISOR = 2;
    // Where the members of an operator's first word are; `active` is lowest.
    uint256 private constant LOCKED_SHIFT = 104;
    uint256 private constant BUSY_SHIFT = 208;
    uint256 private constant DELEGATED_SHIFT = 248;

    IStakeToken private immutable TOKEN;
    address private immutable BATCHES;
    address private immutable FINALITY;
    address private immutable APPEALS;
    address private immutable PAYMENTS;
    address private immutable REQUESTS;
    ICommittees private immutable COMMITTEES;
    address private immutable INCLUSION;
    uint256 private immutable UNBONDING_DELAY;

    // Written through storage pointers.
    // slither-disable-next-line uninitialized-state
    mapping(address operator => Operator) private _operators;
    mapping(address operator => mapping(uint256 nonce => mapping(address holder => uint256 shares))) private _shares;
    mapping(address operator => mapping(uint256 nonce => mapping(address holder => Ticket))) private _tickets;
    mapping(address operator => uint256) private _limits;
    mapping(address operator => Release) private _releases;
    mapping(address account => uint256) private _credits;
    mapping(address operator => string) private _endpoints;

    modifier onlyJudges() {
        _requireJudge();
        _;
    }

    modifier onlyJudgesOrInclusion() {
        if (msg.sender != INCLUSION) _requireJudge();
        _;
    }

    constructor(Contracts memory contracts_, uint256 delay) {
        require(
            delay >= MIN_UNBONDING_DELAY && delay <= MAX_UNBONDING_DELAY,
            StakingDelayOutOfBounds(delay, MIN_UNBONDING_DELAY, MAX_UNBONDING_DELAY)
        );
        require(
            address(contracts_.token) != address(0) && contracts_.batches != address(0)
                && contracts_.finality != address(0) && contracts_.appeals != address(0)
                && contracts_.payments != address(0) && contracts_.requests != address(0)
                && address(contracts_.committees) != address(0) && contracts_.inclusion != address(0),
            StakingZeroAddress()
        );
        TOKEN = contracts_.token;
        BATCHES = contracts_.batches;
        FINALITY = contracts_.finality;
        APPEALS = contracts_.appeals;
        PAYMENTS = contracts_.payments;
        REQUESTS = contracts_.requests;
        COMMITTEES = contracts_.committees;
        INCLUSION = contracts_.inclusion;
        UNBONDING_DELAY = delay;
    }

    /// @inheritdoc IStaking
    function stake(uint256 amount) external nonReentrant returns (uint256) {
        return _deposit(msg.sender, amount);
    }

    /// @inheritdoc IStaking
    function delegate(address operator, uint256 amount, uint256 maxCommissionBps)
        external
        nonReentrant
        returns (uint256)
    {
        (uint256 own,) = delegationOf(operator, operator);
        require(own > 0, StakingOwnStakeRequired(operator));
        if (operator == msg.sender) return _deposit(operator, amount);
        Operator storage theirs = _operators[operator];
        _release(theirs, operator);
        uint256 limit = _limits[operator];
        uint256 others = Math.saturatingSub(theirs.active, own) + amount;
        require(others <= limit, StakingDelegationLimit(operator, limit, others));
        uint256 commission = Math.max(theirs.commissionBps, commissionOf(operator));
        require(commission <= maxCommissionBps, StakingCommissionOutOfBounds(commission, maxCommissionBps));
        theirs.delegated = true;
        return _deposit(operator, amount);
    }

    /// @inheritdoc IStaking
    function unbond(address operator, uint256 amount) external nonReentrant {
        Operator storage theirs = _operators[operator];
        _release(theirs, operator);
        uint256 nonce = theirs.activeNonce;
        Shares.Pool memory active = Shares.Pool(theirs.active, theirs.shares);
        uint256 held = _shares[operator][nonce][msg.sender];
        uint256 worth = active.toAssetsDown(held);
        require(amount >= Math.min(MIN_AMOUNT_WEI, worth) && amount > 0, StakingAmountTooSmall(amount, MIN_AMOUNT_WEI));
        // Whoever asks for all of it gives up all shares: no dust stays behind.
        uint256 given = amount == worth ? held : active.toSharesUp(amount);
        require(given <= held, StakingInsufficientShares(held, given));

        _shares[operator][nonce][msg.sender] = held - given;
        theirs.shares = (active.shares - given).toUint128();
        theirs.active = (active.assets - amount).toUint104();
        // Alone again, the operator has what was to be released.
        if (theirs.delegated && theirs.shares == _shares[operator][nonce][operator]) _endDelegation(theirs, operator);
        uint64 releasableAt = _addToTicket(theirs, operator, amount);
        emit UnbondingStarted(operator, msg.sender, amount, theirs.active, releasableAt);
        COMMITTEES.stakeChanged(operator);
    }

    /// @inheritdoc IStaking
    function withdraw(address operator) external nonReentrant returns (uint256 amount) {
        Operator storage theirs = _operators[operator];
        Ticket memory ticket = _tickets[operator][theirs.unbondingNonce][msg.sender];
        Shares.Pool memory pool = theirs.unbonding;
        require(ticket.shares > 0, StakingNothingToWithdraw());
        require(block.timestamp >= ticket.releasableAt, StakingStillUnbonding(ticket.releasableAt));
        amount = Math.min(pool.toAssetsDown(ticket.shares), pool.assets);
        uint256 remaining = uint256(theirs.active) + pool.assets - amount;
        require(remaining >= theirs.locked, StakingStillLocked(remaining, theirs.locked));

        delete _tickets[operator][theirs.unbondingNonce][msg.sender];
        theirs.unbonding = Shares.Pool((pool.assets - amount).toUint128(), pool.shares - ticket.shares);
        emit Withdrawn(operator, msg.sender, amount);
        IERC20(TOKEN).safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IStaking
    function addCredit(uint256 amount) external nonReentrant {
        _credit(msg.sender, amount);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IStaking
    function withdrawCredit() external nonReentrant {
        uint256 amount = _credits[msg.sender];
        require(amount > 0, StakingNothingToWithdraw());
        _credits[msg.sender] = 0;
        emit CreditWithdrawn(msg.sender, amount);
        IERC20(TOKEN).safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IStaking
    function openDelegation(uint256 limit, uint16 commissionBps) external {
        _limits[msg.sender] = limit;
        emit DelegationOpened(msg.sender, limit);
        _setCommission(commissionBps);
    }

    /// @inheritdoc IStaking
    function setCommission(uint16 commissionBps) external {
        _setCommission(commissionBps);
    }

    /// @inheritdoc IStaking
    function setEndpoint(string calldata endpoint) external {
        uint256 length = bytes(endpoint).length;
        require(length <= MAX_ENDPOINT_BYTES, StakingEndpointTooLong(length, MAX_ENDPOINT_BYTES));
        _endpoints[msg.sender] = endpoint;
        emit EndpointChanged(msg.sender, endpoint);
    }

    /// @inheritdoc IStaking
    function secure(address operator, uint256 amount, uint256 fee) external {
        require(msg.sender == BATCHES, StakingUnauthorized(msg.sender));
        if (amount > 0) {
            Operator storage theirs = _operators[operator];
            (uint256 active, uint256 locked) = (theirs.active, theirs.locked);
            uint256 free = active > locked ? active - locked : 0;
            require(amount <= free, StakingInsufficientFree(free, amount));
            theirs.locked = uint104(locked + amount);
        }
        if (fee > 0) {
            uint256 available = _credits[operator];
            require(fee <= available, StakingInsufficientCredit(available, fee));
            _credits[operator] = available - fee;
        }
    }

    /// @inheritdoc IStaking
    function lockSeats(address[] calldata verifiers, uint256 amount, uint256 workSeconds, uint256 maxSeconds)
        external
        onlyJudges
        returns (Seat[] memory seats, uint256 doneBy)
    {
        seats = new Seat[](verifiers.length);
        uint256 latest = (block.timestamp + maxSeconds).toUint40();
        // Amounts of a token and seconds come nowhere near the end of a word.
        unchecked {
            for (uint256 i = 0; i < verifiers.length; ++i) {
                Operator storage theirs = _operators[verifiers[i]];
                uint256 word = _firstOf(theirs);
                (uint256 there, uint256 locked) = (uint104(word), uint104(word >> LOCKED_SHIFT));
                // Who leaves is drawn for a while yet, and what is leaving answers for it.
                if (there < locked + amount) there = (there + theirs.unbonding.assets).toUint104();
                uint256 locking = there > locked ? there - locked : 0;
                if (locking > amount) locking = amount;
                seats[i] = Seat(verifiers[i], locking.toUint96());
                uint256 busy = uint40(word >> BUSY_SHIFT);
                busy = (busy > block.timestamp ? busy : block.timestamp) + workSeconds;
                if (busy > latest) busy = latest;
                if (busy > doneBy) doneBy = busy;
                word = ((word >> DELEGATED_SHIFT) << DELEGATED_SHIFT) | uint104(word);
                _setFirst(theirs, word | (busy << BUSY_SHIFT) | ((locked + locking) << LOCKED_SHIFT));
            }
        }
    }

    /// @inheritdoc IStaking
    function busyUntil(address operator) external view returns (uint256) {
        return _operators[operator].busyUntil;
    }

    /// @inheritdoc IStaking
    function unlock(address operator, uint256 amount) external onlyJudges {
        Operator storage theirs = _operators[operator];
        theirs.locked = uint104(theirs.locked - Math.min(amount, theirs.locked));
    }

    /// @inheritdoc IStaking
    function paySeats(Seat[] calldata seats, uint256[] calldata rewards, bytes32 cause) external onlyJudges {
        emit SeatsPaid(cause, seats, rewards);
        for (uint256 i = 0; i < seats.length; ++i) {
            address verifier = seats[i].verifier;
            Operator storage theirs = _operators[verifier];
            uint256 word = _firstOf(theirs);
            bool delegated = word >> DELEGATED_SHIFT != 0;
            uint256 kept = rewards[i] == 0 ? 0 : _kept(theirs, delegated, verifier, rewards[i]);
            uint256 income = rewards[i] - kept;
            uint256 active = delegated ? uint104(word) : (uint104(word) + income).toUint104();
            (uint256 locked, uint256 freed) = (uint104(word >> LOCKED_SHIFT), seats[i].locked);
            locked = locked > freed ? locked - freed : 0;
            _setFirst(theirs, ((word >> BUSY_SHIFT) << BUSY_SHIFT) | (locked << LOCKED_SHIFT) | active);
            if (delegated) _income(theirs, verifier, income);
            if (kept > 0) _credit(verifier, kept);
        }
    }

    /// @inheritdoc IStaking
    function slash(address operator, uint256 amount, address beneficiary, uint256 compensation, bytes32 cause)
        external
        nonReentrant
        onlyJudgesOrInclusion
        returns (uint256 taken, uint256 compensated)
    {
        Operator storage theirs = _operators[operator];
        _release(theirs, operator);
        (uint256 active, uint256 unbonding) = (theirs.active, theirs.unbonding.assets);
        taken = Math.min(amount, active + unbonding);
        compensated = Math.min(compensation, taken / SHARED_DIVISOR);
        // In proportion, or those who were quick to leave would let the others pay.
        uint256 fromUnbonding = taken == 0 ? 0 : Math.mulDiv(taken, unbonding, active + unbonding, Math.Rounding.Ceil);
        active -= taken - fromUnbonding;
        unbonding -= fromUnbonding;
        theirs.active = active.toUint104();
        theirs.unbonding.assets = unbonding.toUint128();
        emit Slashed(operator, cause, amount, taken, compensated, taken - compensated, active, unbonding);
        uint256 burned = taken - compensated + _resetDust(theirs, operator);
        uint256 left = uint256(theirs.active) + theirs.unbonding.assets;
        if (theirs.locked > left) theirs.locked = left.toUint104();
        COMMITTEES.stakeChanged(operator);

        if (compensated > 0) IERC20(TOKEN).safeTransfer(beneficiary, compensated);
        if (burned > 0) TOKEN.burn(burned);
    }

    /// @inheritdoc IStaking
    function credit(address account, uint256 amount) external onlyJudges {
        _credit(account, amount);
    }

    /// @inheritdoc IStaking
    function burnFees(uint256 amount) external onlyJudges {
        TOKEN.burn(amount);
    }

    /// @inheritdoc IRewards
    function reward(address operator, uint256 amount) external {
        require(msg.sender == PAYMENTS || msg.sender == REQUESTS, StakingUnauthorized(msg.sender));
        Operator storage theirs = _operators[operator];
        _income(theirs, operator, amount);
        emit Rewarded(operator, amount, 0, theirs.active);
    }

    /// @inheritdoc IRewards
    function poolShareOf(address operator, uint256 amount) external view returns (uint256) {
        Operator storage theirs = _operators[operator];
        return theirs.delegated ? amount - _kept(theirs, true, operator, amount) : 0;
    }

    /// @inheritdoc IStaking
    function stakeOf(address operator) external view returns (Stake memory) {
        Operator storage theirs = _operators[operator];
        if (!theirs.delegated) return Stake(theirs.active, theirs.locked, theirs.unbonding.assets, theirs.active, 0);
        Release memory income = _releases[operator];
        uint256 released = _released(income);
        (uint256 own,) = delegationOf(operator, operator);
        return Stake(
            theirs.active + released, theirs.locked, theirs.unbonding.assets, own, income.amount - released
        );
    }

    /// @inheritdoc IStaking
    function ticketOf(address operator, address holder)
        external
        view
        returns (Ticket memory ticket, uint256 amount)
    {
        Operator storage theirs = _operators[operator];
        ticket = _tickets[operator][theirs.unbondingNonce][holder];
        Shares.Pool memory pool = theirs.unbonding;
        amount = Math.min(pool.toAssetsDown(ticket.shares), pool.assets);
    }

    /// @inheritdoc IStaking
    function freeStakeOf(address operator) external view returns (uint256) {
        Operator storage theirs = _operators[operator];
        return theirs.active > theirs.locked ? theirs.active - theirs.locked : 0;
    }

    /// @inheritdoc IStaking
    function creditOf(address account) external view returns (uint256) {
        return _credits[account];
    }

    /// @inheritdoc IStaking
    function endpointOf(address operator) external view returns (string memory) {
        return _endpoints[operator];
    }

    /// @inheritdoc IStaking
    function delegationLimitOf(address operator) external view returns (uint256) {
        return _limits[operator];
    }

    /// @inheritdoc IStaking
    function unbondingDelay() external view returns (uint256) {
        return UNBONDING_DELAY;
    }

    /// @inheritdoc IStaking
    function delegationOf(address operator, address holder) public view returns (uint256 amount, uint256 shares) {
        Operator storage theirs = _operators[operator];
        shares = _shares[operator][theirs.activeNonce][holder];
        Shares.Pool memory active = Shares.Pool(theirs.active, theirs.shares);
        if (theirs.delegated) active.assets += _released(_releases[operator]).toUint128();
        amount = Math.min(active.toAssetsDown(shares), active.assets);
    }

    /// @inheritdoc IStaking
    function announcedCommissionOf(address operator)
        external
        view
        returns (uint256 commissionBps, uint256 effectiveAt)
    {
        Operator storage theirs = _operators[operator];
        return (theirs.commissionBps, theirs.commissionFrom);
    }

    /// @inheritdoc IStaking
    function commissionOf(address operator) public view returns (uint256 commissionBps) {
        Operator storage theirs = _operators[operator];
        return block.timestamp < theirs.commissionFrom ? theirs.previousCommissionBps : theirs.commissionBps;
    }

    function _requireJudge() private view {
        require(
            msg.sender == BATCHES || msg.sender == FINALITY || msg.sender == APPEALS,
            StakingUnauthorized(msg.sender)
        );
    }

    function _deposit(address operator, uint256 amount) private returns (uint256 shares) {
        require(amount >= MIN_AMOUNT_WEI, StakingAmountTooSmall(amount, MIN_AMOUNT_WEI));
        Operator storage theirs = _operators[operator];
        _release(theirs, operator);
        Shares.Pool memory active = Shares.Pool(theirs.active, theirs.shares);
        shares = active.toSharesDown(amount);
        // Holds as long as a share is worth more than a whole deposit: never, but nobody shall pay for nothing.
        require(shares > 0, StakingAmountTooSmall(amount, MIN_AMOUNT_WEI));
        theirs.active = (active.assets + amount).toUint104();
        theirs.shares = (active.shares + shares).toUint128();
        _shares[operator][theirs.activeNonce][msg.sender] += shares;
        emit Staked(operator, msg.sender, amount, shares, theirs.active);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    // Slither does not see the call from `unbond`.
    // slither-disable-next-line dead-code
    function _addToTicket(Operator storage theirs, address operator, uint256 amount) private returns (uint64) {
        Shares.Pool memory pool = theirs.unbonding;
        Ticket storage ticket = _tickets[operator][theirs.unbondingNonce][msg.sender];
        uint256 minted = pool.toSharesDown(amount);
        theirs.unbonding = Shares.Pool((pool.assets + amount).toUint128(), (pool.shares + minted).toUint128());
        ticket.shares += minted.toUint128();
        ticket.releasableAt = (block.timestamp + UNBONDING_DELAY).toUint64();
        return ticket.releasableAt;
    }

    function _setCommission(uint16 commissionBps) private {
        require(
            commissionBps <= MAX_COMMISSION_BPS, StakingCommissionOutOfBounds(commissionBps, MAX_COMMISSION_BPS)
        );
        Operator storage mine = _operators[msg.sender];
        uint256 now_ = commissionOf(msg.sender);
        // A cut counts at once; so does the first one, when there is nobody whom it could surprise.
        uint256 from = commissionBps <= now_ || !mine.delegated ? block.timestamp : block.timestamp + UNBONDING_DELAY;
        mine.previousCommissionBps = uint16(now_);
        mine.commissionBps = commissionBps;
        mine.commissionFrom = from.toUint32();
        emit CommissionChanged(msg.sender, commissionBps, from);
    }

    /// @dev Adds what the pool has earned: at once where it is the operator's alone, else bit by bit. Later income does
    /// not hold back what was to be released before: the time left is the mean of both, weighted by the amounts.
    function _income(Operator storage theirs, address operator, uint256 amount) private {
        if (!theirs.delegated) {
            theirs.active = (theirs.active + amount).toUint104();
            return;
        }
        if (amount == 0) return;
        _release(theirs, operator);
        Release memory income = _releases[operator];
        uint256 total = income.amount + amount;
        uint256 left = Math.saturatingSub(income.until, block.timestamp);
        left = Math.ceilDiv(income.amount * left + amount * RELEASE_SECONDS, total);
        uint256 until = block.timestamp + left;
        _releases[operator] = Release(total.toUint104(), block.timestamp.toUint40(), until.toUint40());
    }

    /// @dev Adds to the pool what of its income has become its holders'. Nothing to do, or to read, where nobody
    /// delegates.
    function _release(Operator storage theirs, address operator) private {
        if (!theirs.delegated) return;
        Release storage income = _releases[operator];
        uint256 released = _released(income);
        if (released > 0) {
            (income.amount, income.since) = ((income.amount - released).toUint104(), block.timestamp.toUint40());
            _addReleased(theirs, operator, released);
        }
    }

    // The same.
    // slither-disable-next-line dead-code
    function _endDelegation(Operator storage theirs, address operator) private {
        uint256 rest = _releases[operator].amount;
        delete _releases[operator];
        theirs.delegated = false;
        if (rest > 0) _addReleased(theirs, operator, rest);
    }

    /// @dev A pool of nobody would keep it for ever.
    // The same.
    // slither-disable-next-line dead-code
    function _addReleased(Operator storage theirs, address operator, uint256 amount) private {
        if (theirs.shares == 0) _credit(operator, amount);
        else theirs.active = (theirs.active + amount).toUint104();
    }

    function _credit(address account, uint256 amount) private {
        uint256 total = _credits[account] + amount;
        _credits[account] = total;
        emit CreditAdded(account, amount, total);
    }

    /// @dev Voids the shares of pools that slashes have reduced to dust. Returns what was left in them.
    function _resetDust(Operator storage theirs, address operator) private returns (uint256 burned) {
        Shares.Pool memory active = Shares.Pool(theirs.active, theirs.shares);
        if (active.isDust()) {
            // With what its holders had yet to get.
            uint256 lost = active.assets + (theirs.delegated ? _releases[operator].amount : 0);
            burned += lost;
            if (theirs.delegated) delete _releases[operator];
            (theirs.active, theirs.shares, theirs.delegated) = (0, 0, false);
            ++theirs.activeNonce;
            emit PoolReset(operator, false, lost);
        }
        Shares.Pool memory unbonding = theirs.unbonding;
        if (unbonding.isDust()) {
            burned += unbonding.assets;
            theirs.unbonding = Shares.Pool(0, 0);
            ++theirs.unbondingNonce;
            emit PoolReset(operator, true, unbonding.assets);
        }
    }

    /// @dev What of a reward is not the pool's: the commission; everything when nobody has shares any more, because a
    /// pool of nobody would keep it for ever.
    function _kept(Operator storage theirs, bool delegated, address operator, uint256 amount)
        private
        view
        returns (uint256)
    {
        if (theirs.shares == 0) return amount;
        return delegated ? (amount * commissionOf(operator)) / BPS : 0;
    }

    /// @dev The first word, read and written as a whole: the compiler would go to storage for every member, in every
    /// draw and every payout of a seat.
    // slither-disable-start assembly,too-many-digits
    function _firstOf(Operator storage theirs) private view returns (uint256 word) {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            word := sload(theirs.slot)
        }
    }

    function _setFirst(Operator storage theirs, uint256 word) private {
        // solhint-disable-next-line no-inline-assembly
        assembly ("memory-safe") {
            sstore(theirs.slot, word)
        }
    }
    // slither-disable-end assembly,too-many-digits

    /// @dev What of an income is its holders' by now.
    function _released(Release memory income) private view returns (uint256) {
        if (block.timestamp >= income.until) return income.amount;
        return (income.amount * (block.timestamp - income.since)) / (income.until - income.since);
    }
}
