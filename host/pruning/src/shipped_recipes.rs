//! The recipes that are part of the program.

/// A recipe by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShippedRecipe {
    /// What it is called.
    pub name: &'static str,
    /// Its text.
    pub toml: &'static str,
}

/// All of them.
pub const SHIPPED_RECIPES: [ShippedRecipe; 5] = [
    ShippedRecipe { name: "seed", toml: include_str!("../../../recipes/seed.toml") },
    ShippedRecipe { name: "memory-first", toml: include_str!("../../../recipes/memory-first.toml") },
    ShippedRecipe { name: "latency-first", toml: include_str!("../../../recipes/latency-first.toml") },
    ShippedRecipe { name: "balanced", toml: include_str!("../../../recipes/balanced.toml") },
    ShippedRecipe { name: "edge", toml: include_str!("../../../recipes/edge.toml") },
];

/// The one of this name.
#[must_use]
pub fn shipped_recipe(name: &str) -> Option<ShippedRecipe> {
    SHIPPED_RECIPES.into_iter().find(|recipe| recipe.name == name)
}
