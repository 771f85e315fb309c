#!/usr/bin/env bash
# Plays the scenarios on a cluster that kind makes, and deletes it again: hack/kind-e2e.sh [PATTERN...].
# A cluster that was there before stays; KEEP=1 keeps one that was made too.
# docs/how-to/test-on-a-cluster.md explains it.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CLUSTER=${CLUSTER:-cpuset-reconciler}
export IMAGE=${IMAGE:-localhost/cpuset-reconciler:e2e}
export KUBECONFIG_FILE=${KUBECONFIG_FILE:-$ROOT/build/kind/$CLUSTER.kubeconfig}
KEEP=${KEEP:-}

cleanup() {
    local code=$?
    trap '' INT TERM
    trap - EXIT
    if [[ -n $KEEP ]]; then
        echo "kind-e2e: cluster $CLUSTER is kept: $KUBECONFIG_FILE"
    elif ! kind delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG_FILE"; then
        echo "kind-e2e: cluster $CLUSTER is still there: kind delete cluster --name $CLUSTER" >&2
        ((code)) || code=1
    else
        rm -f "$KUBECONFIG_FILE"
    fi
    exit "$code"
}

command -v kind >/dev/null || {
    echo "kind-e2e: kind is not installed" >&2
    exit 1
}
trap 'exit 130' INT
trap 'exit 143' TERM
if ! kind get clusters 2>/dev/null | grep -qxF -- "$CLUSTER"; then
    trap cleanup EXIT
fi
"$ROOT/hack/kind-up.sh"
"$ROOT/hack/e2e-live.sh" "$KUBECONFIG_FILE" "$@"
