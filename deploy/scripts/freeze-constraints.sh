#!/usr/bin/env bash
# Writes the versions that are installed now into constraints.txt.
set -euo pipefail
{
    echo "# Exact versions of everything that \`make setup\` installs. After a change: make setup && make constraints"
    .venv/bin/python -m pip freeze --exclude-editable | sed 's/^torch==\([0-9.]*\).*/torch==\1/' | sort -f
} > constraints.txt.new
mv constraints.txt.new constraints.txt
