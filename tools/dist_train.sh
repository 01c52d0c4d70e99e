#!/usr/bin/env bash
# Train on several GPUs, or on several CPU ranks where there is no GPU:
#   tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT, the same command on each.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# *//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/launch.sh
. "$here/launch.sh" "$2"
exec "${LAUNCH[@]}" "$here/train.py" "$1" --launcher pytorch "${@:3}"
