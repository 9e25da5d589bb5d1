#include "train/import.h"

#include <doctest/doctest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/safetensors.h"
#include "layers/language_model.h"
#include "tests/train/tiny_run.h"
#include "train/export.h"
#include "train/start_weights.h"

namespace hew::test {
namespace {

constexpr auto kDense = train::ExportFormat::kDenseSafetensors;

// Runs of a few steps, trained once for this program, and their dense exports.
struct Sources {
  dist::LocalCommunicator alone;
  Scratch scratch;
  TinyRuns runs{scratch.path(), alone};

  Sources() {
    train("gpt2", {"model.activation=gelu"});
    train("untied", {"model.tied_embeddings=false", "model.bias=false"});
    train("llama", {"model.family=llama", "model.kv_heads=1", "model.rope_theta=500"});
    train("sparse", {"sparsity=[{match: blocks.*.mlp.*.weight, block: 8, method: static, "
                     "schedule: {name: constant, final: 0.6}}]"});
  }
  void train(const std::string& name, std::vector<std::string> overrides) {
    overrides.insert(overrides.end(), {"train.steps=6", "optim.schedule.warmup=2"});
    run_training(runs.recipe(name, overrides), alone);
    train::export_model(load(name), folder(name), {.format = kDense});
  }
  train::TrainedModel load(const std::string& name) const {
    return train::load_trained_model(runs.directory(name), make_cpu_stream());
  }
  std::filesystem::path folder(const std::string& name) const {
    return scratch / (name + "-dense");
  }
};
const Sources& sources() {
  static const Sources made;
  return made;
}

std::vector<float> logits_of(const train::TrainedModel& trained) {
  std::vector<std::int32_t> ids(16);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(37 * i % 257);
  ag::ForwardContext context;
  return layers::as_language_model(*trained.parts.model)
      .forward(Tensor::from(ids, {1, 16}, make_cpu_stream()), context)
      .value()
      .to_vector<float>();
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

using Tensors = std::map<std::string, Tensor>;

Tensors read_all(const std::filesystem::path& file) {
  const SafetensorsReader reader(file);
  Tensors out;
  for (const std::string& name : reader.names()) {
    out[name] = reader.read(name, make_cpu_stream());
  }
  return out;
}

void write_all(const std::filesystem::path& file, const Tensors& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, values] : tensors)
    specs.push_back({.name = name, .dtype = values.dtype(), .shape = values.shape()});
  SafetensorsWriter writer(file, specs, {});
  for (const auto& [name, values] : tensors) writer.write(name, values);
  writer.commit();
}

// A folder of the run's tensors after `change`.
class Variant {
 public:
  explicit Variant(const std::string& run) {
    config = nlohmann::json::parse(read_bytes(sources().folder(run) / "config.json"));
    tensors = read_all(sources().folder(run) / "model.safetensors");
  }

  train::TrainedModel import(const train::ImportOptions& options = {}) const {
    write_bytes(folder_ / "config.json", config.dump());
    write_all(folder_ / "model.safetensors", tensors);
    return train::import_model(folder_.path(), options);
  }
  // The error's text without the folder in front.
  std::string error(const train::ImportOptions& options = {}) const {
    const std::string start = folder_.path().string() + "/";
    try {
      import(options);
    } catch (const Error& error) {
      const std::string text = error.what();
      CHECK(text.find('\n') == std::string::npos);
      return text.starts_with(start) ? text.substr(start.size()) : text;
    }
    return {};
  }
  const std::filesystem::path& path() const { return folder_.path(); }

  nlohmann::json config;
  Tensors tensors;

 private:
  Scratch folder_;
};

Tensor floats(const Shape& shape) {
  return Tensor::zeros(shape, DType::kFloat32, make_cpu_stream());
}

}  // namespace

