"""The BLS key of a verifier, which signs results: opened and registered at the start, examined before it."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from trine.chain import Chain
from trine.chain.bls_keystore import load_bls_keystore
from trine.chain.verifier_keys import KeyState, RegistersKeys, register_key
from trine.errors import TrineError
from trine.protocol import bls
from trine_node.examination import Finding
from trine_operator.opening import open_chain
from trine_verifier.settings import VerifierSettings

log = structlog.get_logger()

NONE = "none: the verifier votes on the chain, which costs more gas; `trine keys bls new` makes one"
TODO = {
    KeyState.OTHER: "give the one that is registered, or replace it: `trine keys bls register --rotate`",
    KeyState.TAKEN: "make a new one: `trine keys bls new`",
}


def load_signing_key(settings: VerifierSettings) -> bls.SecretKey | None:
    """None where the settings name no key. Raises InvalidInput."""
    if settings.bls_keystore is None or settings.bls_password_file is None:
        return None
    return load_bls_keystore(settings.bls_keystore, settings.bls_password_file)


def register_signing_key(chain: RegistersKeys, secret: bls.SecretKey | None) -> None:
    """Registers the key if the chain holds none. Raises NotReady, InvalidInput: see `register_key`."""
    if secret is None:
        log.info("no_signing_key", hint=NONE)
    elif register_key(chain, secret):
        log.info("signing_key_registered", key_hash="0x" + bls.key_hash(secret.public_key()).hex())


def examine_signing_key(settings: VerifierSettings) -> Iterator[Finding]:
    """What `trine verifier check` says of the key."""
    try:
        secret = load_signing_key(settings)
    except TrineError as error:
        yield Finding("BLS key", str(error), "see the settings bls_keystore and bls_password_file")
        return
    if secret is None:
        yield Finding("BLS key", NONE)
        return
    chain: Chain = open_chain(settings)
    state = chain.key_state(chain.address, secret.public_key())
    later = "; `trine verifier run` will register it" if state is KeyState.ABSENT else ""
    yield Finding("BLS key", f"0x{bls.key_hash(secret.public_key()).hex()}, {state.value}{later}", TODO.get(state))
