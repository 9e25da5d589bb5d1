#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/tensor.h"

namespace hew {

/// What an attribute of a sealed HDF5 file can be.
using H5Attribute = std::variant<std::int64_t, double, bool, std::string>;

/// Writes a sealed HDF5 file (docs/file-formats.md): `kind` says what it holds and `version` which
/// layout of it. The file appears under `path` at commit(), complete, or not at all; an older file
/// of that name stays until then. Equal calls give equal bytes. Names are paths ("optimizer/m");
/// their groups are made on demand. A writer and any number of readers may be used in different
/// threads. All functions throw DataError naming the file and the dataset; a full disk is one.
class H5Writer {
 public:
  H5Writer(const std::filesystem::path& path, std::string_view kind, int version);
  H5Writer(H5Writer&& other) noexcept;
  H5Writer& operator=(H5Writer&&) = delete;
  H5Writer(const H5Writer&) = delete;
  H5Writer& operator=(const H5Writer&) = delete;
  ~H5Writer();

  /// The path as it was given.
  const std::string& file() const;

  /// One dataset of the view's shape and dtype, which must be in host memory.
  void write(const std::string& name, const ConstView& values);
  /// The same from any device.
  void write(const std::string& name, const Tensor& values);
  template <class T>
  void write(const std::string& name, std::span<const T> values) {
    write(name, ConstView{values.data(), {std::ssize(values)}, kDTypeOf<T>, {}});
  }
  template <class T>
  void write(const std::string& name, const std::vector<T>& values) {
    write(name, std::span<const T>(values));
  }

  /// Adds to the end of a 1-D dataset, which the first call makes. Chunks of 65536 elements.
  template <class T>
  void append(const std::string& name, std::span<const T> values) {
    append(name, ConstView{values.data(), {std::ssize(values)}, kDTypeOf<T>, {}});
  }
  void append(const std::string& name, const ConstView& values);

  /// Sets an attribute of a dataset or group ("/" is the file); makes the group if there is none.
  void attribute(const std::string& object, const std::string& name, const H5Attribute& value);

  /// Seals, syncs and renames. Nothing may be written afterwards.
  void commit();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Reads a sealed HDF5 file, after checking its whole content against the seal and its kind and
/// version against what is asked for. All functions throw DataError naming the file and the place.
class H5Reader {
 public:
  H5Reader(const std::filesystem::path& path, std::string_view kind, int max_version);
  /// Whatever kind it is; require_kind() then says which are taken.
  explicit H5Reader(const std::filesystem::path& path);
  H5Reader(H5Reader&& other) noexcept;
  H5Reader& operator=(H5Reader&&) = delete;
  H5Reader(const H5Reader&) = delete;
  H5Reader& operator=(const H5Reader&) = delete;
  ~H5Reader();

  /// The path as it was given.
  const std::string& file() const;
  /// What the file holds, as it says itself.
  const std::string& kind() const;
  /// The layout version that the file was written with.
  int version() const;
  /// Throws DataError unless the file is of this kind, in a version from 1 to max_version.
  void require_kind(std::string_view kind, int max_version) const;

  /// True for a dataset or a group.
  bool exists(const std::string& name) const;
  /// True for a dataset.
  bool is_dataset(const std::string& name) const;
  Shape shape(const std::string& name) const;
  DType dtype(const std::string& name) const;
  /// Names of the datasets and groups in a group ("/" is the file), sorted.
  std::vector<std::string> list(const std::string& group) const;

  Tensor read(const std::string& name, const Stream& stream) const;
  /// All values in row-major order. T must be the dataset's dtype.
  template <class T>
  std::vector<T> read_vector(const std::string& name) const {
    std::vector<T> out(static_cast<std::size_t>(shape(name).numel()));
    read_into(name, out.data(), kDTypeOf<T>);
    return out;
  }
  /// Elements [begin, begin + out.size()) of a 1-D dataset of T.
  template <class T>
  void read_range(const std::string& name, std::int64_t begin, std::span<T> out) const {
    read_range_into(name, begin, std::ssize(out), out.data(), kDTypeOf<T>);
  }

  bool has_attribute(const std::string& object, const std::string& name) const;
  H5Attribute attribute(const std::string& object, const std::string& name) const;
  std::string attribute_string(const std::string& object, const std::string& name) const;
  std::int64_t attribute_int(const std::string& object, const std::string& name) const;
  double attribute_double(const std::string& object, const std::string& name) const;
  bool attribute_bool(const std::string& object, const std::string& name) const;

 private:
  struct Impl;
  void read_into(const std::string& name, void* out, DType dtype) const;
  void read_range_into(const std::string& name, std::int64_t begin, std::int64_t count, void* out,
                       DType dtype) const;

  std::unique_ptr<Impl> impl_;
};

}  // namespace hew
