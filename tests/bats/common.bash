# What the tests of the scripts have in common: stand-ins first in PATH, which write into $STANDIN.
# shellcheck shell=bash disable=SC2154 # status, output and lines are what `run` leaves

ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)

stand_in() {
    export STANDIN=$BATS_TEST_TMPDIR/standin
    export STANDIN_PYTHON=$ROOT/.venv/bin/python
    export STANDIN_DAEMONSET=$BATS_FILE_TMPDIR/daemonset.json
    mkdir "$STANDIN"
    REAL_KUBECTL=$(command -v kubectl) || REAL_KUBECTL=
    export REAL_KUBECTL
    PATH=$BATS_TEST_DIRNAME/bin:$PATH
    export PYTHON=$BATS_TEST_DIRNAME/bin/player
    export IMAGE=agent:1 PATIENCE=9
    cd "$ROOT" || return 1
}

# A PATH with what the scripts need and none of the programs that are named.
path_without() {
    local tool tools=$BATS_TEST_TMPDIR/tools
    mkdir "$tools"
    for tool in awk basename bash cat cp dirname env grep head install kind kubectl docker mkdir mktemp mv \
        printf realpath rm sed tail touch; do
        [[ " $* " == *" $tool "* ]] || ln -s "$(command -v "$tool")" "$tools/$tool"
    done
    PATH=$tools
}

# What the API server has of the agent once it is deployed.
daemonset() {
    "$ROOT/.venv/bin/python" - "$ROOT/deploy/kustomize/base/daemonset.yaml" <<'EOF'
import json, sys, yaml
item = yaml.safe_load(open(sys.argv[1]))
item["metadata"]["namespace"] = "wekaplugin-e2e-agent"
print(json.dumps({"kind": "List", "items": [item]}, indent=4))
EOF
}

# The last line of the output, which is where a script says why it ended.
last_line() {
    local number=$((${#lines[@]} - 1))
    printf '%s' "${lines[$number]}"
}

# That the last `run` ended with this code and these last words.
ended() {
    local code=$1 said=$2
    if [[ $status -ne $code || $(last_line) != "$said" ]]; then
        printf 'expected %s: %s\nexit code %s:\n%s\n' "$code" "$said" "$status" "$output" >&2
        return 1
    fi
}

# bats does not see that a command fails which has a `!` before it.
not() { if "$@"; then return 1; fi; }

called() { grep -qF -- "$1" "$STANDIN/${2:-calls}"; }
