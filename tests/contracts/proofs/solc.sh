#!/bin/sh
# The compiler as Forge expects it, a native program: npm's solc behind its command line.
exec node "$(dirname "$0")/solc.cjs" "$@"
