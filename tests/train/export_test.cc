#include "train/export.h"

#include <doctest/doctest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/bsr_file.h"
#include "tests/train/tiny_run.h"

namespace hew::test {
namespace {

struct ExportCase {
  std::string name;
  std::vector<std::string> overrides;
};

// Sizes that blocks of 8 do not divide: mlp 44, and the head's vocabulary of 257 bytes.
std::vector<ExportCase> export_cases() {
  const std::string mask = "schedule: {name: constant, final: 0.6}}";
  const std::string blast = ", block: 8, every: 4, method: blast, " + mask + "]";
  return {
      {"blast", {"sparsity=[{match: blocks.*.mlp.*.weight" + blast}},
      {"supermask",
       {"sparsity=[{match: blocks.*.weight, block: 8, method: supermask, " + mask + "]"}},
      {"spartan",
       {"sparsity=[{match: blocks.*.weight, block: 8, method: spartan, freeze_scores_at: never, "
        "schedule: {final: 0.6}}]"}},
      {"llama",
       {"model.family=llama", "model.kv_heads=1", "sparsity=[{match: blocks.*.weight" + blast}},
      {"untied",
       {"model.tied_embeddings=false", "model.bias=false",
        "sparsity=[{match: [blocks.*.mlp.up.weight, head.weight], block: 16, every: 4, "
        "method: blast, " +
            mask + "]"}}};
}

Tensor window() {
  std::vector<std::int32_t> ids(16);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(37 * i % 257);
  return Tensor::from(ids, {1, 16}, make_cpu_stream());
}

std::vector<float> logits_of(const train::TrainedModel& trained) {
  ag::ForwardContext context;
  return layers::as_language_model(*trained.parts.model)
      .forward(window(), context)
      .value()
      .to_vector<float>();
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The runs of all cases, trained once for this program.
struct Trained {
  dist::LocalCommunicator alone;
  Scratch scratch;
  TinyRuns runs{scratch.path(), alone};

  Trained() {
    for (const ExportCase& c : export_cases()) {
      std::vector<std::string> overrides{"train.steps=12", "optim.schedule.warmup=2"};
      overrides.insert(overrides.end(), c.overrides.begin(), c.overrides.end());
      run_training(runs.recipe(c.name, overrides), alone);
    }
  }
  train::TrainedModel load(const std::string& name) const {
    return train::load_trained_model(runs.directory(name), make_cpu_stream());
  }
};
const Trained& trained_runs() {
  static const Trained trained;
  return trained;
}

std::string config_error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

bool same_values(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.view().data, b.view().data, static_cast<std::size_t>(a.nbytes())) == 0;
}

// Rows [begin, begin + count) of a transposed matrix are columns of the matrix.
bool holds_transposed(const Tensor& conv, const Tensor& matrix, std::int64_t begin) {
  const auto c = conv.to_vector<float>();
  const auto m = matrix.to_vector<float>();
  for (std::int64_t n = 0; n < matrix.size(0); ++n) {
    for (std::int64_t k = 0; k < matrix.size(1); ++k) {
      const auto there = static_cast<std::size_t>(k * conv.size(1) + begin + n);
      if (c[there] != m[static_cast<std::size_t>(n * matrix.size(1) + k)])
        return false;
    }
  }
  return conv.size(0) == matrix.size(1);
}

}  // namespace

TEST_CASE("an exported model gives the run's logits to the last bit") {
  const Stream cpu = make_cpu_stream();
  const Scratch out;
  for (const ExportCase& c : export_cases()) {
    CAPTURE(c.name);
    const train::TrainedModel run = trained_runs().load(c.name);
    const std::vector<float> expected = logits_of(run);
    for (const auto& [format, file] :
         {std::pair(train::ExportFormat::kBsrHdf5, c.name + ".h5"),
          std::pair(train::ExportFormat::kSafetensors, c.name + ".safetensors")}) {
      const auto report = train::export_model(run, out / file, {.format = format});
      CHECK(report.bytes == static_cast<std::int64_t>(std::filesystem::file_size(out / file)));
      const train::TrainedModel loaded = train::load_trained_model(out / file, cpu);
      CHECK(same_bits(logits_of(loaded), expected));
      CHECK(loaded.recipe == run.recipe);
      CHECK(loaded.progress.steps == 12);
      CHECK(loaded.progress.flops == run.progress.flops);
      CHECK(loaded.data.tokenizer.sha256 == run.data.tokenizer.sha256);
      // Exporting the export gives the same file again.
      train::export_model(loaded, out / ("again-" + file), {.format = format});
      CHECK(read_bytes(out / file) == read_bytes(out / ("again-" + file)));
    }
  }
}

TEST_CASE("what is under a mask is stored as blocks, the sparsified head included") {
  const Scratch out;
  train::export_model(trained_runs().load("untied"), out / "model.h5", {});
  const H5Reader reader(out / "model.h5", kBsrKind, kBsrVersion);
  CHECK(list_bsr(reader) == std::vector<std::string>{"blocks.0.mlp.up.weight",
                                                     "blocks.1.mlp.up.weight", "head.weight"});
  const BsrRecord head = read_bsr(reader, "head.weight", make_cpu_stream());
  CHECK(head.rows == 257);
  CHECK(head.cols == 24);
  CHECK(head.col_indices.size() < 34);
  CHECK(reader.is_dataset("blocks.0.mlp.down.weight"));
  CHECK(!reader.exists("tokenizer.blob"));  // bytes need none
}

TEST_CASE("other dtypes round once and are widened on loading") {
  const Scratch out;
  const train::TrainedModel run = trained_runs().load("blast");
  const std::vector<float> expected = logits_of(run);
  for (const auto& [dtype, file] :
       {std::pair(DType::kFloat64, "double.h5"), std::pair(DType::kBFloat16, "half.safetensors")}) {
    train::export_model(run, out / file,
                        {.format = dtype == DType::kFloat64 ? train::ExportFormat::kBsrHdf5
                                                            : train::ExportFormat::kSafetensors,
                         .dtype = dtype});
    const std::vector<float> got =
        logits_of(train::load_trained_model(out / file, make_cpu_stream()));
    CHECK(same_bits(got, expected) == (dtype == DType::kFloat64));
    float worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      worst = std::max(worst, std::abs(got[i] - expected[i]));
    }
    CHECK(worst <= 0.1F);
  }
}