TEST_CASE("a dense export comes back with the run's logits, to the last bit") {
  for (const std::string name : {"gpt2", "untied", "llama"}) {
    CAPTURE(name);
    const train::TrainedModel run = sources().load(name);
    const train::TrainedModel imported = train::import_model(sources().folder(name));
    CHECK(same_bits(logits_of(imported), logits_of(run)));
    layers::ModelConfig wanted = run.recipe.model;
    wanted.bias = name != "llama";  // GPT-2's are zeros there
    if (name == "llama")
      wanted.dropout = 0;  // which Llama does not have there
    CHECK(imported.recipe.model == wanted);
    // And out again, byte for byte.
    const Scratch out;
    train::export_model(imported, out / "again", {.format = kDense});
    CHECK(read_bytes(out / "again" / "model.safetensors") ==
          read_bytes(sources().folder(name) / "model.safetensors"));
  }
}

TEST_CASE("a sparse run comes back as its folded weights") {
  const train::TrainedModel run = sources().load("sparse");
  const train::TrainedModel imported = train::import_model(sources().folder("sparse"));
  const auto theirs = run.parts.model->linear_weights();
  const auto ours = imported.parts.model->linear_weights();
  REQUIRE(theirs.size() == ours.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    CHECK(ours[i]->pattern() == nullptr);
    CHECK(same_bits(ours[i]->folded().to_vector<float>(), theirs[i]->folded().to_vector<float>()));
  }
}

TEST_CASE("shards, bfloat16, buffers and missing prefixes make no difference") {
  const Variant plain("gpt2");
  const std::vector<float> expected = logits_of(plain.import());

  Scratch shards;
  nlohmann::json index{{"metadata", nlohmann::json::object()}};
  std::map<std::string, Tensors> files;
  for (const auto& [name, values] : plain.tensors) {
    const std::string file = files["a.safetensors"].size() < 9 ? "a.safetensors" : "b.safetensors";
    files[file][name] = values;
    index["weight_map"][name] = file;
  }
  for (const auto& [file, tensors] : files) write_all(shards / file, tensors);
  write_bytes(shards / "model.safetensors.index.json", index.dump());
  write_bytes(shards / "config.json", plain.config.dump());
  CHECK(same_bits(logits_of(train::import_model(shards.path())), expected));

  Variant odd("gpt2");
  Tensors renamed;
  for (const auto& [name, values] : odd.tensors) {
    renamed[name.substr(std::string("transformer.").size())] = values;
  }
  renamed["h.0.attn.bias"] = floats({1, 1, 16, 16});
  renamed["h.1.attn.masked_bias"] = floats({});
  renamed["lm_head.weight"] = renamed["wte.weight"];  // tied, and written all the same
  odd.tensors = renamed;
  CHECK(same_bits(logits_of(odd.import()), expected));

  const train::TrainedModel run = sources().load("llama");
  const Scratch out;
  train::export_model(run, out / "half", {.format = kDense, .dtype = DType::kBFloat16});
  const train::TrainedModel half = train::import_model(out / "half");
  CHECK(half.parts.model->parameters()[0]->value().dtype() == DType::kFloat32);
  train::export_model(half, out / "again", {.format = kDense, .dtype = DType::kBFloat16});
  CHECK(read_bytes(out / "half" / "model.safetensors") ==
        read_bytes(out / "again" / "model.safetensors"));
}

