"""Settings and calibration's decisions after a restart."""

from types import SimpleNamespace

import pytest

from trine.chain import Challenge, Role
from trine.chain.calibration import CalibrationCalls
from trine.errors import InvalidInput
from trine.protocol.calibration import commitment
from trine.protocol.messages import ZERO_ADDRESS, Domain
from trine_node.settings import NodeSettings
from trine_operator.calibrate import Resume, resume, secret_of
from trine_verifier.settings import VerifierSettings
from trine_verifier.willing import Willing

REQUIRED = {"deployment": "d.json", "keystore": "k.json", "password_file": "p", "model": "m"}


TWO = "https://a.example/hunter2,https://b.example"


@pytest.fixture
def toml(tmp_path):
    def write(**values):
        file = tmp_path / "node.toml"
        file.write_text("\n".join(f"{name} = {value}" for name, value in values.items()))
        return file

    return write


def quoted(values):
    return {name: f'"{value}"' for name, value in values.items()}


def test_an_argument_beats_the_environment_beats_the_file_beats_the_default(toml, monkeypatch):
    file = toml(**quoted(REQUIRED), port=1001, batch_max_leaves=7)
    assert NodeSettings.load(file).port == 1001
    monkeypatch.setenv("TRINE_NODE_PORT", "1002")
    assert NodeSettings.load(file).port == 1002
    chosen = NodeSettings.load(file, port=1003)
    assert (chosen.port, chosen.batch_max_leaves, chosen.dtype) == (1003, 7, "fp32")


def test_limits_come_from_the_environment_too(toml, monkeypatch):
    monkeypatch.setenv("TRINE_NODE_LIMITS__MAX_WAITING", "3")
    assert NodeSettings.load(toml(**quoted(REQUIRED))).limits.max_waiting == 3


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"prot": 8000}, "prot"),
        ({"password": '"secret"'}, "password"),
        ({"port": 70_000}, "port"),
        ({"dtype": '"int4"'}, "dtype"),
        ({"batch_max_leaves": 257}, "batch_max_leaves"),
        ({"limits": "{max_waitin = 1}"}, "max_waitin"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_named(toml, wrong, named):
    with pytest.raises(InvalidInput, match=named):
        NodeSettings.load(toml(**quoted(REQUIRED), **wrong))


@pytest.mark.parametrize("settings", [NodeSettings, VerifierSettings])
def test_an_inference_server_has_an_address_and_its_key_comes_from_a_file(toml, tmp_path, settings):
    key = tmp_path / "key"
    key.write_text("very-secret\nnot this\n")
    server = {"engine": "vllm", "engine_url": "http://127.0.0.1:8000", "engine_api_key_file": str(key)}
    chosen = settings.load(toml(**quoted(REQUIRED | server)))
    assert (chosen.engine, chosen.engine_url, chosen.engine_api_key) == ("vllm", server["engine_url"], "very-secret")
    assert "very-secret" not in repr(chosen)
    assert settings.load(toml(**quoted(REQUIRED))).engine_api_key is None


@pytest.mark.parametrize("content", [None, "", "\nsecond line", "clé"])
def test_a_key_file_without_a_key_is_named(toml, tmp_path, content):
    key = tmp_path / "key"
    if content is not None:
        key.write_text(content)
    with pytest.raises(InvalidInput, match=r"engine_api_key_file: .*no key"):
        _ = NodeSettings.load(toml(**quoted(REQUIRED), engine_api_key_file=f'"{key}"')).engine_api_key


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"engine": "vllm"}, "engine_url: .*needed for the engines"),
        ({"engine_url": "http://127.0.0.1:8000"}, "engine_url: .*only for them"),
        ({"engine": "vllm", "engine_url": "127.0.0.1:8000"}, "engine_url"),
        ({"engine": "ollama", "engine_url": "http://127.0.0.1:8000"}, "engine"),
        ({"engine_api_key": "secret"}, "engine_api_key"),
        ({"engine_timeout_seconds": "0"}, "engine_timeout_seconds"),
    ],
)
def test_an_engine_that_is_half_chosen_is_named(toml, wrong, named):
    with pytest.raises(InvalidInput, match=named):
        NodeSettings.load(toml(**quoted(REQUIRED | wrong)))


@pytest.mark.parametrize("settings", [NodeSettings, VerifierSettings])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_an_address_that_nobody_can_reach_is_not_registered(toml, settings, host):
    with pytest.raises(InvalidInput, match=r"settings: host .* is no address that others can reach: set public_url"):
        settings.load(toml(**quoted(REQUIRED), host=f'"{host}"'))
    public = settings.load(toml(**quoted(REQUIRED), host=f'"{host}"', public_url='"https://node.example"'))
    assert public.endpoint == "https://node.example"


def test_a_public_url_is_one(toml):
    with pytest.raises(InvalidInput, match="public_url"):
        NodeSettings.load(toml(**quoted(REQUIRED), public_url='"node.example"'))


@pytest.mark.parametrize("given", [f'"{TWO}"', '["https://a.example/hunter2", "https://b.example"]'])
def test_rpc_endpoints_are_a_list_or_have_commas_between(toml, given, monkeypatch):
    assert NodeSettings.load(toml(**quoted(REQUIRED), rpc_url=given)).rpc_url == TWO
    monkeypatch.setenv("TRINE_VERIFIER_RPC_URL", TWO.replace(",", " , "))
    assert VerifierSettings.load(toml(**quoted(REQUIRED))).rpc_url == TWO


@pytest.mark.parametrize("given", ["[]", '" , "'])
def test_no_rpc_endpoint_is_named(toml, given):
    with pytest.raises(InvalidInput, match="rpc_url: no RPC endpoint is given"):
        NodeSettings.load(toml(**quoted(REQUIRED), rpc_url=given))


