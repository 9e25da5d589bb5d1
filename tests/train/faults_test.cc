#include <doctest/doctest.h>
#include <omp.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/io/child.h"
#include "tests/support/device.h"
#include "tests/support/sizes.h"
#include "tests/train/signalled_communicator.h"
#include "tests/train/tiny_run.h"
#include "train/model_setup.h"

namespace hew::test {
namespace {

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// A run's metrics but for times.
std::vector<std::string> records_of(const std::filesystem::path& run) {
  std::vector<std::string> records;
  std::ifstream in(run / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) {
    nlohmann::ordered_json record = nlohmann::ordered_json::parse(line);
    for (const char* time : {"seconds", "step_seconds", "tokens_per_second", "bytes_reduced"})
      record.erase(time);
    records.push_back(record.dump());
  }
  return records;
}

void flip_a_bit(const std::filesystem::path& path) {
  std::string bytes = read_bytes(path);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_bytes(path, bytes);
}

void truncate(const std::filesystem::path& path) {
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
}

// A run of 30 steps with checkpoints after 10, 20 and 30.
struct Fixture {
  dist::LocalCommunicator alone;
  Scratch scratch;
  TinyRuns runs{scratch.path(), alone};
  train::Recipe recipe =
      runs.recipe("run", {"train.steps=30", "checkpoint.every=10", "train.eval_every=0"});
  std::filesystem::path log = train::RunDirectory(runs.directory("run")).log();

