#!/usr/bin/env bats
# hack/e2e-live.sh with a stand-in for kubectl.

load common

setup_file() { daemonset >"$BATS_FILE_TMPDIR/daemonset.json"; }

setup() {
    stand_in
    touch "$BATS_TEST_TMPDIR/kubeconfig"
}

live() { run hack/e2e-live.sh "$BATS_TEST_TMPDIR/kubeconfig" shared-pod-runs-on-the-pool; }

nothing_is_left() {
    [[ ! -e $STANDIN/wekaplugin-e2e && ! -e $STANDIN/wekaplugin-e2e-agent ]]
}

nothing_was_changed() {
    not grep -qvE '^get ' "$STANDIN/calls"
}

@test "the scenarios are played, and nothing is left" {
    PYTHON=$STANDIN_PYTHON live
    ended 0 "e2e-live: deleting namespace wekaplugin-e2e-agent"
    [[ $output == *"e2e-live: node worker, image agent:1, deploy/kustomize/base"* ]]
    [[ $output == *"ok    shared-pod-runs-on-the-pool"* ]]
    [[ $output == *"1 played, 0 skipped, 0 failed"* ]]
    nothing_is_left
}

@test "only the test's own namespaces are changed" {
    live
    grep -E '(^| )(create|delete|apply|label) ' "$STANDIN/calls" >"$BATS_TEST_TMPDIR/changes"
    not grep -vE '(namespace |--namespace )wekaplugin-e2e|^apply --kustomize ' "$BATS_TEST_TMPDIR/changes"
    grep -qx 'namespace: wekaplugin-e2e-agent' "$STANDIN/kustomization.yaml"
}

@test "the agent comes to the chosen node alone, with the image that is named" {
    live
    grep -qF 'kubernetes.io~1hostname, value: "worker.example"' "$STANDIN/kustomization.yaml"
    grep -qF 'containers/0/image, value: "agent:1"' "$STANDIN/kustomization.yaml"
}

@test "kubectl makes of it what is meant" {
    [[ -n $REAL_KUBECTL ]] || skip "kubectl is not installed"
    live
    grep -qE '^ *image: agent:1$' "$STANDIN/rendered.yaml"
    grep -qE '^ *kubernetes.io/hostname: worker.example$' "$STANDIN/rendered.yaml"
    [[ $(grep -cE '^ *namespace: ' "$STANDIN/rendered.yaml") -eq 3 ]]
    [[ $(grep -cE '^ *namespace: wekaplugin-e2e-agent$' "$STANDIN/rendered.yaml") -eq 3 ]]
}

@test "kubectl understands each call, as far as it can without a cluster" {
    [[ -n $REAL_KUBECTL ]] || skip "kubectl is not installed"
    PYTHON=$STANDIN_PYTHON live
    printf '%s\n' 'apiVersion: v1' 'kind: Config' 'current-context: none' \
        'clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]' \
        'contexts: [{name: none, context: {cluster: none}}]' >"$BATS_TEST_TMPDIR/kubeconfig"
    # What is in files that are gone, or came by standard input, cannot be sent again.
    grep -vE 'apply --kustomize|create --filename' "$STANDIN/calls" | sort --unique >"$BATS_TEST_TMPDIR/calls"
    [[ $(wc --lines <"$BATS_TEST_TMPDIR/calls") -ge 20 ]]
    while read -ra words; do
        run "$REAL_KUBECTL" --kubeconfig="$BATS_TEST_TMPDIR/kubeconfig" "${words[@]}" </dev/null
        [[ $output == *"127.0.0.1:1 was refused"* ]] || { echo "kubectl ${words[*]}: $output" >&2 && return 1; }
    done <"$BATS_TEST_TMPDIR/calls"
}

@test "the scenarios' pods go before the agent, and the containers' CPUs are given back between the two" {
    live
    order=$(grep -oE 'delete namespace [a-z0-9-]+|delete daemonset|wait pod/restore' "$STANDIN/calls" | tr '\n' ';')
    [[ $order == "delete namespace wekaplugin-e2e;delete daemonset;wait pod/restore;delete namespace wekaplugin-e2e-agent;" ]]
    grep -qF '"restore", "--cpus=all", "--config=' "$STANDIN/restore.json"
}

@test "the overlay is that of the node's runtime" {
    RUNTIME=cri-o://1.34.0 live
    [[ $output == *"deploy/kustomize/overlays/crio"* ]]
    grep -qE '/deploy/kustomize/overlays/crio$' "$STANDIN/kustomization.yaml"
}

@test "k3s's containerd has an overlay of its own" {
    RUNTIME=containerd://2.1.4-k3s2 live
    [[ $output == *"deploy/kustomize/overlays/k3s"* ]]
}

