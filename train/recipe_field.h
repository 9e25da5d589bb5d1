#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "train/recipe_value.h"

namespace hew::train {

/// Whether the user gave a key (dotted, below the struct that the field fills).
using Written = std::function<bool(std::string_view)>;

/// One key of a recipe: how it is read into a struct S, checked, defaulted, written and documented.
template <class S>
struct Field {
  std::string key;      // dotted, below S: "schedule.final"
  std::string section;  // the part of `key` before its last word, may be empty
  std::string expected;
  std::string default_text;
  std::string meaning;
  std::function<bool(const YAML::Node&, S&)> read;
  std::function<std::string(const S&)> write;
  std::function<void(S&, std::int64_t)> resolve;         // steps of the run; empty for most types
  std::function<void(S&, const Written&)> fill_default;  // where a default depends on other keys
  std::function<bool(const S&)> needed;                  // a missing key is an error if this holds
  std::function<bool(const S&)> applies;                 // empty: always
  std::string applies_key;                               // the key that decides whether it applies
  std::string applies_value;

  bool is_active(const S& target) const { return !applies || applies(target); }

  Field& required() {
    return required_if("required", [](const S&) { return true; });
  }
  Field& required_if(std::string text, std::function<bool(const S&)> condition) {
    default_text = std::move(text);
    needed = std::move(condition);
    return *this;
  }
  /// `text` is for the reference; `fill` runs after all written keys are read, in table order.
  Field& defaults_to(std::string text, std::function<void(S&, const Written&)> fill) {
    default_text = std::move(text);
    fill_default = std::move(fill);
    return *this;
  }
  /// The key may only be given where `condition` holds, which is where `deciding_key` is `value`.
  Field& only_with(std::string deciding_key, std::string value,
                   std::function<bool(const S&)> condition) {
    applies_key = std::move(deciding_key);
    applies_value = std::move(value);
    applies = std::move(condition);
    return *this;
  }
};

/// A set of allowed values; `text` completes "expected an integer …".
template <class T>
struct Limit {
  std::string text;
  std::function<bool(const T&)> holds;
};

template <class T>
Limit<T> any_value() {
  return {"", [](const T&) { return true; }};
}
template <class T>
Limit<T> at_least(T low) {
  return {"≥ " + write_value(low), [low](const T& value) { return value >= low; }};
}
/// Both included.
inline Limit<std::int64_t> between(std::int64_t low, std::int64_t high) {
  return {"≥ " + write_value(low) + " and ≤ " + write_value(high),
          [=](std::int64_t value) { return value >= low && value <= high; }};
}
inline Limit<double> positive() {
  return {"> 0", [](const double& value) { return value > 0; }};
}
inline Limit<double> from_to(double low, double high) {
  return {"from " + write_value(low) + " to " + write_value(high),
          [=](const double& value) { return value >= low && value <= high; }};
}
/// 0 included, 1 not.
inline Limit<double> below_one() {
  return {"≥ 0 and < 1", [](const double& value) { return value >= 0 && value < 1; }};
}

template <class T>
void resolve_value(T&, std::int64_t) {}
inline void resolve_value(StepMark& mark, std::int64_t steps) {
  mark.resolve(steps);
}
inline void resolve_value(std::optional<StepMark>& mark, std::int64_t steps) {
  if (mark)
    mark->resolve(steps);
}
inline void resolve_value(ScheduleTable& table, std::int64_t steps) {
  for (auto& point : table) point.at.resolve(steps);
}

/// Adds fields for the members of one part of S. `get` maps S& to Part& and const S& to const
/// Part&.
template <class S, class Get>
class Section {
 public:
  using Part = std::remove_cvref_t<std::invoke_result_t<Get, S&>>;

  Section(std::vector<Field<S>>& fields, std::string name, Get get)
      : fields_(fields), name_(std::move(name)), get_(get) {}

  /// The default shown is that of a default-constructed S.
  template <class T>
  Field<S>& add(const std::string& word, T Part::*member, Limit<T> limit,
                const std::string& meaning) {
    Field<S> field;
    field.key = name_.empty() ? word : name_ + "." + word;
    field.section = name_;
    field.expected = describe(T{}) + (limit.text.empty() ? "" : " " + limit.text);
    field.meaning = meaning;
    field.read = [get = get_, member, limit](const YAML::Node& node, S& target) {
      T value{};
      if (!read_value(node, value) || !limit.holds(value))
        return false;
      get(target).*member = std::move(value);
      return true;
    };
    field.write = [get = get_, member](const S& target) {
      return write_value(get(target).*member);
    };
    field.resolve = [get = get_, member](S& target, std::int64_t steps) {
      resolve_value(get(target).*member, steps);
    };
    field.default_text = field.write(S{});
    fields_.push_back(std::move(field));
    return fields_.back();
  }
  template <class T>
  Field<S>& add(const std::string& word, T Part::*member, const std::string& meaning) {
    return add(word, member, any_value<T>(), meaning);
  }

 private:
  std::vector<Field<S>>& fields_;
  std::string name_;
  Get get_;
};

}  // namespace hew::train
