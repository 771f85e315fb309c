"""Stage 4: claims, conflicts and placement; from intents to Desired. Pure.

- `state`: the ledger of claims and what it stands on.
- `placement`: which free CPUs an integer container gets.
- `claims`: granting and refusing.
- `lifecycle`: what each event does to the ledger; start-up, endings and second chances.
- `desired`: the cpuset of every container that follows from the ledger.
"""
