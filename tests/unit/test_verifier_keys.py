"""BLS keys of verifiers: made, shown, registered, rotated, refused; against a real chain."""

import json

import pytest
from chain_support import devnet, funded
from click.testing import CliRunner

from trine.chain.bls_keystore import create_bls_keystore
from trine.chain.verifier_keys import KeyState, register_key
from trine.cli import build
from trine.errors import InvalidInput, NotReady
from trine.protocol import bls
from trine_devnet.network import SCRYPT_N
from trine_verifier.keys import TODO, examine_signing_key, load_signing_key, register_signing_key
from trine_verifier.settings import VerifierSettings

FIRST, SECOND = bls.SecretKey(0xF1257), bls.SecretKey(0x5EC0D)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("keys") / "devnet") as running:
        yield running


@pytest.fixture
def chain(network):
    return network.chain(funded(network, 0))


def run(*arguments):
    return CliRunner().invoke(build(), [str(each) for each in arguments])


def settings_of(network, tmp_path, account, secret):
    """Of a verifier whose account and BLS key are in keystores."""
    from trine.chain import create_keystore

    create_keystore(tmp_path / "account.json", network.password_file.read_text(), account.key, iterations=SCRYPT_N)
    create_bls_keystore(tmp_path / "bls.json", network.password_file.read_text(), secret, iterations=SCRYPT_N)
    return VerifierSettings(
        rpc_url=network.rpc_url,
        deployment=network.deployment_file,
        keystore=tmp_path / "account.json",
        password_file=network.password_file,
        bls_keystore=tmp_path / "bls.json",
        bls_password_file=network.password_file,
        model=network.record.name,
    )


def test_a_key_is_registered_once_and_read_back(chain):
    assert chain.key_of(chain.address) is None
    assert chain.key_state(chain.address, FIRST.public_key()) is KeyState.ABSENT
    secret = bls.SecretKey(0xA11CE)
    assert register_key(chain, secret)
    nonce = chain.gateway().nonce()
    assert not register_key(chain, secret)
    assert chain.gateway().nonce() == nonce  # nothing was sent
    assert chain.key_of(chain.address) == secret.public_key()
    assert chain.key_state(chain.address, secret.public_key()) is KeyState.REGISTERED


def test_another_key_is_refused_unless_it_is_to_rotate_and_the_old_one_never_comes_back(chain):
    register_key(chain, FIRST)
    with pytest.raises(NotReady, match="register --rotate"):
        register_key(chain, SECOND)
    assert chain.key_of(chain.address) == FIRST.public_key()
    assert register_key(chain, SECOND, rotate=True)
    assert chain.key_of(chain.address) == SECOND.public_key()
    with pytest.raises(InvalidInput, match="cannot be registered again"):
        register_key(chain, FIRST, rotate=True)


def test_a_key_of_another_operator_is_refused(network, chain):
    secret = bls.SecretKey(0xB0B)
    register_key(chain, secret)
    other = network.chain(funded(network, 0))
    with pytest.raises(InvalidInput, match="make a new one"):
        register_key(other, secret)


def test_a_verifier_registers_at_its_start_and_its_check_says_the_state(network, tmp_path):
    account = funded(network, 0)
    settings = settings_of(network, tmp_path, account, bls.SecretKey(0xCA201))
    secret, chain = load_signing_key(settings), network.chain(account)
    (before,) = examine_signing_key(settings)
    assert "`trine verifier run` will register it" in before.found
    assert before.todo is None
    register_signing_key(chain, secret)
    (after,) = examine_signing_key(settings)
    assert after.found.endswith("registered")
    register_key(chain, bls.SecretKey(0xDA7E), rotate=True)
    (taken,) = examine_signing_key(settings)
    assert taken.todo == TODO[KeyState.TAKEN]
    with pytest.raises(InvalidInput):
        register_signing_key(chain, secret)


def test_without_a_key_a_verifier_votes_and_says_so(network, tmp_path):
    settings = settings_of(network, tmp_path, funded(network, 0), FIRST)
    settings = settings.model_copy(update={"bls_keystore": None, "bls_password_file": None})
    assert load_signing_key(settings) is None
    (finding,) = examine_signing_key(settings)
    assert finding.todo is None
    assert "votes on the chain" in finding.found


def test_a_keystore_without_its_password_is_no_settings(network):
    with pytest.raises(InvalidInput, match="given together"):
        VerifierSettings.load(None, deployment="d", keystore="k", password_file="p", model="m", bls_keystore="b.json")


def test_the_check_names_what_is_wrong_with_a_keystore(network, tmp_path):
    settings = settings_of(network, tmp_path, funded(network, 0), FIRST)
    missing = settings.model_copy(update={"bls_keystore": tmp_path / "none.json"})
    (finding,) = examine_signing_key(missing)
    assert "trine keys bls new" in finding.found
    assert finding.todo


def test_the_commands_make_show_register_and_rotate(network, tmp_path):
    account = funded(network, 0)
    settings_of(network, tmp_path, account, FIRST)
    password = ["--password-file", network.password_file]
    made = run("keys", "bls", "new", tmp_path / "new.json", *password)
    assert made.exit_code == 0, made.output
    shown = run("keys", "bls", "show", tmp_path / "new.json")
    assert made.output.strip() in shown.output
    account_options = [
        "--rpc-url", network.rpc_url, "--deployment", network.deployment_file,
        "--keystore", tmp_path / "account.json", *password,
    ]  # fmt: skip
    registered = run("keys", "bls", "register", tmp_path / "new.json", *account_options)
    assert registered.exit_code == 0, registered.output
    key = bls.expand_key(bytes.fromhex(made.output.strip()[2:]))
    assert network.chain().key_of(account.address) == key
    again = run("keys", "bls", "register", tmp_path / "new.json", *account_options)
    assert "was registered already" in again.output
    run("keys", "bls", "new", tmp_path / "newer.json", *password)
    refused = run("keys", "bls", "register", tmp_path / "newer.json", *account_options)
    assert refused.exit_code != 0
    assert network.chain().key_of(account.address) == key
    rotated = run("keys", "bls", "register", tmp_path / "newer.json", *account_options, "--rotate")
    assert rotated.exit_code == 0, rotated.output
    assert network.chain().key_of(account.address) != key


@pytest.mark.parametrize(
    "content", ["{}", '{"pubkey": "zz"}', "[]", '{"pubkey": 7}', json.dumps({"pubkey": "00" * 96})]
)
def test_what_is_no_bls_keystore_is_not_shown(tmp_path, content):
    (tmp_path / "k.json").write_text(content)
    shown = run("keys", "bls", "show", tmp_path / "k.json")
    assert shown.exit_code != 0
    assert "Traceback" not in shown.output
