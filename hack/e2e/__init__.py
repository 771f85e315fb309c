"""The scenarios on a cluster, through kubectl. `play` is the program, `cluster` runs kubectl; `selection`,
`manifests` and `judgement` are pure."""