  std::filesystem::path checkpoint(int steps) const {
    return runs.directory("run") / fmt::format("checkpoints/step-{:08}.h5", steps);
  }
  // Trains; the signal comes after so many roll calls, one a step and one a batch of an evaluation.
  int roll_calls_with_signal(int after) {
    SignalledCommunicator comm(alone, after);
    run_training(recipe, comm);
    return comm.roll_calls();
  }
  void train_20_steps() { run_training(recipe, alone, {.stop_after = 20}); }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a broken newest checkpoint is reported and the one before it used") {
  train_20_steps();
  for (const auto& damage : {flip_a_bit, truncate}) {
    const std::string whole = read_bytes(checkpoint(20));
    damage(checkpoint(20));
    std::vector<std::string> reports;
    const train::Checkpoint used =
        train::open_newest_checkpoint(train::RunDirectory(runs.directory("run")), reports);
    CHECK(used.progress().steps == 10);
    REQUIRE(reports.size() == 1);
    CHECK(contains(reports.front(), checkpoint(20).string()));
    write_bytes(checkpoint(20), whole);
  }
  flip_a_bit(checkpoint(20));
  run_training(recipe, alone, {.resume = true});
  CHECK(losses_of(runs.directory("run")).size() == 30);
}

TEST_CASE_FIXTURE(Fixture, "a checkpoint under the name of another step is reported as broken") {
  train_20_steps();
  std::filesystem::copy_file(checkpoint(10), checkpoint(25));
  std::vector<std::string> reports;
  const train::Checkpoint used =
      train::open_newest_checkpoint(train::RunDirectory(runs.directory("run")), reports);
  CHECK(used.progress().steps == 20);
  REQUIRE(reports.size() == 1);
  CHECK(reports.front() ==
        checkpoint(25).string() + ": is the checkpoint of step 10; using the one before it");
}

TEST_CASE_FIXTURE(Fixture, "without a whole checkpoint a resume is one clear error") {
  train_20_steps();
  flip_a_bit(checkpoint(20));
  truncate(checkpoint(10));
  const std::string text = error_of([&] { run_training(recipe, alone, {.resume = true}); });
  CHECK(contains(text, runs.directory("run").string()));
  CHECK(contains(text, "no whole checkpoint"));
  CHECK(contains(text, checkpoint(20).string() + ": "));
  CHECK(contains(text, checkpoint(10).string() + ": "));
}

TEST_CASE("class names that are no list of texts are one error that names the checkpoint") {
  const Scratch scratch;
  const std::filesystem::path path = scratch / "checkpoint.h5";
  for (const std::string text : {"[\"cat\", ", "{\"cat\": 1}", "[1, 2]"}) {
    CAPTURE(text);
    {
      H5Writer writer(path, "hew-checkpoint", 1);
      writer.attribute("/tokenizer", "kind", std::string());
      writer.attribute("/tokenizer", "sha256", std::string());
      writer.write("tokenizer/blob", std::vector<std::uint8_t>());
      writer.write("class_names", std::vector<std::uint8_t>(text.begin(), text.end()));
      writer.commit();
    }
    CHECK(data_error_of([&] {
            train::Checkpoint(path).data();
          }).starts_with(path.string() + ": class_names: "));
  }
}

TEST_CASE_FIXTURE(Fixture, "a recipe that does not fit the checkpoint names the key") {
  train_20_steps();
  const std::string before = read_bytes(checkpoint(20));
  train::Recipe other = recipe;
  other.model.width = 32;
  CHECK(contains(error_of([&] { run_training(other, alone, {.resume = true}); }), "model.width"));
  other = recipe;
  other.optim.lr = 1;
  CHECK(contains(error_of([&] { run_training(other, alone, {.resume = true}); }), "optim.lr"));
  CHECK(read_bytes(checkpoint(20)) == before);
}

TEST_CASE_FIXTURE(Fixture, "a resume does not take another corpus for the run's") {
  train_20_steps();
  const std::string before = read_bytes(checkpoint(20));
  const std::string train = read_bytes(scratch / "train.h5");
  write_bytes(scratch / "train.h5", read_bytes(scratch / "valid.h5"));
  CHECK(contains(error_of([&] { run_training(recipe, alone, {.resume = true}); }),
                 "train.h5: its tokens are not those that the run was trained on"));
  CHECK(read_bytes(checkpoint(20)) == before);
  write_bytes(scratch / "train.h5", train);
  run_training(recipe, alone, {.resume = true});
  CHECK(losses_of(runs.directory("run")).size() == 30);
}

TEST_CASE_FIXTURE(Fixture, "a run may be lengthened") {
  train_20_steps();
  recipe.train.steps = 40;
  run_training(recipe, alone, {.resume = true});
  CHECK(losses_of(runs.directory("run")).size() == 40);
}

TEST_CASE_FIXTURE(Fixture, "a finished run that is lengthened keeps its last evaluation") {
  run_training(recipe, alone);
  const std::vector<train::Evaluation> first = evaluations_of(runs.directory("run"));
  REQUIRE(first.size() == 1);
  recipe.train.steps = 40;
  run_training(recipe, alone, {.resume = true});
  const std::vector<train::Evaluation> both = evaluations_of(runs.directory("run"));
  REQUIRE(both.size() == 2);
  CHECK(both.front().loss == first.front().loss);
}

TEST_CASE_FIXTURE(Fixture, "what is made up for is what the run that stopped was to evaluate") {
  CHECK(roll_calls_with_signal(32) == 33);  // in the evaluation after step 30, the last
  CHECK(evaluations_of(runs.directory("run")).empty());
  recipe.train.steps = 40;
  run_training(recipe, alone, {.resume = true});
  CHECK(contains(read_bytes(log), "the evaluation after step 30 is not in the metrics"));
  CHECK(evaluations_of(runs.directory("run")).size() == 2);
}

TEST_CASE_FIXTURE(Fixture,
                  "a run may not be shortened past what is done, nor past a last refresh") {
  recipe = runs.recipe("run", {"train.steps=30", "checkpoint.every=10", "train.eval_every=0",
                               "sparsity=[{match: blocks.*.mlp.*.weight, block: 8, method: blast, "
                               "every: 5, schedule: {final: 0.5, end: 75%}}]"});
  train_20_steps();
  const auto resume_to = [&](std::int64_t steps) {
    const train::Recipe shorter = train::parse_recipe(train::to_yaml(recipe), "saved",
                                                      {"train.steps=" + std::to_string(steps)});
    return error_of([&] { run_training(shorter, alone, {.resume = true}); });
  };
  CHECK(contains(resume_to(15), "train.steps: got 15, but 20 steps are done"));
  CHECK(contains(resume_to(26), "sparsity.0.schedule.end to step 19, but 20 steps are done"));
  CHECK(resume_to(28).empty());
}

TEST_CASE("a batch that the ranks cannot share is refused with its key") {
  const auto shared = [](std::int64_t batch, std::int64_t micro_batch, int ranks) {
    return train::samples_at_a_time({.steps = 1, .batch = batch, .micro_batch = micro_batch},
                                    ranks);
  };
  CHECK(shared(12, 0, 3) == 4);
  CHECK(shared(12, 2, 3) == 2);
  CHECK(contains(error_of([&] { shared(12, 0, 5); }), "train.batch: 12"));
  CHECK(contains(error_of([&] { shared(12, 3, 3); }), "train.micro_batch: 3"));
}

TEST_CASE_FIXTURE(Fixture, "a loss that is not finite ends the run at its step, nothing is lost") {
  recipe.optim.lr = 1e30;
  recipe.optim.clip_norm = 0;
  const std::string text = error_of([&] { run_training(recipe, alone); });
  CHECK(contains(text, "[train] step 2"));
  CHECK_FALSE(std::filesystem::exists(checkpoint(10)));
}

TEST_CASE_FIXTURE(Fixture, "a corpus that cannot be used is named, and no run is begun") {
  const std::filesystem::path path = scratch / "bad.h5";
  auto refused = [&](const std::string& part) {
    recipe.data.train = {path.string()};
    const std::string text = error_of([&] { run_training(recipe, alone); });
    CHECK_MESSAGE(contains(text, path.string()), text);
    CHECK_MESSAGE(contains(text, part), text);
    CHECK_FALSE(std::filesystem::exists(runs.directory("run")));
  };
  refused("");  // missing
  std::filesystem::copy_file(scratch / "train.h5", path);
  truncate(path);
  refused("truncated");
  write_bytes(path, "not a corpus at all, but text of some length .......................");
  refused("");
  std::filesystem::copy_file(scratch / "train.h5", path,
                             std::filesystem::copy_options::overwrite_existing);
  flip_a_bit(path);
  refused("");
}

TEST_CASE_FIXTURE(Fixture, "a vocabulary smaller than the corpus's is refused") {
  recipe.model.vocab = 100;
  CHECK(contains(error_of([&] { run_training(recipe, alone); }), "vocab"));
}

TEST_CASE_FIXTURE(Fixture, "a full disk is one error, and older checkpoints stay whole") {
  if (on_gpu())
    return;  // which a forked child cannot use
  run_training(recipe, alone, {.stop_after = 10});
  const std::string before = read_bytes(checkpoint(10));
  constexpr std::int64_t kDisk = 20000;  // the logs fit, a checkpoint does not
  const ChildResult child = on_small_disk(kDisk, [&] {
    omp_set_num_threads(1);  // the parent's threads did not come along
    run_training(recipe, alone, {.resume = true});
  });
  CHECK(child.exited_cleanly);
  CHECK_MESSAGE(contains(child.error, checkpoint(20).string()), child.error);
  CHECK(read_bytes(checkpoint(10)) == before);
  CHECK_FALSE(std::filesystem::exists(checkpoint(20)));
  CHECK(train::RunDirectory(runs.directory("run")).checkpoints().size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a stop signal is answered with a checkpoint after the step") {
  const train::StopSignal stop_signal;
  std::raise(SIGUSR1);
  {
    train::Trainer trainer(recipe, {}, alone, stop_signal, test_stream());
    trainer.run();
    CHECK(trainer.progress().steps == 1);
  }
  CHECK(std::filesystem::exists(checkpoint(1)));
  run_training(recipe, alone, {.resume = true});
  CHECK(losses_of(runs.directory("run")).size() == 30);
}

TEST_CASE_FIXTURE(Fixture, "whoever is stopped does not wait for an evaluation") {
  recipe.train.eval_every = 1;
  const train::StopSignal stop_signal;
  train::Trainer trainer(recipe, {}, alone, stop_signal, test_stream());
  std::raise(SIGTERM);
  trainer.run();
  CHECK(std::filesystem::exists(checkpoint(1)));
  CHECK(evaluations_of(runs.directory("run")).empty());
}

TEST_CASE_FIXTURE(Fixture, "an evaluation is broken off by a stop signal, and its step kept") {
  recipe.train.eval_every = 10;
  CHECK(roll_calls_with_signal(12) == 13);  // ten steps, and three batches
  CHECK(std::filesystem::exists(checkpoint(10)));
  CHECK(evaluations_of(runs.directory("run")).empty());
  CHECK(
      contains(read_bytes(log),
               "stopped by SIGTERM after step 10 without its evaluation; --resume makes up for it "
               "and goes on\n"));
  run_training(recipe, alone, {.resume = true});
  CHECK(losses_of(runs.directory("run")).size() == 30);
  CHECK(evaluations_of(runs.directory("run")).size() == 3);
}

TEST_CASE_FIXTURE(Fixture, "a stop after a step without an evaluation speaks of none") {
  CHECK(roll_calls_with_signal(9) == 10);
  CHECK(contains(read_bytes(log), "stopped by SIGTERM after step 10; resume with --resume\n"));
}

TEST_CASE_FIXTURE(Fixture, "whoever is killed in an evaluation has lost that alone") {
  recipe.checkpoint.every = 0;
  struct Killed {};
  SignalledCommunicator comm(alone, 32, [] { throw Killed(); });
  CHECK_THROWS_AS(run_training(recipe, comm), Killed);
  CHECK(std::filesystem::exists(checkpoint(30)));
  run_training(recipe, alone, {.resume = true});
  CHECK(evaluations_of(runs.directory("run")).size() == 1);
  CHECK(contains(read_bytes(log), "the evaluation after step 30 is not in the metrics"));
}

TEST_CASE_FIXTURE(Fixture,
                  "an evaluation that was broken off is made up for, to the same metrics") {
  for (const std::string method : {"blast", "supermask", "spartan", "ema"}) {
    CAPTURE(method);
    if (small_sizes() && method != "supermask")
      continue;
    std::vector<std::string> overrides = sparsity_overrides(method);
    overrides.insert(overrides.end(),
                     {"train.steps=30", "train.eval_every=10", "checkpoint.every=10"});
    for (const bool averaged : {true, false}) {
      CAPTURE(averaged);
      overrides.push_back(averaged ? "train.ema=0.9" : "train.ema=0");
      const std::string name = method + (averaged ? "-averaged" : "");
      run_training(runs.recipe(name, overrides), alone);
      const std::vector<std::string> whole = records_of(runs.directory(name));
      for (const int batches : {0, 2}) {  // told to stop in the step, or in its evaluation
        const std::string stopped = fmt::format("{}-{}", name, batches);
        recipe = runs.recipe(stopped, overrides);
        SignalledCommunicator comm(alone, 9 + (batches > 0 ? batches + 1 : 0));
        run_training(recipe, comm);
        CHECK(evaluations_of(runs.directory(stopped)).empty());
        run_training(recipe, alone, {.resume = true});
        CHECK(records_of(runs.directory(stopped)) == whole);
        const std::filesystem::path last = "checkpoints/step-00000030.h5";
        CHECK(first_difference(runs.directory(name) / last, runs.directory(stopped) / last) == "");
      }
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "an evaluation that was finished is neither lost nor done again") {
  recipe.train.eval_every = 10;
  run_training(recipe, alone);
  const std::vector<std::string> whole = records_of(runs.directory("run"));
  const auto go_on_from = [&](int step) {
    for (int later = step + 10; later <= 30; later += 10)
      std::filesystem::remove(checkpoint(later));
    run_training(recipe, alone, {.resume = true});
    CHECK(records_of(runs.directory("run")) == whole);
  };
  go_on_from(30);
  CHECK(contains(read_bytes(log), "nothing to do: 30 of 30 steps are done"));
  go_on_from(20);
  go_on_from(10);
  CHECK_FALSE(contains(read_bytes(log), "made up for"));
  // A record that a full disk or a crash has cut.
  const std::filesystem::path metrics = runs.directory("run") / "metrics.jsonl";
  std::filesystem::resize_file(metrics, std::filesystem::file_size(metrics) - 1);
  go_on_from(30);
  CHECK(contains(read_bytes(log), "the evaluation after step 30 is not in the metrics"));
}

TEST_CASE_FIXTURE(Fixture, "an evaluation may also be recorded before its step's checkpoint") {
  const std::filesystem::path path = runs.directory("run") / "metrics.jsonl";
  run_training(recipe, alone);
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path));
  for (const std::int64_t bytes :
       {size, train::Checkpoint(checkpoint(30)).progress().metrics_bytes})
    CHECK(train::end_of_evaluation(path, 30, bytes) == size);
  const std::int64_t earlier = train::Checkpoint(checkpoint(20)).progress().metrics_bytes;
  CHECK_FALSE(train::end_of_evaluation(path, 30, earlier));
  CHECK_FALSE(train::end_of_evaluation(path, 3, size));
  CHECK_FALSE(train::end_of_evaluation(path.string() + ".none", 30, size));
}

TEST_CASE_FIXTURE(Fixture, "the last evaluation is broken off too, which is said and made up for") {
  CHECK(roll_calls_with_signal(32) == 33);
  CHECK(std::filesystem::exists(checkpoint(30)));
  CHECK(evaluations_of(runs.directory("run")).empty());
  CHECK(contains(read_bytes(log),
                 "stopped by SIGTERM after step 30, the last, without its evaluation; --resume "
                 "makes up for it\n"));
  // Whoever tells the resume to stop is heard, too.
  SignalledCommunicator again(alone, 3);
  run_training(recipe, again, {.resume = true});
  CHECK(again.roll_calls() == 4);
  CHECK(evaluations_of(runs.directory("run")).empty());
  run_training(recipe, alone, {.resume = true});
  CHECK(evaluations_of(runs.directory("run")).size() == 1);
  CHECK_FALSE(contains(read_bytes(log), "nothing to do"));
}

TEST_CASE_FIXTURE(Fixture, "a stop signal in the last step leaves no time for the evaluation") {
  CHECK(roll_calls_with_signal(29) == 30);
  CHECK(std::filesystem::exists(checkpoint(30)));
  CHECK(evaluations_of(runs.directory("run")).empty());
}

TEST_CASE_FIXTURE(Fixture, "a stop signal to a run that is over changes nothing") {
  const int all = roll_calls_with_signal(0);
  CHECK_FALSE(contains(read_bytes(log), "SIGTERM"));
  std::filesystem::remove_all(runs.directory("run"));
  CHECK(roll_calls_with_signal(all - 1) == all);  // the last looks once more at the end
  CHECK(std::filesystem::exists(checkpoint(30)));
  CHECK(evaluations_of(runs.directory("run")).size() == 1);
  CHECK(contains(read_bytes(log), "SIGTERM changed nothing: the run had ended, after step 30"));
  std::filesystem::remove_all(runs.directory("run"));
  CHECK(roll_calls_with_signal(all) == all);  // even this process survives
}

TEST_CASE_FIXTURE(Fixture, "SIGTERM does not wait for a model that is being built") {
  const train::StopSignal stop_signal;
  std::raise(SIGTERM);
  CHECK_THROWS_WITH_AS(train::Trainer(recipe, {}, alone, stop_signal, test_stream()),
                       "[train] stopped by SIGTERM before its first step; nothing was written",
                       Error);
  CHECK_FALSE(std::filesystem::exists(runs.directory("run")));
}

TEST_CASE_FIXTURE(Fixture, "a broken newer checkpoint pushes out none of those written after it") {
  train_20_steps();
  flip_a_bit(checkpoint(20));
  recipe.checkpoint.every = 5;
  recipe.checkpoint.keep = 1;
  run_training(recipe, alone, {.resume = true, .stop_after = 15});
  CHECK(std::filesystem::exists(checkpoint(15)));
  CHECK_FALSE(std::filesystem::exists(checkpoint(10)));
  run_training(recipe, alone, {.resume = true});
  CHECK(losses_of(runs.directory("run")).size() == 30);
}

TEST_CASE_FIXTURE(Fixture, "what a killed process left of a checkpoint goes with the next resume") {
  train_20_steps();
  const std::filesystem::path left = checkpoint(30).string() + ".tmp.12345";
  const std::filesystem::path foreign = runs.directory("run") / "checkpoints/notes.tmp.1";
  write_bytes(left, "half a checkpoint");
  write_bytes(foreign, "somebody's");
  run_training(recipe, alone, {.resume = true});
  CHECK_FALSE(std::filesystem::exists(left));
  CHECK(std::filesystem::exists(foreign));
}

TEST_CASE_FIXTURE(Fixture, "metrics without a recipe beside them are not cut off by a new run") {
  const std::filesystem::path metrics = runs.directory("run") / "metrics.jsonl";
  std::filesystem::create_directories(runs.directory("run"));
  write_bytes(metrics, "somebody's");
  CHECK(contains(error_of([&] { run_training(recipe, alone); }), "holds a run already"));
  CHECK(read_bytes(metrics) == "somebody's");
}

TEST_CASE_FIXTURE(Fixture, "one process at a time trains in a folder") {
  train_20_steps();
  const train::RunDirectory directory(runs.directory("run"));
  {
    const FileDescriptor held = directory.lock();
    for (const bool resume : {false, true}) {
      CHECK(error_of([&] { run_training(recipe, alone, {.resume = resume}); }) ==
            runs.directory("run").string() + ": another process is training here");
    }
  }
  run_training(recipe, alone, {.resume = true});
  CHECK(std::filesystem::exists(checkpoint(30)));
}

TEST_CASE_FIXTURE(Fixture, "only the last K checkpoints are kept") {
  recipe.checkpoint.keep = 2;
  run_training(recipe, alone);
  CHECK_FALSE(std::filesystem::exists(checkpoint(10)));
  CHECK(std::filesystem::exists(checkpoint(20)));
  CHECK(std::filesystem::exists(checkpoint(30)));
}

}  // namespace hew::test
