//! Write a strategy: what one kind of project is made of, so that `havun-backup` can keep it.
//!
//! A strategy decides *what*, the host decides *how*: it returns plans, and bytes of files and databases never
//! pass through it. Implement [`Strategy`], call [`export_strategy!`], build with
//! `cargo build --release --target wasm32-wasip2`, and hand the operator the one `.wasm` file.
//!
//! ```
//! use havun_backup_sdk::prelude::*;
//!
//! settings! {
//!     /// Settings of a static site.
//!     pub struct Site {
//!         /// Globs to leave out.
//!         exclude: Vec<String>,
//!     }
//! }
//!
//! struct StaticSite;
//!
//! impl Strategy for StaticSite {
//!     type Settings = Site;
//!
//!     fn about() -> About {
//!         About::new("static-site", "0.1.0", "Static site")
//!     }
//!
//!     fn plan_backup(cx: &Context<Site>, _root: &dyn Tree) -> Result<BackupPlan> {
//!         let everything = Item::tree("files").exclude(&cx.settings.exclude).because("every file of the site");
//!         Ok(BackupPlan::of([everything]))
//!     }
//! }
//!
//! export_strategy!(StaticSite);
//!
//! // Natively, as in `cargo test`, a tree is a value:
//! let tree = FakeTree::new().file("index.html", "hello");
//! let plan = StaticSite::plan_backup(&Context::for_test("{}")?, &tree)?;
//! assert_eq!(plan.items[0].name, "files");
//! # Ok::<(), Error>(())
//! ```
//!
//! Read [`Strategy`], [`Tree`], [`settings!`], then the builders in `plan`. The contract itself is `wit/`.

mod adapter;
mod context;
pub mod erasing;
mod fake;
pub mod host;
mod plan;
pub mod project_files;
mod reading;
pub mod settings;
mod strategy;
mod tree;

/// The generated bindings of `wit/`; strategies need them for nothing but [`export_strategy!`].
#[allow(missing_docs, unsafe_op_in_unsafe_fn)]
pub mod wit {
    wit_bindgen::generate!({
        path: "../wit",
        world: "erasing-strategy",
        pub_export_macro: true,
        export_macro_name: "export_guest",
        additional_derives: [PartialEq],
    });
}

pub use adapter::Adapter;
pub use context::Context;
pub use erasing::EraseSetting;
#[cfg(not(target_family = "wasm"))]
pub use fake::{FakeDatabase, FakeTree};
pub use havun_dotenv as dotenv;
pub use plan::{StepOutcome, Verdict};
pub use reading::Reading;
pub use settings::{Settings, WordList};
pub use strategy::{About, Strategy};
pub use tree::{Database, Output, Target, Tree};
pub use wit::{
    exports::havun::backup::erasure::{EraseRule, Replacement, RestoredItem},
    exports::havun::backup::guest::{
        BackupPlan, Check, Connection, Detection, Item, Parameter, ProposedSetting, RestorePlan, RestoreStep, StepReport, StoredItem,
    },
    havun::backup::{
        project::Stat,
        types::{ConnectionInfo, Error, Fault},
    },
};

/// What every call of a strategy returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that a strategy usually names.
pub mod prelude {
    pub use crate::{
        About, BackupPlan, Check, Connection, ConnectionInfo, Context, Database, Detection, EraseRule, EraseSetting, Error, Fault, Item,
        Output, Parameter, ProposedSetting, Reading, Replacement, RestorePlan, RestoreStep, RestoredItem, Result, Settings, Stat,
        StepOutcome, StepReport, StoredItem, Strategy, Target, Tree, Verdict, WordList, dotenv, erasing, export_strategy, host, settings,
    };
    #[cfg(not(target_family = "wasm"))]
    pub use crate::{FakeDatabase, FakeTree};
}

// What `settings!` expands to needs these by a path that holds in any crate.
#[doc(hidden)]
pub use {serde, serde_json};
