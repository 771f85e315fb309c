#!/usr/bin/env bash
# Makes a cluster of one node with kind, with NRI on, and loads the agent's image into it. A cluster of that name
# that is there already is used. docs/how-to/test-on-a-cluster.md explains it.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CLUSTER=${CLUSTER:-cpuset-reconciler}
IMAGE=${IMAGE:-localhost/cpuset-reconciler:e2e}
IMAGE_ARCHIVE=${IMAGE_ARCHIVE:-}
NODE_IMAGE=${NODE_IMAGE:-}
ENGINE=${ENGINE:-docker}
KUBECONFIG_FILE=${KUBECONFIG_FILE:-$ROOT/build/kind/$CLUSTER.kubeconfig}

tell() { echo "kind-up: $*"; }

fail() {
    echo "kind-up: $*" >&2
    exit 1
}

check() {
    command -v kind >/dev/null || fail "kind is not installed"
    command -v "$ENGINE" >/dev/null || fail "$ENGINE is not installed, in which kind keeps its nodes"
    [[ -z $IMAGE_ARCHIVE || -r $IMAGE_ARCHIVE ]] || fail "IMAGE_ARCHIVE $IMAGE_ARCHIVE cannot be read"
}

# One node: several would be containers of one machine, and each would give its CPUs away.
cluster() {
    if kind get clusters 2>/dev/null | grep -qxF -- "$CLUSTER"; then
        tell "cluster $CLUSTER is there already"
        return
    fi
    kind create cluster --name "$CLUSTER" --wait 180s --kubeconfig "$KUBECONFIG_FILE" \
        ${NODE_IMAGE:+--image "$NODE_IMAGE"} --config - <<'EOF' || fail "kind could not make cluster $CLUSTER"
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
containerdConfigPatches:
  - |-
    [plugins."io.containerd.nri.v1.nri"]
      disable = false
EOF
}

image() {
    local archive=$IMAGE_ARCHIVE
    if [[ -z $archive ]]; then
        archive=$scratch/image.tar
        tell "building $IMAGE"
        "$ENGINE" build --quiet --file "$ROOT/deploy/Dockerfile" --tag "$IMAGE" "$ROOT" >/dev/null ||
            fail "$ENGINE could not build the image"
        "$ENGINE" save --output "$archive" "$IMAGE" || fail "$ENGINE could not save the image"
    fi
    kind load image-archive "$archive" --name "$CLUSTER" || fail "kind could not load the image"
}

check
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$(dirname "$KUBECONFIG_FILE")"
cluster
kind get kubeconfig --name "$CLUSTER" >"$scratch/kubeconfig" || fail "cluster $CLUSTER has no kubeconfig"
install -m 0600 "$scratch/kubeconfig" "$KUBECONFIG_FILE"
image
tell "cluster $CLUSTER is up: $KUBECONFIG_FILE"