TEST_CASE("the dense folder has GPT-2's names, q, k and v joined and transposed") {
  const Stream cpu = make_cpu_stream();
  const Scratch out;
  const train::TrainedModel run = trained_runs().load("supermask");
  const auto report =
      train::export_model(run, out / "model", {.format = train::ExportFormat::kDenseSafetensors});
  const SafetensorsReader reader(out / "model" / "model.safetensors");
  CHECK(reader.metadata() == SafetensorsMetadata{{"format", "pt"}});
  CHECK(!reader.exists("lm_head.weight"));
  CHECK(report.dense_bytes < report.bytes);
  const Tensor joined = reader.read("transformer.h.1.attn.c_attn.weight", cpu);
  const Tensor down = reader.read("transformer.h.1.mlp.c_proj.weight", cpu);
  CHECK(joined.shape() == Shape{24, 72});
  std::int64_t begin = 0;
  for (const sparsity::LinearWeight* w : run.parts.model->linear_weights()) {
    if (w->name() == "blocks.1.mlp.down.weight")
      CHECK(holds_transposed(down, w->folded(), 0));
    if (!w->name().starts_with("blocks.1.attn.") || w->name() == "blocks.1.attn.out.weight")
      continue;
    CHECK(holds_transposed(joined, w->folded(), begin));
    begin += 24;
  }
  CHECK(begin == 72);
  const auto config = nlohmann::json::parse(read_bytes(out / "model" / "config.json"));
  CHECK(config["model_type"] == "gpt2");
  CHECK(config["activation_function"] == "gelu_new");
  CHECK(config["eos_token_id"] == 256);
  CHECK(config["torch_dtype"] == "float32");
}

