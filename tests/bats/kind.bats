#!/usr/bin/env bats
# hack/kind-up.sh and hack/kind-e2e.sh with stand-ins for kind, docker and kubectl.

load common

setup_file() { daemonset >"$BATS_FILE_TMPDIR/daemonset.json"; }

setup() {
    stand_in
    unset IMAGE
    export CLUSTER=trial
    export KUBECONFIG_FILE=$BATS_TEST_TMPDIR/kind/kubeconfig
}

@test "a cluster of one node comes up with NRI and the image that was built" {
    run hack/kind-up.sh
    ended 0 "kind-up: cluster trial is up: $KUBECONFIG_FILE"
    called "create cluster --name trial" kind
    called "load image-archive" kind
    called "build --quiet --file $ROOT/deploy/Dockerfile --tag localhost/cpuset-reconciler:e2e" docker
    [[ $(grep -c 'role:' "$STANDIN/cluster.yaml") -eq 1 ]]
    grep -qF 'disable = false' "$STANDIN/cluster.yaml"
    [[ $(stat --format %a "$KUBECONFIG_FILE") == 600 ]]
}

@test "a cluster that is there is used" {
    echo trial >"$STANDIN/clusters"
    run hack/kind-up.sh
    [[ $status -eq 0 ]]
    not called create kind
}

@test "an archive is loaded, and nothing built" {
    touch "$BATS_TEST_TMPDIR/image.tar"
    IMAGE_ARCHIVE=$BATS_TEST_TMPDIR/image.tar run hack/kind-up.sh
    [[ $status -eq 0 ]]
    called "load image-archive $BATS_TEST_TMPDIR/image.tar --name trial" kind
    [[ ! -e $STANDIN/docker ]]
}

@test "an archive that is not there is named before anything is made" {
    IMAGE_ARCHIVE=/nowhere run hack/kind-up.sh
    ended 1 "kind-up: IMAGE_ARCHIVE /nowhere cannot be read"
    [[ ! -e $STANDIN/kind ]]
}

@test "without kind they say so" {
    path_without kind
    run hack/kind-up.sh
    ended 1 "kind-up: kind is not installed"
    run hack/kind-e2e.sh
    ended 1 "kind-e2e: kind is not installed"
}

@test "without docker it says so" {
    path_without docker
    run hack/kind-up.sh
    ended 1 "kind-up: docker is not installed, in which kind keeps its nodes"
}

@test "a cluster that cannot be made, an image that cannot be built, saved or loaded are told" {
    BROKEN=cluster run hack/kind-up.sh
    ended 1 "kind-up: kind could not make cluster trial"
    BROKEN=build run hack/kind-up.sh
    ended 1 "kind-up: docker could not build the image"
    BROKEN=save run hack/kind-up.sh
    ended 1 "kind-up: docker could not save the image"
    BROKEN=load run hack/kind-up.sh
    ended 1 "kind-up: kind could not load the image"
}

@test "the scenarios are played on a cluster that is deleted again" {
    PYTHON=$STANDIN_PYTHON run hack/kind-e2e.sh shared-pod-runs-on-the-pool
    [[ $status -eq 0 ]]
    [[ $output == *"1 played, 0 skipped, 0 failed"* ]]
    called "delete cluster --name trial" kind
    [[ ! -s $STANDIN/clusters && ! -e $KUBECONFIG_FILE ]]
}

@test "a cluster that was there before stays" {
    printf '%s\n' trial other >"$STANDIN/clusters"
    run hack/kind-e2e.sh shared-pod-runs-on-the-pool
    [[ $status -eq 0 ]]
    not called delete kind
}

@test "a cluster is kept where that is asked for" {
    KEEP=1 run hack/kind-e2e.sh shared-pod-runs-on-the-pool
    ended 0 "kind-e2e: cluster trial is kept: $KUBECONFIG_FILE"
    not called delete kind
}

@test "a cluster is deleted after a failure, which is told" {
    BROKEN=agent run hack/kind-e2e.sh
    [[ $status -eq 1 ]]
    [[ $output == *"e2e-live: the agent is not ready within 9 s"* ]]
    [[ ! -s $STANDIN/clusters ]]
}

@test "a cluster that came up by half is deleted" {
    BROKEN=load run hack/kind-e2e.sh
    [[ $status -eq 1 ]]
    [[ ! -s $STANDIN/clusters ]]
}

@test "an interrupt takes the cluster away too, after all that is in it" {
    SIGNAL=INT run env --default-signal=INT setsid --wait hack/kind-e2e.sh
    [[ $status -eq 130 ]]
    [[ ! -s $STANDIN/clusters ]]
    [[ $output == *"e2e-live: deleting namespace wekaplugin-e2e-agent"* ]]
}

@test "a cluster that does not go is named" {
    BROKEN=stuck run hack/kind-e2e.sh shared-pod-runs-on-the-pool
    ended 1 "kind-e2e: cluster trial is still there: kind delete cluster --name trial"
}
