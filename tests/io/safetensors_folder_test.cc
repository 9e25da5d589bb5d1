#include "io/safetensors_folder.h"

#include <doctest/doctest.h>

#include "tests/io/scratch.h"

namespace hew::test {
namespace {

void write_tensors(const std::filesystem::path& path, const std::vector<std::string>& names) {
  const Stream cpu = make_cpu_stream();
  std::vector<TensorSpec> specs;
  for (const std::string& name : names) specs.push_back({name, DType::kFloat32, Shape{2}});
  SafetensorsWriter writer(path, specs, {});
  for (const std::string& name : names) {
    writer.write(name, Tensor::from(std::vector<float>{1, static_cast<float>(name[0])}, {2}, cpu));
  }
  writer.commit();
}

}  // namespace

TEST_CASE("one file and several with an index read alike") {
  const Scratch one;
  const Scratch several;
  write_tensors(one / "model.safetensors", {"a", "b", "c"});
  write_tensors(several / "first.safetensors", {"c"});
  write_tensors(several / "second.safetensors", {"a", "b"});
  write_bytes(several / "model.safetensors.index.json",
              R"({"metadata": {"total_size": 24}, "weight_map": {"a": "second.safetensors",
                  "b": "second.safetensors", "c": "first.safetensors"}})");
  for (const Scratch* folder : {&one, &several}) {
    const SafetensorsFolder tensors(folder->path());
    CHECK(tensors.names() == std::vector<std::string>{"a", "b", "c"});
    CHECK(tensors.exists("c"));
    CHECK(!tensors.exists("d"));
    for (const std::string& name : tensors.names()) {
      CHECK(tensors.shape(name) == Shape{2});
      CHECK(tensors.dtype(name) == DType::kFloat32);
      CHECK(tensors.read(name, make_cpu_stream()).to_vector<float>()[1] ==
            static_cast<float>(name[0]));
    }
    CHECK(data_error_of([&] { tensors.shape("d"); }) == tensors.file() + ": tensor 'd' is missing");
  }
}

TEST_CASE("an index that does not fit its files is an error that names both") {
  const Scratch folder;
  const auto error = [&](const std::string& index) {
    write_bytes(folder / "model.safetensors.index.json", index);
    const std::string text = data_error_of([&] { SafetensorsFolder tensors(folder.path()); });
    CHECK(text.starts_with(folder.path().string() + "/"));
    return text.substr(std::min(text.size(), folder.path().string().size() + 1));
  };
  CHECK(data_error_of([&] { SafetensorsFolder tensors(folder.path()); }) ==
        folder.path().string() +
            ": has neither model.safetensors nor model.safetensors.index.json");
  write_tensors(folder / "x.safetensors", {"a", "b"});
  write_tensors(folder / "y.safetensors", {"b"});
  CHECK(error("{").find("index.json: no weight_map") != std::string::npos);
  CHECK(error(R"({"weight_map": {"a": 3}})").find("no weight_map") != std::string::npos);
  CHECK(error(R"({"weight_map": {"a": "../x.safetensors"}})") ==
        "model.safetensors.index.json: tensor 'a' is in '../x.safetensors', expected a file "
        "beside the index");
  CHECK(error(R"({"weight_map": {"c": "x.safetensors"}})") ==
        "x.safetensors: tensor 'c' is not in x.safetensors, where model.safetensors.index.json "
        "has it");
  CHECK(error(R"({"weight_map": {"a": "x.safetensors"}})") ==
        "x.safetensors: tensor 'b' is not in model.safetensors.index.json");
  CHECK(error(R"({"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}})") ==
        "x.safetensors: tensor 'b' is in another file in model.safetensors.index.json");
  CHECK(error(R"({"weight_map": {"a": "z.safetensors"}})").starts_with("z.safetensors: "));
}

}  // namespace hew::test