TEST_CASE("the dense folder has Llama's names; GPT-2 without biases gets zeros") {
  const Stream cpu = make_cpu_stream();
  const Scratch out;
  constexpr auto kDense = train::ExportFormat::kDenseSafetensors;
  const train::TrainedModel llama = trained_runs().load("llama");
  train::export_model(llama, out / "llama", {.format = kDense});
  const SafetensorsReader reader(out / "llama" / "model.safetensors");
  for (const sparsity::LinearWeight* w : llama.parts.model->linear_weights()) {
    if (w->name() == "blocks.0.attn.k.weight") {
      CHECK(same_values(reader.read("model.layers.0.self_attn.k_proj.weight", cpu), w->folded()));
    }
  }
  CHECK(reader.names().size() == 3 + 2 * 9);
  train::export_model(trained_runs().load("untied"), out / "untied", {.format = kDense});
  const SafetensorsReader untied(out / "untied" / "model.safetensors");
  CHECK(untied.shape("lm_head.weight") == Shape{257, 24});
  CHECK(untied.read("transformer.h.0.attn.c_attn.bias", cpu).to_vector<float>() ==
        std::vector<float>(72, 0.0F));
}

TEST_CASE("nothing is overwritten unless told, and then only an earlier export") {
  const Scratch out;
  const train::TrainedModel run = trained_runs().load("blast");
  write_bytes(out / "model.h5", "mine");
  CHECK(config_error_of([&] { train::export_model(run, out / "model.h5", {}); }) ==
        (out / "model.h5").string() + ": exists already; --force replaces an earlier export");
  CHECK(read_bytes(out / "model.h5") == "mine");
  CHECK(config_error_of([&] { train::export_model(run, out / "model.h5", {.force = true}); }) ==
        (out / "model.h5").string() + ": is no earlier export and stays as it is");
  CHECK(read_bytes(out / "model.h5") == "mine");
  std::filesystem::remove(out / "model.h5");
  train::export_model(run, out / "model.h5", {});
  train::export_model(run, out / "model.h5", {.force = true});
  CHECK(read_bytes(out / "model.h5").starts_with("hew-h5 1"));
  const train::ExportOptions dense{.format = train::ExportFormat::kDenseSafetensors, .force = true};
  std::filesystem::create_directory(out / "precious");
  CHECK(config_error_of([&] { train::export_model(run, out / "precious", dense); }) ==
        (out / "precious").string() + ": is no folder of an earlier export and stays as it is");
  train::export_model(run, out / "dense", dense);
  train::export_model(run, out / "dense", dense);
  CHECK(data_error_of([&] {
          train::load_trained_model(out / "dense", make_cpu_stream());
        }).find("a dense export for other programs") != std::string::npos);
  const train::ExportOptions tensors{.format = train::ExportFormat::kSafetensors, .force = true};
  train::export_model(run, out / "model.safetensors", tensors);
  train::export_model(run, out / "model.safetensors", tensors);
  CHECK(out.list() ==
        std::vector<std::string>{"dense", "model.h5", "model.safetensors", "precious"});
}

TEST_CASE("a damaged or foreign export is an error that names file and place") {
  const Stream cpu = make_cpu_stream();
  const Scratch out;
  const auto error_of = [&](const std::string& name) {
    const std::string text = data_error_of([&] { train::load_trained_model(out / name, cpu); });
    CHECK(text.starts_with((out / name).string() + ": "));
    return text;
  };
  train::export_model(trained_runs().load("blast"), out / "model.h5", {});
  std::string bytes = read_bytes(out / "model.h5");
  write_bytes(out / "short.h5", bytes.substr(0, bytes.size() / 2));
  CHECK(error_of("short.h5").find("truncated") != std::string::npos);
  bytes[bytes.size() / 2] ^= 1;
  write_bytes(out / "flipped.h5", bytes);
  CHECK(error_of("flipped.h5").find("damaged") != std::string::npos);
  write_bytes(out / "text", "not a model");
  error_of("text");
  const Tensor one = Tensor::from(std::vector<float>{1}, {1}, cpu);
  const std::vector<TensorSpec> specs{{.name = "x", .dtype = DType::kFloat32, .shape = {1}}};
  SafetensorsWriter writer(out / "foreign.safetensors", specs, {});
  writer.write("x", one);
  writer.commit();
  CHECK(error_of("foreign.safetensors").find("without a description") != std::string::npos);
  CHECK(error_of("missing").find("no such run") != std::string::npos);
}

}  // namespace hew::test