TEST_CASE("a padded vocabulary has the mean row, a shorter context the first positions") {
  const Variant variant("untied");
  const auto rows = [&](const train::TrainedModel& model, const std::string& name) {
    for (const ag::Parameter* p : model.parts.model->parameters()) {
      if (p->name == name)
        return p->value();
    }
    return Tensor();
  };
  const train::TrainedModel plain = variant.import();
  const train::TrainedModel padded = variant.import({.vocab = 260, .context = 7});
  CHECK(padded.recipe.model.vocab == 260);
  CHECK(padded.recipe.model.context == 7);
  for (const std::string name : {"token_embedding.weight", "head.weight"}) {
    const auto before = rows(plain, name).to_vector<float>();
    const Tensor after = rows(padded, name);
    CHECK(after.shape() == Shape{260, 24});
    CHECK(same_bits(after.rows(0, 257).to_vector<float>(), before));
    double mean = 0;
    for (std::size_t i = 5; i < before.size(); i += 24)
      mean += static_cast<double>(before[i]) / 257;
    for (std::int64_t row = 257; row < 260; ++row) {
      CHECK(after.rows(row, 1).to_vector<float>()[5] == doctest::Approx(mean));
    }
  }
  CHECK(same_bits(rows(padded, "position_embedding.weight").to_vector<float>(),
                  rows(plain, "position_embedding.weight").rows(0, 7).to_vector<float>()));
  CHECK(variant.error({.vocab = 256}).find("--vocab 256: ") == 0);
  CHECK(variant.error({.context = 17}).find("has 16 positions") != std::string::npos);
}

TEST_CASE("tensors that are missing, left over or of another shape are named with their file") {
  const std::string name = "transformer.h.1.mlp.c_fc.weight";
  Variant missing("gpt2");
  missing.tensors.erase(name);
  CHECK(missing.error() == "model.safetensors: tensor '" + name + "' is missing");
  Variant shape("gpt2");
  shape.tensors[name] = floats({44, 24});
  CHECK(shape.error() == "model.safetensors: tensor '" + name +
                             "' is float32 [44, 24], expected [24, 44] by config.json");
  Variant type("gpt2");
  type.tensors[name] = Tensor::zeros({24, 44}, DType::kInt64, make_cpu_stream());
  CHECK(type.error().find("is int64 [24, 44], expected") != std::string::npos);
  Variant extra("gpt2");
  extra.tensors["transformer.h.2.ln_1.weight"] = floats({24});
  CHECK(extra.error() ==
        "model.safetensors: tensor 'transformer.h.2.ln_1.weight' has no place in the model of "
        "config.json");
  Variant tied("gpt2");
  tied.tensors["lm_head.weight"] = floats({257, 24});
  CHECK(tied.error() ==
        "model.safetensors: tensor 'lm_head.weight' is not the embedding that config.json ties it "
        "to");
  CHECK(data_error_of([] { train::import_model("/nowhere"); }).find("/nowhere: no such folder") ==
        0);
}

TEST_CASE("what a config asks for and hew does not have is named with its key") {
  const auto error = [](const std::string& run, const std::string& key,
                        const nlohmann::json& value) {
    Variant variant(run);
    variant.config[key] = value;
    return variant.error();
  };
  CHECK(error("gpt2", "model_type", "mamba") ==
        "config.json: model_type: got \"mamba\", expected gpt2 or llama, or an architecture of "
        "timm's");
  CHECK(error("gpt2", "n_layer", nullptr) ==
        "config.json: n_layer: got null, expected an integer ≥ 1");
  CHECK(error("gpt2", "n_head", 5) ==
        "config.json: n_head: got 5, expected a divisor of the width of 24");
  CHECK(error("gpt2", "n_embd", "24").find("n_embd: got \"24\", expected") != std::string::npos);
  CHECK(error("gpt2", "activation_function", "tanh").find("expected gelu, ") != std::string::npos);
  CHECK(error("gpt2", "scale_attn_by_inverse_layer_idx", true).find("expected false") !=
        std::string::npos);
  CHECK(error("llama", "rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}}) ==
        "config.json: rope_scaling.rope_type: got \"llama3\", expected \"default\"");
  CHECK(error("llama", "attention_bias", true).find("attention_bias: got true") !=
        std::string::npos);
  CHECK(error("llama", "head_dim", 128).find("expected hidden_size / num_attention_heads = 12") !=
        std::string::npos);
  CHECK(error("llama", "num_key_value_heads", 3).find("expected a divisor of 2") !=
        std::string::npos);
  CHECK(error("llama", "hidden_act", "gelu").find("hidden_act: got \"gelu\"") != std::string::npos);
  CHECK(error("gpt2", "n_positions", 17).find("'transformer.wpe.weight' is float32 [16, 24]") !=
        std::string::npos);
  Variant newer("llama");
  newer.config.erase("rope_theta");
  newer.config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500.0}};
  CHECK(newer.import().recipe.model.rope_theta == 500);
  Variant broken("gpt2");
  broken.import();
  write_bytes(broken.path() / "config.json", "[1]");
  CHECK(data_error_of([&] { train::import_model(broken.path()); }) ==
        (broken.path() / "config.json").string() + ": is no JSON object");
}