@pytest.mark.parametrize(("given", "read"), [("0", 0), ("12", 12), ('"safe"', "safe"), ('"finalized"', "finalized")])
def test_confirmations_are_a_depth_or_a_tag(toml, given, read):
    assert NodeSettings.load(toml(**quoted(REQUIRED), confirmations=given)).confirmations == read


@pytest.mark.parametrize("given", ["-1", '"latest"', '"soon"'])
def test_other_confirmations_are_named(toml, given):
    with pytest.raises(InvalidInput, match="confirmations"):
        NodeSettings.load(toml(**quoted(REQUIRED), confirmations=given))


def test_the_key_of_an_rpc_endpoint_is_not_in_what_settings_show_of_themselves(toml):
    assert "hunter2" not in repr(NodeSettings.load(toml(**quoted(REQUIRED), rpc_url='"https://rpc.example/hunter2"')))


@pytest.mark.parametrize("settings", [NodeSettings, VerifierSettings])
def test_what_is_missing_is_named_with_where_to_give_it(toml, settings):
    prefix = settings.model_config["env_prefix"]
    named = rf"missing: deployment .*, keystore \(Web3 .*, password_file .*--config, .* {prefix}DEPLOYMENT"
    with pytest.raises(InvalidInput, match=named):
        settings.load(toml(model='"m"'))


def test_a_broken_file_is_named(tmp_path):
    file = tmp_path / "node.toml"
    file.write_text("port = ")
    with pytest.raises(InvalidInput, match=r"node\.toml"):
        NodeSettings.load(file)


NOW, BLOCK = 10_000, 500
SEED, BATCH = bytes([1]) * 32, bytes([2]) * 32


@pytest.mark.parametrize(
    ("seed_block", "deadline", "seed", "batch", "stored", "todo"),
    [
        (BLOCK + 1, NOW + 500, bytes(32), bytes(32), None, Resume.ANSWER),  # killed right after asking
        (BLOCK - 20, NOW + 500, SEED, bytes(32), None, Resume.ANSWER),  # killed while answering
        (BLOCK - 300, NOW + 500, SEED, bytes(32), None, Resume.ANSWER),  # the seed is kept on the chain
        (BLOCK - 300, NOW + 500, bytes(32), bytes(32), None, Resume.ASK_ANEW),  # the chain forgot the seed
        (BLOCK - 20, NOW + 5, SEED, bytes(32), None, Resume.ASK_ANEW),  # too little time left
        (BLOCK - 20, NOW + 500, SEED, bytes(32), "sealed", Resume.AWAIT_RESULT),  # the batcher will anchor it
        (BLOCK - 20, NOW - 5, SEED, BATCH, "anchored", Resume.AWAIT_RESULT),
        (BLOCK - 20, NOW + 500, SEED, BATCH, "settled", Resume.ASK_ANEW),  # it failed
        (BLOCK - 20, NOW + 500, SEED, BATCH, "void", Resume.ASK_ANEW),
        (BLOCK - 20, NOW + 500, SEED, BATCH, None, Resume.ASK_ANEW),  # the store with the evidence is gone
    ],
)
def test_what_a_restart_does_about_an_open_challenge(seed_block, deadline, seed, batch, stored, todo):
    challenge = Challenge(
        ZERO_ADDRESS, Role.NODE, bytes(32), seed_block, deadline, 1, bytes(32), bytes(32), seed, batch
    )
    assert resume(challenge, stored, BLOCK, NOW) is todo


def test_what_a_verifier_may_pass_on_and_put_up_is_bounded(toml):
    settings = VerifierSettings.load(toml(**quoted(REQUIRED), appeal_at_risk=0.5, appeal_dissents="false"))
    assert settings.willing == Willing(False, 0.95, 10**18 // 2)
    for name, value in {
        "pass_on_mb": -1,
        "pass_on_batch_mb": 65,
        "appeal_least_chance": 0,
        "appeal_at_risk": -1,
    }.items():
        with pytest.raises(InvalidInput, match=name):
            VerifierSettings.load(toml(**quoted(REQUIRED), **{name: value}))


class _Signs:
    """A chain as far as an operator's calibration secrets go."""

    def __init__(self, key):
        self.domain, self.deployment = Domain(31337, ZERO_ADDRESS), SimpleNamespace(address=lambda name: ZERO_ADDRESS)
        self.key = key

    def sign(self, digest):
        return self.key + digest

    def calibration_secret(self, model_id, role, number):
        return CalibrationCalls.calibration_secret(self, model_id, role, number)


def _committed(key, number, role=Role.NODE):
    secret = _Signs(key).calibration_secret(bytes(32), role, number)
    return secret, Challenge(
        ZERO_ADDRESS, role, bytes(32), BLOCK, NOW, 1, bytes(32), commitment(secret), bytes(32), bytes(32)
    )


@pytest.mark.parametrize("known", [0, 3, 4, 5, 8])
def test_a_restart_finds_the_secret_of_its_challenge_though_it_counted_wrong_then(known):
    candidate = SimpleNamespace(chain=_Signs(b"ours"), model=SimpleNamespace(model_id=bytes(32)))
    secret, challenge = _committed(b"ours", known)
    assert secret_of(candidate, Role.NODE, challenge, 4) == secret


def test_no_secret_is_found_for_a_challenge_of_another_key_or_role_or_time():
    candidate = SimpleNamespace(chain=_Signs(b"ours"), model=SimpleNamespace(model_id=bytes(32)))
    for foreign in (_committed(b"theirs", 4), _committed(b"ours", 4, Role.VERIFIER), _committed(b"ours", 400)):
        assert secret_of(candidate, Role.NODE, foreign[1], 4) is None
