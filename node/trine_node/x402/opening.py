"""Opens a node's door for x402: reads the token and the chain's terms, and refuses what could not be charged."""

from __future__ import annotations

from trine.chain import Chain, Model
from trine_node.settings import X402
from trine_node.x402.asset import Asset
from trine_node.x402.door import Door
from trine_node.x402.ledger import Caps, Ledger
from trine_node.x402.terms import Terms, valid_seconds
from trine_operator.store import Store


def open_door(
    settings: X402, chain: Chain, store: Store, model: Model, *, url: str, anchor_within_seconds: int
) -> Door:
    """`url`: where the node is reached. Raises InvalidInput for a token that x402 cannot pay in, ChainError."""
    caps = Caps(settings.max_unsettled, settings.max_unsettled_per_payer)
    return Door(chain, store, Ledger(store), terms_of(settings, chain, model, anchor_within_seconds), caps, url)


def terms_of(settings: X402, chain: Chain, model: Model, anchor_within_seconds: int) -> Terms:
    """Raises InvalidInput for a token that x402 cannot pay in, ChainError."""
    asset = Asset(chain, settings.asset or chain.deployment.address("TrineToken"))
    name, version = asset.domain(settings.asset_name, settings.asset_version)
    price = settings.units_per_million_tokens
    return Terms(
        chain_id=chain.domain.chain_id,
        asset=asset.address,
        name=name,
        version=version,
        pay_to=chain.address,
        units_per_million_tokens=model.price_per_token_wei * 10**6 if price is None else price,
        min_units=settings.min_units,
        valid_seconds=valid_seconds(chain.parameters(), anchor_within_seconds),
    )
