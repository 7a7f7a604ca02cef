#!/usr/bin/env bash
# Makes the virtual environment, with uv, and Node.js where the machine's is not new enough for what is named: runtime or
# ready. Idempotent. PYTHON names the interpreter, VENV the folder. `check`: only whether those two fit together.
set -euo pipefail

what="${1:-runtime}"
venv="${VENV:-.venv}"
python="${PYTHON:-python3}"
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
minor() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

if [ "$what" = check ] && [ ! -e "$venv" ]; then exit 0; fi
if [ ! -e "$venv" ]; then
    command -v "$python" >/dev/null || fail "there is no $python: install Python 3.11 or newer, or name one: PYTHON=…"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail \
        "$("$python" --version 2>&1) is too old: Trine needs Python 3.11 or newer; name one: make demo PYTHON=python3.12"
    echo "==> Python $(minor "$python"): a virtual environment in $venv"
    if ! problem=$("$python" -m venv "$venv" 2>&1); then
        rm -rf "$venv"
        case "$problem" in
            *ensurepip* | *"No module named venv"*)
                fail "$python cannot make virtual environments: install its venv module (Debian: apt install python3-venv)" ;;
            *) fail "no virtual environment in $venv: $(tail -n 1 <<< "$problem")" ;;
        esac
    fi
fi
found=$(minor "$venv/bin/python") || fail "the Python in $venv does not run any more: rm -r $venv, then try again"
if [ -n "${PYTHON:-}" ]; then
    command -v "$python" >/dev/null || fail "there is no $python"
    [ "$(minor "$python")" = "$found" ] || fail \
        "$venv has Python $found, but PYTHON=$python is $(minor "$python"): rm -r $venv first, or set VENV to another folder"
fi
if [ "$what" = check ]; then exit 0; fi
exec "$venv/bin/python" deploy/scripts/install.py "$(bash deploy/scripts/setup-node.sh which "$what")"
