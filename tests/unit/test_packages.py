"""What the packages promise about themselves."""

import json
import subprocess
import sys

import trine
from trine.chain.sender import decode_error


def test_the_sdk_needs_no_torch_and_no_server():
    code = "import sys, json, trine, trine.cli, trine.audit; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(shown.stdout))
    assert not loaded & {"torch", "transformers", "fastapi", "sqlalchemy"}


def test_public_names_are_sorted_and_exist():
    assert trine.__all__ == sorted(trine.__all__)
    assert all(hasattr(trine, name) for name in trine.__all__)


def test_custom_errors_are_decoded_with_their_arguments():
    data = "0x" + "eb6b4a6c"
    assert decode_error(data) is None
    from eth_utils.crypto import keccak

    selector = keccak(text="BatchesDeadlinePassed(uint256)")[:4].hex()
    assert decode_error("0x" + selector + f"{77:064x}") == "BatchesDeadlinePassed(77)"
    assert decode_error("0x" + selector) == "BatchesDeadlinePassed"
    assert decode_error(None) is None


def test_nested_brackets_end_in_an_error_and_not_in_the_process():
    code = (
        "from trine.errors import InvalidInput\n"
        "from trine.protocol.inputs import parse_input\n"
        "try: parse_input(b'[' * 1_000_000)\n"
        "except InvalidInput: print('refused')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (shown.returncode, shown.stdout) == (0, "refused\n")
