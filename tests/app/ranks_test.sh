#!/usr/bin/env bash
# hew under mpirun as a user starts it: a run moves from 2 ranks to 1 to 4, and every kind of bad
# input ends all ranks with one line on the terminal, within seconds. Usage: ranks_test.sh HEW MPIEXEC
set -uo pipefail
hew=$1
mpiexec=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
failures=0

on_ranks() {
  local ranks=$1
  shift
  timeout --kill-after=5 50 "$mpiexec" -n "$ranks" --oversubscribe --bind-to none "$hew" "$@" > out 2> err
}

fail() {
  echo "FAILED: $1"
  sed 's/^/  | /' out err
  failures=$((failures + 1))
}

# refuses NAME RANKS TEXT COMMAND…: status neither 0 nor a time-out, and one line of ours with TEXT.
refuses() {
  local name=$1 ranks=$2 text=$3 status lines
  shift 3
  on_ranks "$ranks" "$@"
  status=$?
  lines=$(grep -c '^hew: ' err)
  if [[ $status -eq 0 || $status -eq 124 || $lines -ne 1 ]] || ! grep -q "^hew: .*$text" err; then
    fail "$name: status $status, $lines line(s), wanted '$text'"
  fi
}

for i in {1..3000}; do echo "the house of sparse blocks number $i stands upon a hill"; done > text.txt
$hew data tokenize --tokenizer bytes text.txt -o train.h5 --valid-fraction 0.1 \
  --valid-output valid.h5 > /dev/null || exit 1
cat > recipe.yaml << 'YAML'
run: {dir: run, seed: 3, hash_check_every: 2}
model: {family: gpt2, layers: 2, heads: 2, width: 24, context: 16, dropout: 0.1}
data: {train: train.h5, valid: valid.h5}
train: {steps: 30, batch: 8, log_every: 1}
optim: {lr: 3e-3}
sparsity: [{match: blocks.*.mlp.*.weight, method: blast, block: 8, every: 4, schedule: {final: 0.5}}]
checkpoint: {every: 10}
YAML

on_ranks 2 train recipe.yaml --stop-after 10 || fail "2 ranks"
on_ranks 1 train --resume run.dir=run --stop-after 20 || fail "resume on 1 rank"
on_ranks 4 train --resume run.dir=run || fail "resume on 4 ranks"
steps=$(grep -c '"kind":"train"' run/metrics.jsonl)
[[ $steps -eq 30 ]] || fail "30 steps over 2, 1 and 4 ranks: metrics have $steps"
on_ranks 2 eval run --json || fail "eval on 2 ranks"
loss_of() { grep -o '"loss":[0-9.]*' "$1" | cut -c8-16; }  # seven decimals
$hew eval run --json > alone
[[ $(loss_of out) == "$(loss_of alone)" ]] || fail "eval alone: $(loss_of alone)"

refuses "misspelt key" 2 "did you mean optim.lr" train recipe.yaml run.dir=a optim.lrr=1
refuses "missing recipe" 2 "none.yaml" train none.yaml
refuses "missing corpus" 2 "none.h5" train recipe.yaml run.dir=a data.train=none.h5
head -c 3000 train.h5 > cut.h5
refuses "truncated corpus" 2 "cut.h5: truncated" train recipe.yaml run.dir=a data.train=cut.h5
refuses "batch over ranks" 4 "train.batch" train recipe.yaml run.dir=a train.batch=6
refuses "loss not finite" 2 "step 2" train recipe.yaml run.dir=nan optim.lr=1e30 optim.clip_norm=0
refuses "run exists" 2 "holds a run already" train recipe.yaml
refuses "resume changes the run" 2 "optim.lr" train --resume run.dir=run optim.lr=1
refuses "resume of nothing" 2 "none" train --resume run.dir=none
[[ ! -e a ]] || fail "a refused run was written"

# Only rank 0 fails, while rank 1 waits for it: what it cannot replace stands under the name.
on_ranks 2 train recipe.yaml run.dir=blocked --stop-after 10 || fail "begin of the blocked run"
mkdir -p blocked/checkpoints/step-00000020.h5/in-the-way
refuses "checkpoint cannot be written" 2 "step-00000020.h5" train --resume run.dir=blocked

[[ $failures -eq 0 ]] && echo "all is well"
exit "$failures"
