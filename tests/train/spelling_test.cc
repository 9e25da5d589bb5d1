#include "train/spelling.h"

#include <doctest/doctest.h>

using hew::train::edit_distance;
using hew::train::similar_keys;

TEST_CASE("edit distance counts insertions, deletions, substitutions and swaps") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("abc", "") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("steps", "setps") == 1);
  CHECK(edit_distance("ca", "abc") == 3);  // optimal string alignment edits no substring twice
}

TEST_CASE("a guess is near in spelling, or the same word elsewhere") {
  const std::vector<std::string> known{"optim.lr", "optim.eps", "train.steps", "data.train",
                                       "train"};
  CHECK(similar_keys("optim.lrr", known) == std::vector<std::string>{"optim.lr"});
  CHECK(similar_keys("lr", known) == std::vector<std::string>{"optim.lr"});
  CHECK(similar_keys("train.step", known) == std::vector<std::string>{"train.steps"});
  CHECK(similar_keys("trian", known) == std::vector<std::string>{"train"});
  CHECK(similar_keys("optim.colour", known).empty());
}
