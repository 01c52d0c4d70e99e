#!/usr/bin/env bash
# Test robustness on several GPUs, or on several CPU ranks where there is no GPU:
#   tools/dist_robustness.sh CONFIG CHECKPOINT GPUS [options of tools/analysis/robustness.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT, the same command on each.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# *//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/launch.sh
. "$here/launch.sh" "$3"
exec "${LAUNCH[@]}" "$here/analysis/robustness.py" "$1" "$2" --launcher pytorch "${@:4}"
