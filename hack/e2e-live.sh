#!/usr/bin/env bash
# Plays the scenarios on one node of a live cluster, with an agent that it brings, and takes all of it away
# again: hack/e2e-live.sh KUBECONFIG [PATTERN...]. docs/how-to/test-on-a-cluster.md explains it.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TEST_NS=${TEST_NS:-wekaplugin-e2e}
AGENT_NS=$TEST_NS-agent
AGENT=app.kubernetes.io/name=cpuset-reconciler
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
PATIENCE=${PATIENCE:-180}
IMAGE=${IMAGE:-}
NODE=${NODE:-}
OVERLAY=${OVERLAY:-}

made=()
scratch=

tell() { echo "e2e-live: $*"; }

fail() {
    echo "e2e-live: $*" >&2
    exit 1
}

usage() {
    echo "usage: IMAGE=NAME [NODE=NAME] [OVERLAY=DIR] [TEST_NS=NAME] [PATIENCE=SECONDS]" \
        "hack/e2e-live.sh KUBECONFIG [PATTERN...]" >&2
    echo "e2e-live: $*" >&2
    exit 2
}

# What kubectl says, or the script's end with the last line of its complaint.
ask() {
    local why=$1 said
    shift
    said=$(kubectl "$@" 2>"$scratch/complaint") || fail "$why: $(tail -n 1 "$scratch/complaint")"
    printf '%s\n' "$said"
}

cleanup() {
    local code=$? namespace failed=
    trap '' INT TERM
    trap - EXIT
    # The scenarios' pods go while the agent is there to see it; then what it did to the others is undone.
    for namespace in "${made[@]}"; do
        if [[ $namespace == "$AGENT_NS" ]]; then
            tell "giving the node's containers their CPUs back"
            give_back || failed="not every container of node $NODE has its CPUs back: cpuset-reconciler restore --cpus all"
        fi
        tell "deleting namespace $namespace"
        kubectl delete namespace "$namespace" --timeout="${PATIENCE}s" >/dev/null ||
            failed="namespace $namespace is still there: kubectl delete namespace $namespace"
    done
    [[ -z $scratch ]] || rm -rf "$scratch"
    if [[ -n $failed ]]; then
        echo "e2e-live: $failed" >&2
        ((code)) || code=1
    fi
    exit "$code"
}

# A pod made of the agent's own, so that it has the same mounts: `restore` runs once the agent is gone.
give_back() {
    local agent=$scratch/daemonset.json
    kubectl --namespace "$AGENT_NS" get daemonset --selector "$AGENT" --output json >"$agent" || return 1
    # It may have come to nothing before there was one.
    grep -q '"DaemonSet"' "$agent" || return 0
    kubectl --namespace "$AGENT_NS" delete daemonset --selector "$AGENT" --cascade=foreground \
        --timeout="${PATIENCE}s" >/dev/null || return 1
    "$PYTHON" -m hack.e2e.restoring "$NODE" <"$agent" >"$scratch/restore.json" || return 1
    kubectl --namespace "$AGENT_NS" create --filename "$scratch/restore.json" >/dev/null || return 1
    if ! kubectl --namespace "$AGENT_NS" wait pod/restore --for=jsonpath='{.status.phase}'=Succeeded \
        --timeout="${PATIENCE}s" >/dev/null; then
        kubectl --namespace "$AGENT_NS" logs pod/restore >&2 || true
        return 1
    fi
}

