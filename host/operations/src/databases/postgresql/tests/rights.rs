//! Users who may not do everything.

use super::*;
