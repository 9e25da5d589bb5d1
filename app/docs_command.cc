#include "app/docs_command.h"

#include <fmt/format.h>

#include "train/recipe.h"

namespace hew {

void add_docs_command(CLI::App& app, const AppContext& context) {
  CLI::App* docs = app.add_subcommand("docs", "Print pages that are made from the program itself");
  docs->require_subcommand(1);
  docs->add_subcommand("recipe", "Every key of a recipe, as Markdown")->callback([&context] {
    if (context.root())
      fmt::print("{}", train::recipe_reference_markdown());
  });
}

}  // namespace hew