check_arguments() {
    (($# >= 1)) || usage "name the cluster's kubeconfig"
    [[ -r $1 ]] || usage "kubeconfig $1 cannot be read"
    [[ -n $IMAGE ]] || usage "name the agent's image, which the node has or can pull, with IMAGE"
    [[ $TEST_NS =~ ^[a-z0-9]([-a-z0-9]{0,55}[a-z0-9])?$ ]] ||
        usage "TEST_NS '$TEST_NS' is no name of a namespace"
    [[ $PATIENCE =~ ^[0-9]+$ ]] || usage "PATIENCE '$PATIENCE' is no number of seconds"
    command -v kubectl >/dev/null || fail "kubectl is not installed"
    [[ -x $PYTHON ]] || fail "$PYTHON is not there: make venv"
}

choose_node() {
    local nodes
    nodes=$(ask "the cluster of $KUBECONFIG does not answer" get nodes --no-headers --request-timeout=20s)
    if [[ -n $NODE ]]; then
        awk -v node="$NODE" '$1 == node && $2 == "Ready" { found = 1 } END { exit !found }' <<<"$nodes" ||
            fail "node $NODE is not there, not ready or cordoned"
        return
    fi
    # A worker where there is one.
    NODE=$(awk '$2 == "Ready" && $3 !~ /control-plane/ { print $1 }' <<<"$nodes" | head -n 1)
    [[ -n $NODE ]] || NODE=$(awk '$2 == "Ready" { print $1 }' <<<"$nodes" | head -n 1)
    [[ -n $NODE ]] || fail "no node is ready and not cordoned"
}

check_that_nobody_is_there() {
    local found namespace
    found=$(ask "pods cannot be listed" get daemonsets,pods --all-namespaces --selector "$AGENT" --no-headers)
    [[ -z $found ]] ||
        fail "the agent runs in this cluster already, and two instances would fail every creation:" \
            "$(awk 'NR == 1 { print $2 " in namespace " $1 }' <<<"$found")"
    for namespace in "$TEST_NS" "$AGENT_NS"; do
        found=$(ask "namespaces cannot be read" get namespace "$namespace" --ignore-not-found --output name)
        [[ -z $found ]] ||
            fail "namespace $namespace exists, and this makes and deletes its own: name another with TEST_NS"
    done
}

choose_overlay() {
    local runtime
    [[ -z $OVERLAY ]] || return 0
    runtime=$(ask "node $NODE cannot be read" get node "$NODE" \
        --output 'jsonpath={.status.nodeInfo.containerRuntimeVersion}')
    case $runtime in
        cri-o://*) OVERLAY=overlays/crio ;;
        *k3s*) OVERLAY=overlays/k3s ;;
        containerd://*) OVERLAY=base ;;
        *) fail "node $NODE has the runtime '$runtime', which has no overlay: name one with OVERLAY" ;;
    esac
}

make_namespace() {
    ask "namespace $1 cannot be made" create namespace "$1" >/dev/null
    made+=("$1")
}

# The agent on that node alone, in a namespace of its own.
deploy() {
    local host
    host=$(ask "node $NODE cannot be read" get node "$NODE" \
        --output 'jsonpath={.metadata.labels.kubernetes\.io/hostname}')
    mkdir "$scratch/agent"
    cat >"$scratch/agent/kustomization.yaml" <<EOF
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $AGENT_NS
resources:
  - $(realpath --relative-to="$scratch/agent" "$ROOT/deploy/kustomize/$OVERLAY")
patches:
  - target:
      kind: DaemonSet
    patch: |
      - {op: replace, path: /spec/template/spec/containers/0/image, value: "$IMAGE"}
      - {op: add, path: /spec/template/spec/nodeSelector/kubernetes.io~1hostname, value: "$host"}
EOF
    ask "the agent cannot be deployed" apply --kustomize "$scratch/agent" >/dev/null
    if ! kubectl --namespace "$AGENT_NS" rollout status daemonset/cpuset-reconciler \
        --timeout="${PATIENCE}s" >/dev/null 2>"$scratch/complaint"; then
        fail "the agent is not ready within $PATIENCE s: $(why_not_ready)"
    fi
}

# The agent's own last word, or what is told of its pod.
why_not_ready() {
    local said
    said=$(kubectl --namespace "$AGENT_NS" logs --selector "$AGENT" --tail=1 2>/dev/null) || said=
    [[ -n $said ]] || said=$(kubectl --namespace "$AGENT_NS" get events --field-selector type=Warning \
        --output 'jsonpath={.items[-1:].message}' 2>/dev/null) || said=
    printf '%s' "${said:-$(tail -n 1 "$scratch/complaint")}"
}

main() {
    check_arguments "$@"
    KUBECONFIG=$(realpath "$1")
    export KUBECONFIG
    shift
    cd "$ROOT"
    scratch=$(mktemp -d)
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    choose_node
    check_that_nobody_is_there
    choose_overlay
    [[ -e $ROOT/deploy/kustomize/$OVERLAY/kustomization.yaml ]] ||
        fail "deploy/kustomize/$OVERLAY is not there"
    tell "node $NODE, image $IMAGE, deploy/kustomize/$OVERLAY"
    make_namespace "$TEST_NS"
    make_namespace "$AGENT_NS"
    # It mounts folders of the host, which a cluster may keep from namespaces that do not say so.
    ask "namespace $AGENT_NS cannot be labelled" label namespace "$AGENT_NS" \
        pod-security.kubernetes.io/enforce=privileged >/dev/null
    deploy
    tell "the agent is ready"
    "$PYTHON" -m hack.e2e.play --namespace "$TEST_NS" --agent-namespace "$AGENT_NS" --node "$NODE" \
        --image "$IMAGE" --patience "$PATIENCE" "$@"
}

main "$@"