TEST_CASE("a run starts from imported weights, and its masks are chosen from them") {
  const Scratch out;
  const train::TrainedModel imported = train::import_model(sources().folder("gpt2"));
  train::export_model(imported, out / "start.h5", {});
  const std::string init = "model.init=" + (out / "start.h5").string();
  dist::LocalCommunicator alone;
  const auto recipe = [&](const std::string& run, std::vector<std::string> overrides) {
    overrides.insert(overrides.end(), {init, "model.activation=gelu", "model.dropout=0",
                                       "train.steps=6", "optim.schedule.warmup=2"});
    return sources().runs.recipe(run, overrides);
  };
  run_training(recipe("tuned", {}), alone, {.stop_after = 0});
  CHECK(same_bits(logits_of(sources().load("tuned")), logits_of(imported)));

  run_training(recipe("pruned", {"sparsity=[{match: blocks.*.mlp.*.weight, block: 8, method: "
                                 "magnitude, schedule: {name: constant, final: 0.6}}]"}),
               alone, {.stop_after = 0});
  const train::TrainedModel pruned = sources().load("pruned");
  const auto weights = pruned.parts.model->linear_weights();
  const auto dense = imported.parts.model->linear_weights();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i]->pattern() == nullptr)
      continue;
    const auto kept = weights[i]->folded().to_vector<float>();
    const auto whole = dense[i]->folded().to_vector<float>();
    for (std::size_t e = 0; e < kept.size(); ++e) CHECK((kept[e] == 0 || kept[e] == whole[e]));
  }
  // A run starts from another run as well, and goes on without the file it began with.
  std::filesystem::remove(out / "start.h5");
  run_training(recipe("pruned", {"sparsity=[{match: blocks.*.mlp.*.weight, block: 8, method: "
                                 "magnitude, schedule: {name: constant, final: 0.6}}]"}),
               alone, {.resume = true});
  CHECK(sources().load("pruned").progress.steps == 6);
}

TEST_CASE("a start of another shape or tokenizer is refused before anything is written") {
  const Scratch out;
  train::TrainedModel imported = train::import_model(sources().folder("gpt2"));
  train::export_model(imported, out / "start.h5", {});
  const std::string init = "model.init=" + (out / "start.h5").string();
  dist::LocalCommunicator alone;
  const auto error = [&](std::vector<std::string> overrides) {
    overrides.push_back(init);
    return data_error_of([&] { run_training(sources().runs.recipe("refused", overrides), alone); });
  };
  const std::string start = (out / "start.h5").string() + ": ";
  CHECK(error({"model.activation=gelu", "model.mlp_width=48", "model.layers=3"}) ==
        start + "model.layers is 2, the recipe has 3; model.mlp_width is 44, the recipe has 48");
  CHECK(error({"model.activation=gelu", "model.vocab=300"}) ==
        start + "model.vocab is 257, the recipe has 300");
  imported.data.tokenizer = {.kind = "gpt2", .blob = {}, .sha256 = std::string(64, 'a')};
  train::export_model(imported, out / "start.h5", {.force = true});
  CHECK(error({"model.activation=gelu"})
            .find(start + "was trained with another tokenizer (gpt2 "
                          "aaaaaaaaaaaa)") == 0);
  CHECK(!std::filesystem::exists(sources().runs.directory("refused")));
}

}  // namespace hew::test
