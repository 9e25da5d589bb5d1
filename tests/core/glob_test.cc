#include "core/glob.h"

#include <doctest/doctest.h>

#include <vector>

using hew::glob_match;

TEST_CASE("a glob fits the whole text or not at all") {
  CHECK(glob_match("", ""));
  CHECK_FALSE(glob_match("", "a"));
  CHECK(glob_match("*", ""));
  CHECK(glob_match("**", "anything at all"));
  CHECK(glob_match("abc", "abc"));
  CHECK_FALSE(glob_match("abc", "abcd"));
  CHECK_FALSE(glob_match("abcd", "abc"));
  CHECK(glob_match("a?c", "abc"));
  CHECK_FALSE(glob_match("a?c", "ac"));
  CHECK_FALSE(glob_match("?", ""));
  CHECK(glob_match("blocks.*.mlp.*.weight", "blocks.11.mlp.up.weight"));
  CHECK_FALSE(glob_match("blocks.*.mlp.*.weight", "blocks.11.mlp.up.bias"));
  CHECK_FALSE(glob_match("blocks.*.mlp.*.weight", "xblocks.1.mlp.up.weight"));
}

TEST_CASE("a star gives characters back when a later part does not fit") {
  CHECK(glob_match("*ab", "aab"));
  CHECK(glob_match("*a*b?c", "xaxbbxbyc"));
  CHECK_FALSE(glob_match("a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

TEST_CASE("a list of globs fits if any does") {
  const std::vector<std::string> globs{"head.*", "blocks.*"};
  CHECK(hew::glob_match_any(globs, "blocks.0"));
  CHECK_FALSE(hew::glob_match_any(globs, "norm"));
  CHECK_FALSE(hew::glob_match_any({}, "norm"));
}
