# Sourced by dist_train.sh, dist_test.sh and dist_robustness.sh with the number of ranks: sets LAUNCH.
ranks=$1
case $ranks in
    '' | *[!0-9]*)
        echo "expected a number of ranks, found '$ranks'" >&2
        exit 2
        ;;
esac
python=${PYTHON:-$(command -v python || command -v python3)}
cores=$(getconf _NPROCESSORS_ONLN)
# The ranks share the cores; torchrun's own default is one thread each.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > ranks ? cores / ranks : 1))}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}

LAUNCH=("$python" -m torch.distributed.run "--nproc_per_node=$ranks")
if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    # A free port: two trainings on one machine must not meet.
    LAUNCH+=(--standalone)
else
    LAUNCH+=("--nnodes=${NNODES:-1}" "--node_rank=${NODE_RANK:-0}")
    LAUNCH+=("--master_addr=${MASTER_ADDR:-127.0.0.1}" "--master_port=${PORT:-29500}")
fi
