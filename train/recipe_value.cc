#include "train/recipe_value.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "core/error.h"

namespace hew::train {
namespace {

// A quoted scalar ("!" is the tag YAML gives it) is a text, never a number or a truth value.
bool is_plain(const YAML::Node& node) {
  return node.IsScalar() && node.Tag() != "!";
}

template <class T>
bool read_number(const YAML::Node& node, T& out) {
  if (!is_plain(node))
    return false;
  const std::string& text = node.Scalar();
  T value{};
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size())
    return false;
  out = value;
  return true;
}

bool read_point(const YAML::Node& node, sparsity::SchedulePoint& out) {
  return node.IsSequence() && node.size() == 2 && read_value(node[0], out.at) &&
         read_value(node[1], out.sparsity);
}

}  // namespace

bool read_value(const YAML::Node& node, std::int64_t& out) {
  return read_number(node, out);
}

bool read_value(const YAML::Node& node, double& out) {
  double value = 0;
  if (!read_number(node, value) || !std::isfinite(value))
    return false;
  out = value;
  return true;
}

bool read_value(const YAML::Node& node, bool& out) {
  if (!is_plain(node) || (node.Scalar() != "true" && node.Scalar() != "false"))
    return false;
  out = node.Scalar() == "true";
  return true;
}

bool read_value(const YAML::Node& node, std::string& out) {
  // A name with a zero byte is cut there by the system.
  if (!node.IsScalar() || node.Scalar().find('\0') != std::string::npos)
    return false;
  out = node.Scalar();
  return true;
}

bool read_value(const YAML::Node& node, StringList& out) {
  StringList values;
  if (node.IsScalar()) {
    if (!read_value(node, values.emplace_back()))
      return false;
  } else if (node.IsSequence()) {
    for (const YAML::Node& item : node) {
      if (!read_value(item, values.emplace_back()))
        return false;
    }
  } else {
    return false;
  }
  out = std::move(values);
  return true;
}

bool read_value(const YAML::Node& node, NumberList& out) {
  NumberList values;
  if (!node.IsSequence() && !read_value(node, values.emplace_back()))
    return false;
  for (const YAML::Node& item : node) {
    if (!read_value(item, values.emplace_back()))
      return false;
  }
  out = std::move(values);
  return true;
}

bool read_value(const YAML::Node& node, std::array<double, 2>& out) {
  return node.IsSequence() && node.size() == 2 && read_value(node[0], out[0]) &&
         read_value(node[1], out[1]);
}

bool read_value(const YAML::Node& node, Device& out) {
  if (!node.IsScalar())
    return false;
  try {
    out = parse_device(node.Scalar());
    return true;
  } catch (const ConfigError&) {
    return false;
  }
}

bool read_value(const YAML::Node& node, StepMark& out) {
  if (!is_plain(node))
    return false;
  const std::optional<StepMark> mark = parse_step_mark(node.Scalar());
  if (mark)
    out = *mark;
  return mark.has_value();
}

bool read_value(const YAML::Node& node, std::optional<StepMark>& out) {
  if (node.IsScalar() && node.Scalar() == "never") {
    out.reset();
    return true;
  }
  StepMark mark;
  if (!read_value(node, mark))
    return false;
  out = mark;
  return true;
}

bool read_value(const YAML::Node& node, ScheduleTable& out) {
  if (!node.IsSequence())
    return false;
  ScheduleTable points;
  for (const YAML::Node& item : node) {
    if (!read_point(item, points.emplace_back()))
      return false;
  }
  out = std::move(points);
  return true;
}

std::string write_value(std::int64_t value) {
  return fmt::format("{}", value);
}
std::string write_value(double value) {
  return fmt::format("{}", value);
}
std::string write_value(bool value) {
  return value ? "true" : "false";
}

std::string write_value(const std::string& value) {
  YAML::Emitter out;
  out << YAML::Flow << YAML::BeginSeq << value << YAML::EndSeq;  // quotes what a list would break
  const std::string list = out.c_str();
  return list.substr(1, list.size() - 2);
}

std::string write_value(const StringList& value) {
  std::string list;
  for (const std::string& item : value) {
    if (!list.empty())
      list += ", ";
    list += write_value(item);
  }
  return "[" + list + "]";
}

std::string write_value(const NumberList& value) {
  return fmt::format("[{}]", fmt::join(value, ", "));
}

std::string write_value(const std::array<double, 2>& value) {
  return fmt::format("[{}, {}]", value[0], value[1]);
}

std::string write_value(const Device& value) {
  return to_string(value);
}
std::string write_value(const StepMark& value) {
  return to_string(value);
}

std::string write_value(const std::optional<StepMark>& value) {
  return value ? to_string(*value) : "never";
}

std::string write_value(const ScheduleTable& value) {
  std::string list;
  for (const sparsity::SchedulePoint& point : value) {
    if (!list.empty())
      list += ", ";
    list += fmt::format("[{}, {}]", to_string(point.at), point.sparsity);
  }
  return "[" + list + "]";
}

std::string describe_node(const YAML::Node& node) {
  if (node.IsScalar())
    return fmt::format("'{}'", node.Scalar());
  if (node.IsSequence()) {
    YAML::Emitter out;
    out << YAML::Flow << node;
    constexpr std::size_t kShort = 60;
    return out.size() <= kShort ? out.c_str() : "a list";
  }
  return node.IsMap() ? "a mapping" : "nothing";
}

}  // namespace hew::train
