#pragma once

#include <yaml-cpp/yaml.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/named_enum.h"
#include "core/step_mark.h"
#include "sparsity/rule.h"

/// How a recipe's values are written. For every type: `read_value` (false if the node is something
/// else), `write_value` (YAML that reads back equal), `describe` (what the user should have given).
namespace hew::train {

using StringList = std::vector<std::string>;
using NumberList = std::vector<double>;
using ScheduleTable = std::vector<sparsity::SchedulePoint>;

bool read_value(const YAML::Node& node, std::int64_t& out);
bool read_value(const YAML::Node& node, double& out);
bool read_value(const YAML::Node& node, bool& out);
bool read_value(const YAML::Node& node, std::string& out);
bool read_value(const YAML::Node& node, StringList& out);
bool read_value(const YAML::Node& node, NumberList& out);
bool read_value(const YAML::Node& node, std::array<double, 2>& out);
bool read_value(const YAML::Node& node, Device& out);
bool read_value(const YAML::Node& node, StepMark& out);
bool read_value(const YAML::Node& node, std::optional<StepMark>& out);
bool read_value(const YAML::Node& node, ScheduleTable& out);
template <NamedEnum E>
bool read_value(const YAML::Node& node, E& out) {
  if (!node.IsScalar())
    return false;
  const std::optional<E> value = parse_named<E>(node.Scalar());
  if (value)
    out = *value;
  return value.has_value();
}

std::string write_value(std::int64_t value);
std::string write_value(double value);
std::string write_value(bool value);
std::string write_value(const std::string& value);
std::string write_value(const StringList& value);
std::string write_value(const NumberList& value);
std::string write_value(const std::array<double, 2>& value);
std::string write_value(const Device& value);
std::string write_value(const StepMark& value);
std::string write_value(const std::optional<StepMark>& value);
std::string write_value(const ScheduleTable& value);
template <NamedEnum E>
std::string write_value(E value) {
  return std::string(name_of(value));
}

inline std::string describe(const std::int64_t&) {
  return "an integer";
}
inline std::string describe(const double&) {
  return "a number";
}
inline std::string describe(const bool&) {
  return "true or false";
}
inline std::string describe(const std::string&) {
  return "a text";
}
inline std::string describe(const StringList&) {
  return "a text or list of texts";
}
inline std::string describe(const NumberList&) {
  return "a number or list of numbers";
}
inline std::string describe(const std::array<double, 2>&) {
  return "a list of two numbers";
}
inline std::string describe(const Device&) {
  return "cpu, cuda or cuda:N";
}
inline std::string describe(const StepMark&) {
  return "a step or percentage";
}
inline std::string describe(const std::optional<StepMark>&) {
  return "a step, percentage or never";
}
inline std::string describe(const ScheduleTable&) {
  return "a list of [step, sparsity] pairs";
}
template <NamedEnum E>
std::string describe(const E&) {
  std::string names;
  for (const auto& [value, name] : EnumNames<E>::kTable) {
    if (!names.empty())
      names += ", ";
    names += name;
  }
  return "one of " + names;
}

/// What the node holds, for an error text: `'abc'`, "a list", "a mapping", "nothing".
std::string describe_node(const YAML::Node& node);

}  // namespace hew::train