@test "the namespace can be named" {
    TEST_NS=trial live
    [[ $status -eq 0 ]]
    called "create namespace trial"
    called "create namespace trial-agent"
    [[ ! -e $STANDIN/trial && ! -e $STANDIN/trial-agent ]]
    not called wekaplugin-e2e
}

@test "without a kubeconfig it says what it needs" {
    run hack/e2e-live.sh
    ended 2 "e2e-live: name the cluster's kubeconfig"
}

@test "a kubeconfig that is not there is named" {
    run hack/e2e-live.sh /nowhere
    ended 2 "e2e-live: kubeconfig /nowhere cannot be read"
}

@test "without an image it says what it needs" {
    IMAGE='' live
    ended 2 "e2e-live: name the agent's image, which the node has or can pull, with IMAGE"
}

@test "a name that is none of a namespace is refused" {
    TEST_NS='kube system' live
    ended 2 "e2e-live: TEST_NS 'kube system' is no name of a namespace"
    nothing_was_changed
}

@test "without kubectl it says so" {
    path_without kubectl
    live
    ended 1 "e2e-live: kubectl is not installed"
}

@test "a cluster that does not answer is told with kubectl's words" {
    BROKEN=unreachable live
    ended 1 "e2e-live: the cluster of $BATS_TEST_TMPDIR/kubeconfig does not answer: The connection to the server 127.0.0.1:6443 was refused"
    nothing_was_changed
}

@test "a cluster without a usable node is left alone" {
    BROKEN=cordoned live
    ended 1 "e2e-live: no node is ready and not cordoned"
    nothing_was_changed
}

@test "a node that is not ready is not taken" {
    NODE=main live
    ended 1 "e2e-live: node main is not there, not ready or cordoned"
    nothing_was_changed
}

@test "a cluster where the agent runs already is left alone" {
    BROKEN=occupied live
    ended 1 "e2e-live: the agent runs in this cluster already, and two instances would fail every creation: daemonset.apps/cpuset-reconciler in namespace kube-system"
    nothing_was_changed
}

@test "a namespace that is there already is left alone" {
    touch "$STANDIN/wekaplugin-e2e-agent"
    live
    ended 1 "e2e-live: namespace wekaplugin-e2e-agent exists, and this makes and deletes its own: name another with TEST_NS"
    nothing_was_changed
}

@test "a runtime without an overlay is named" {
    RUNTIME=docker://27 live
    ended 1 "e2e-live: node worker has the runtime 'docker://27', which has no overlay: name one with OVERLAY"
    nothing_was_changed
}

@test "who may not make a namespace is told" {
    BROKEN=forbidden live
    ended 1 "e2e-live: namespace wekaplugin-e2e cannot be made: Error from server (Forbidden): namespaces is forbidden"
    not called "delete namespace"
}

@test "an agent that does not become ready is told with its last word, and taken away" {
    BROKEN=agent live
    [[ $status -eq 1 ]]
    [[ $output == *"e2e-live: the agent is not ready within 9 s: cpuset-reconciler: this host has cgroup v1"* ]]
    nothing_is_left
}

@test "an agent that says nothing is told with what is told of its pod" {
    BROKEN="agent silent" live
    [[ $status -eq 1 ]]
    [[ $output == *'e2e-live: the agent is not ready within 9 s: Back-off pulling image "agent:1"'* ]]
    nothing_is_left
}

@test "the player is told the names, the node, the image and the patterns" {
    TEST_NS=trial NODE=worker live
    called "--namespace trial --agent-namespace trial-agent --node worker --image agent:1 --patience 9 shared-pod" played
}

@test "a scenario that fails is a failure, and all is taken away" {
    PLAYED=1 live
    ended 1 "e2e-live: deleting namespace wekaplugin-e2e-agent"
    nothing_is_left
}

@test "an interrupt takes all away" {
    SIGNAL=INT run env --default-signal=INT setsid --wait hack/e2e-live.sh "$BATS_TEST_TMPDIR/kubeconfig"
    ended 130 "e2e-live: deleting namespace wekaplugin-e2e-agent"
    nothing_is_left
}

@test "a request to end takes all away" {
    SIGNAL=TERM run setsid --wait hack/e2e-live.sh "$BATS_TEST_TMPDIR/kubeconfig"
    ended 143 "e2e-live: deleting namespace wekaplugin-e2e-agent"
    nothing_is_left
}

@test "a namespace that does not go is named, and the others are deleted" {
    BROKEN=sticky live
    ended 1 "e2e-live: namespace wekaplugin-e2e-agent is still there: kubectl delete namespace wekaplugin-e2e-agent"
    called "delete namespace wekaplugin-e2e "
}

@test "containers that could not be given back their CPUs are told, and the namespaces go" {
    BROKEN=restore live
    ended 1 "e2e-live: not every container of node worker has its CPUs back: cpuset-reconciler restore --cpus all"
    [[ $output == *"an agent holds the lock"* ]]
    nothing_is_left
}
