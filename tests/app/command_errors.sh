#!/usr/bin/env bash
# What a user gets wrong at the command line is one line on standard error and a failure:
# command_errors.sh build/hew
set -euo pipefail

hew=$(realpath "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
failures=0

# expect TEXT ARGUMENTS…: hew fails with one line that has TEXT in it.
expect() {
  local text=$1 status=0
  shift
  "$hew" "$@" > stdout 2> stderr < /dev/null || status=$?
  if [[ $status -eq 0 || $status -ge 128 || $(wc -l < stderr) -ne 1 ]] ||
    ! grep -qF -- "$text" stderr; then
    echo "FAILED: hew $*: status $status, expected one line with: $text"
    cat stderr
    failures=$((failures + 1))
  fi
}

seq 1 2000 > numbers.txt
"$hew" data tokenize numbers.txt --tokenizer bytes -o corpus.h5 > /dev/null
cat > recipe.yaml << 'END'
run: {dir: run}
model: {family: gpt2, layers: 1, heads: 2, width: 16, context: 8}
data: {train: corpus.h5}
train: {steps: 3, batch: 2}
optim: {lr: 1e-3}
sparsity: [{match: "blocks.*.mlp.*.weight", block: 8, method: static,
            schedule: {name: constant, final: 0.5}}]
END
"$hew" train recipe.yaml > /dev/null 2>&1
"$hew" export run --format bsr-hdf5 -o model.h5 > /dev/null
"$hew" export run --format safetensors -o model.safetensors > /dev/null
cp model.h5 original.h5

head -c 2000 model.h5 > short.h5
(head -c 1500 model.h5; printf 'x'; tail -c +1502 model.h5) > flipped.h5
head -c 3000 model.safetensors > short.safetensors
echo text > file.txt
printf '{"text": "a b"}\n{"text": ' > bad.jsonl
head -c 400 /dev/zero > zeros.bin
"$hew" train recipe.yaml data.train=zeros.bin model.vocab=9 run.dir=zeros > /dev/null 2>&1
mkdir folder

expect "nowhere: no such run, checkpoint or exported model" eval nowhere
expect "folder: no checkpoint to load" inspect folder
expect "short.h5: truncated" eval short.h5 --data corpus.h5
expect "flipped.h5: damaged" generate flipped.h5 --prompt 1
expect "short.safetensors: " inspect short.safetensors
expect "file.txt: " inspect file.txt
expect "corpus.h5: holds 'corpus'" inspect corpus.h5
"$hew" export run --format dense-safetensors -o dense > /dev/null
"$hew" import dense -o start.h5 > /dev/null
"$hew" train recipe.yaml run.dir=tuned model.init=start.h5 > /dev/null 2>&1
expect "model.h5: no such folder" import model.h5 -o new.h5
expect "folder/config.json: " import folder -o new.h5
expect "--output new.bin: expected a name that ends in .h5 or .safetensors" import dense -o new.bin
expect "start.h5: exists already" import dense -o start.h5
expect "--vocab 3: dense/config.json has a vocabulary of 257" import dense -o new.h5 --vocab 3
expect "start.h5: model.width is 16, the recipe has 32" \
  train recipe.yaml run.dir=new model.init=start.h5 model.width=32 model.mlp_width=64
expect "nowhere.h5: no such run" train recipe.yaml run.dir=new model.init=nowhere.h5
"$hew" inspect run --png masks.png > legend
grep -q 'blocks.0.mlp.up.weight$' legend && [[ $(head -c 4 masks.png | tail -c 3) == PNG ]]
expect "--png: no matrix of the model is under a mask" inspect start.h5 --png new.png
expect "nowhere/masks.png: " inspect run --png nowhere/masks.png
printf x > broken.png
expect "broken.png: " predict model.h5 broken.png
expect "nowhere.png: " predict model.h5 nowhere.png
expect "--image-size, --classes: dense/config.json is of a gpt2" import dense -o new.h5 --classes 4
expect "--format hdf6: expected bsr-hdf5, safetensors or dense-safetensors" \
  export run --format hdf6 -o new.h5
expect "--device cpu: a CPU has one way" bench tune --device cpu --shape all --output routes.txt
expect "routes.txt: " train recipe.yaml run.dir=new run.bsr_routes=routes.txt
expect "fp8" export run --format bsr-hdf5 -o new.h5 --dtype fp8
expect "model.h5: exists already" export run --format bsr-hdf5 -o model.h5
expect "folder: is no folder of an earlier export" \
  export run --format dense-safetensors -o folder --force
expect "no/model.h5: cannot write" export run --format bsr-hdf5 -o no/model.h5
expect "no/dense: cannot write" export run --format dense-safetensors -o no/dense
expect "--output is required" export run --format bsr-hdf5
expect "its recipe names no data.valid" eval model.h5
expect "the steps of this run are 1 to 3" \
  train recipe.yaml run.dir=other --profile steps=4:5
expect "unknown command trian, did you mean train" trian
expect "unknown command bench bsrr, did you mean bench bsr" bench bsrr
expect "unknown command data foo; --help lists them" data foo
# usage ARGUMENTS…: the status of what is wrong in the command line
usage() {
  local status=0
  "$hew" "$@" > stdout 2> stderr || status=$?
  if [[ $status -ne 2 ]]; then
    echo "FAILED: hew $*: status $status, expected 2"
    failures=$((failures + 1))
  fi
}
usage
usage trian
usage bench
usage bench foo
usage train --colour
usage export run --format bsr-hdf5
usage bench bsr --sparsity 2
usage bench endings --tokens 0
usage train recipe.yaml run.dir=new train.batch=none
expect "bench bsr: matrices of 9223372036854775807 tokens, 3072 × 768, exceed the" \
  bench bsr --tokens 9223372036854775807 -o new.bin
expect "train.batch: the tokens of 2000000000000000000 samples are too many to count" \
  train recipe.yaml --dry-run train.batch=2000000000000000000
expect "--output numbers.txt: exists already and is no output of a bench" \
  bench bsr --tokens 64 --shape vitb_fc1 -o numbers.txt
expect "--output corpus.h5: exists already and is no output of a bench" \
  bench mlp -o corpus.h5
expect "--output run/metrics.jsonl: exists already and is no output of a bench" \
  bench model model.safetensors -o run/metrics.jsonl
expect "recipe.yaml: is an input, it cannot be an output too" \
  data batches recipe.yaml --steps 1 recipe.yaml --force
expect "./corpus.h5: is an input, it cannot be an output too" \
  data batches recipe.yaml --steps 1 ./corpus.h5 --force
expect "model.h5: is an input, it cannot be an output too" data tokenize numbers.txt \
  --tokenizer sentencepiece --sentencepiece-model model.h5 -o model.h5 --force
expect "the prompt is empty" generate run
expect "the prompt has 9 tokens, more than the model's context of 8" \
  generate run --prompt 123456789
expect "token 257 is outside" generate run --prompt-tokens 1,257
expect "--top-p" generate run --prompt 1 --top-p 2
expect "--seed" generate run --prompt 1 --seed -1
expect "--seed" generate run --prompt 1 --seed 99999999999999999999999
expect "no linear weight of this name" inspect run --mask nothing
expect "this weight is dense" inspect run --mask blocks.0.attn.q.weight
expect "which recipe?" data batches train.steps=1 --steps 2 new.bin
expect "RECIPE.yaml [key=value" data batches recipe.yaml --steps 2
expect "no/new.bin: cannot write" data batches recipe.yaml --steps 2 no/new.bin
expect "recipe.yaml: exists already; --force" data batches recipe.yaml --steps 2 recipe.yaml
expect "--png recipe.yaml: is there, is no PNG" inspect run --png recipe.yaml
expect "recipe.yaml: is no earlier export" export run --format bsr-hdf5 -o recipe.yaml --force
expect "train.batch=none: got" data batches recipe.yaml train.batch=none --steps 2 new.bin
expect "nowhere.txt: " eval run --task lambada --data nowhere.txt
expect "bad.jsonl:2: not a JSON object" eval run --task lambada --data bad.jsonl
expect "bad.jsonl:1: has no text 'sentence_good'" eval run --task blimp --data bad.jsonl
expect "folder: a folder without .jsonl files" eval run --task blimp --data folder
expect "--task wikitext2 takes one file: --data PATH" eval run --task wikitext2
expect "--task" eval run --task squad --data file.txt
expect "--task" eval run --limit 3
for option in --tokenizer --sentencepiece-model --gpt2-encoder --gpt2-merges; do
  expect "$option requires --task" eval run --data corpus.h5 "$option" bytes
done
expect "--limit" eval run --task lambada --data bad.jsonl --limit 0
expect "--dump-logits excludes --task" \
  eval run --task lambada --data bad.jsonl --dump-logits new.h5
expect "--dump-logits recipe.yaml: exists already" \
  eval run --data corpus.h5 --dump-logits recipe.yaml
printf 'a' > letter.txt
"$hew" data tokenize letter.txt --tokenizer bytes -o letter.h5 > /dev/null
expect "letter.h5: 2 tokens, one window needs 9" \
  train recipe.yaml run.dir=never data.valid=letter.h5
mkfifo pipe
expect "pipe: cannot write: this is no regular file" \
  data tokenize letter.txt --tokenizer bytes --force -o pipe
for words in "data info corpus.h5" "inspect run --json"; do
  # shellcheck disable=SC2086
  if "$hew" $words > /dev/full 2> stderr || ! grep -q "standard output: cannot write: No space" stderr; then
    echo "FAILED: hew $words on a full disk:" && cat stderr
    failures=$((failures + 1))
  fi
done
expect ".h5: holds no tokenizer; name it by --tokenizer" \
  eval zeros --task wikitext2 --data file.txt
expect "has a vocabulary of 9, the bytes tokenizer one of 257" \
  eval zeros --task wikitext2 --data file.txt --tokenizer bytes
expect "--batch: got 0, expected 1 or more" eval run --data corpus.h5 --batch 0
expect "--batch: got 0, expected 1 or more" predict model.h5 zeros.bin --batch 0
expect "--temperature: got -1, expected 0 or more" generate run --prompt 1 --temperature -1
expect "train.batch: the samples of 1000000000000 alone are" \
  train recipe.yaml run.dir=new train.batch=1000000000000
[[ ! -e new ]] || failures=$((failures + 1))
# 4 TiB of weights
large=(recipe.yaml model.width=4096 model.layers=5000)
expect "model: its dense starting weights alone exceed the" train "${large[@]}" run.dir=new
expect "model: its dense weights alone exceed the" bench model "${large[@]}"
"$hew" train "${large[@]}" --dry-run > stdout
grep -q "^  exceeds the .* GiB of this machine: 1 rank(s) of [0-9.]* GiB$" stdout || failures=$((failures + 1))
echo '{"a": 0}' > letters.json
printf '#version: 0.2\n' > merges.txt
expect "letters.json, merges.txt: [gpt2] the vocabulary lacks byte 0" data tokenize numbers.txt \
  --tokenizer gpt2 --gpt2-encoder letters.json --gpt2-merges merges.txt -o new.h5
expect "file.txt: [sentencepiece] not a SentencePiece model" data tokenize numbers.txt \
  --tokenizer sentencepiece --sentencepiece-model file.txt -o new.h5
OMP_NUM_THREADS=100000 expect "OMP_NUM_THREADS: got 100000, expected at most 4096" \
  train recipe.yaml run.dir=new
# A build whose libraries alone are larger cannot be tried so.
if (ulimit -v 1500000 && "$hew" --version > stdout 2> stderr); then
  (ulimit -v 1500000 && "$hew" train recipe.yaml model.layers=100000 --dry-run > stdout 2> stderr) || true
  if [[ $(cat stderr) != "hew: out of memory" ]]; then
    echo "FAILED: a dry run without memory: $(cat stderr)"
    failures=$((failures + 1))
  fi
fi
# A reader that is gone takes no more lines; the run goes on, and its log has all of them.
"$hew" train recipe.yaml run.dir=unheard train.steps=300 2> stderr | true
if [[ ${PIPESTATUS[0]} -ne 0 || ! -e unheard/checkpoints/step-00000300.h5 ]] ||
  ! grep -q "^step 300/300 " unheard/train.log; then
  echo "FAILED: a run whose output nobody reads: $(cat stderr)"
  failures=$((failures + 1))
fi
(ulimit -f 16 && expect "cannot write: File too large" train recipe.yaml run.dir=limited model.width=64
  exit "$failures") || failures=$((failures + 1))
if compgen -G 'limited/checkpoints/*' > /dev/null; then
  echo "FAILED: a file over the limit was left behind"
  failures=$((failures + 1))
fi
# A dry run of very many masks ends at a signal; 124: what timeout sent was enough.
status=0
timeout --signal=TERM --kill-after=20 2 "$hew" train recipe.yaml --dry-run train.steps=1000000000000 \
  'sparsity=[{match: blocks.*.mlp.*.weight, method: blast, block: 8, every: 1, schedule: {final: 0.5}}]' \
  > stdout 2> stderr || status=$?
if [[ $status -ne 124 ]]; then
  echo "FAILED: a dry run was told to stop: status $status"
  failures=$((failures + 1))
fi
# Told to stop while weights are drawn, which here would take hours.
timeout --signal=TERM --kill-after=20 3 "$hew" train recipe.yaml run.dir=new model.layers=20000 \
  > stdout 2> stderr || true
if ! grep -qF "stopped by SIGTERM before its first step" stderr || [[ -e new ]]; then
  echo "FAILED: a run that is told to stop while its model is built: $(cat stderr)"
  failures=$((failures + 1))
fi
for command in "eval run --data corpus.h5" "generate run --prompt 1"; do
  # shellcheck disable=SC2086
  expect "[cuda] this " $command --device cuda:99
  # shellcheck disable=SC2086
  expect "'gpu' is not a device (cpu, cuda, cuda:N)" $command --device gpu
done
expect "command line: " inspect run --colour
expect "nothing: no such file" data images nothing -o new.h5
expect "file.txt: not a set of images" data images file.txt -o new.h5
expect "zeros.bin: 400 bytes are no whole number of records" data images zeros.bin -o new.h5
expect "folder: neither a folder for each class nor a set of images" data images folder -o new.h5
expect "corpus.h5: holds 'corpus', expected 'images'" data images corpus.h5 -o new.h5
expect "--square needs --size" data images zeros.bin --square -o new.h5

for file in new.h5 new.bin no; do
  if [[ -e $file ]]; then
    echo "FAILED: $file was left behind"
    failures=$((failures + 1))
  fi
done
cmp model.h5 original.h5 || failures=$((failures + 1))
ls | grep -F .tmp. && failures=$((failures + 1))
exit $((failures > 0))
