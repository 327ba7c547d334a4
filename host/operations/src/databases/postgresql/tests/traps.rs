//! One test for each trap of the recipe.

use super::*;
