"""Registration files of ERC-8004: what is written is read, and what strangers wrote is bounded and refused by name."""

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.registration import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    TYPE,
    Place,
    Registration,
    Service,
    in_data_uri,
    require_web_address,
)

REGISTRY = "0x8004A169FB4a3325136EB29fA0ceB6D2e539a432"
PLACE = Place(31337, REGISTRY, 7)
# As the ERC shows one, with what Trine does not know.
EXAMPLE = {
    "type": TYPE,
    "name": "myAgentName",
    "description": "A natural language description of the Agent",
    "image": "https://example.com/agentimage.png",
    "services": [
        {"name": "A2A", "endpoint": "https://agent.example/.well-known/agent-card.json", "version": "0.3.0"},
        {"name": "OASF", "endpoint": "ipfs://cid", "version": "0.8", "skills": [], "domains": []},
        {"name": "email", "endpoint": "mail@myagent.com"},
    ],
    "x402Support": False,
    "active": True,
    "registrations": [{"agentId": 22, "agentRegistry": f"eip155:1:{REGISTRY.lower()}"}],
    "supportedTrust": ["reputation", "crypto-economic", "tee-attestation"],
    "somethingNew": {"of": "others"},
}
texts = st.text(max_size=40)
names = st.text(min_size=1, max_size=40)
services = st.builds(Service, names, names, texts)
places = st.builds(Place, st.integers(1, 2**31), st.just(REGISTRY), st.integers(0, 2**256 - 1))
registrations = st.builds(
    Registration,
    name=names,
    description=texts,
    image=texts,
    services=st.lists(services, max_size=5).map(tuple),
    registrations=st.lists(places, max_size=3).map(tuple),
    supported_trust=st.lists(names, max_size=3).map(tuple),
    active=st.booleans(),
    x402_support=st.booleans(),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(registrations)
def test_what_is_written_is_read(said):
    assert Registration.parse(said.to_text().encode()) == said
    assert Registration.parse(in_data_uri(said.data_uri())) == said


def test_the_ercs_own_example_is_read():
    said = Registration.from_json(EXAMPLE)
    assert said.names(Place(1, REGISTRY, 22))
    assert not said.names(Place(10, REGISTRY, 22))
    assert [service.name for service in said.services] == ["A2A", "OASF", "email"]
    assert said.reaches("https://agent.example")
    assert not said.reaches("https://agent.exampl")


@given(json_values, st.sampled_from([*EXAMPLE, "nothing"]))
def test_nothing_that_a_stranger_writes_is_more_than_refused(value, field):
    document = EXAMPLE | {field: value} if field in EXAMPLE else value
    with suppress(InvalidInput):
        Registration.from_json(document)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_file_are_refused(raw):
    with pytest.raises(InvalidInput):
        Registration.parse(raw)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "something else"}, "type: expected"),
        ({"name": ""}, "name: 0 characters"),
        ({"name": None}, "name: missing"),
        ({"description": "x" * 4_097}, "description: 4097 characters"),
        ({"services": [{"name": "web"}]}, "endpoint: missing"),
        ({"services": [{"name": "web", "endpoint": "x" * 2_049}]}, "endpoint of web: 2049"),
        ({"services": [{}] * (MAX_ENTRIES + 1)}, "services: 65 entries"),
        ({"services": ["web"]}, "services: expected objects"),
        ({"registrations": {}}, "registrations: no list"),
        ({"registrations": [{"agentId": True, "agentRegistry": f"eip155:1:{REGISTRY}"}]}, "agentId is no number"),
        ({"registrations": [{"agentId": -1, "agentRegistry": f"eip155:1:{REGISTRY}"}]}, "agentId is no number"),
        ({"registrations": [{"agentId": 1, "agentRegistry": "eip155:1:0x12"}]}, "is no registry"),
        ({"registrations": [{"agentId": 1, "agentRegistry": f"solana:1:{REGISTRY}"}]}, "is no registry"),
        ({"supportedTrust": [1]}, "supportedTrust: expected texts"),
    ],
)
def test_what_is_wrong_is_named(change, said):
    with pytest.raises(InvalidInput, match=said):
        Registration.from_json(EXAMPLE | change)


def test_a_file_is_bounded_in_bytes_and_in_depth():
    with pytest.raises(InvalidInput, match="at most"):
        Registration.parse(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(InvalidInput, match="is JSON"):
        Registration.parse(b"[" * (MAX_FILE_BYTES - 1))


def test_a_data_uri_may_be_base64_or_percent_encoded():
    raw = json.dumps(EXAMPLE).encode()
    assert in_data_uri("data:application/json;base64," + base64.b64encode(raw).decode()) == raw
    assert in_data_uri("data:application/json,%7B%22a%22:1%7D") == b'{"a":1}'
    for uri in ("data:application/json", "data:text/html,<b>", "data:application/json;base64,?", "data:,x"):
        with pytest.raises(InvalidInput):
            in_data_uri(uri)
    with pytest.raises(InvalidInput, match="more than any"):
        in_data_uri("data:application/json;base64," + "A" * (2 * MAX_FILE_BYTES))


def test_services_on_a_command_line():
    assert Service.of("MCP@2025-06-18=https://mcp.example") == Service("MCP", "https://mcp.example", "2025-06-18")
    assert Service.of("web=https://a.example/?b=c") == Service("web", "https://a.example/?b=c")
    for text in ("", "web", "=https://a.example", "web="):
        with pytest.raises(InvalidInput, match="is no service"):
            Service.of(text)


@pytest.mark.parametrize(
    "address",
    ["", "ftp://a.example", "https://", "https://user:secret@a.example", "https://a.example/ b", "http://[::1"],
)
def test_only_plain_addresses_of_http_are_taken(address):
    with pytest.raises(InvalidInput, match="no address of HTTP"):
        require_web_address("the file's address", address)
