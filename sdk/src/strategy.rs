//! The trait that a strategy implements.

use crate::{
    BackupPlan, Check, Context, Database, Detection, EraseRule, Error, Output, RestorePlan, RestoredItem, Result, Settings, StepReport,
    StoredItem, Target, Tree,
};

/// What a strategy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) title: String,
    pub(crate) requests: Vec<String>,
}

impl About {
    /// `id`: 1 to 64 of `a-z 0-9 -`. `version`: semantic, as a rule `env!("CARGO_PKG_VERSION")`.
    pub fn new(id: &str, version: &str, title: &str) -> Self {
        Self { id: id.to_owned(), version: version.to_owned(), title: title.to_owned(), requests: Vec::new() }
    }

    /// Asks for a capability beyond the default; the operator's grant decides.
    #[must_use]
    pub fn request(mut self, capability: &str) -> Self {
        self.requests.push(capability.to_owned());
        self
    }
}

/// What one kind of project is made of. Only [`about`](Self::about) and [`plan_backup`](Self::plan_backup) have
/// no default.
pub trait Strategy {
    /// Declared by [`settings!`](crate::settings!); [`NoSettings`](crate::settings::NoSettings) when there are none.
    type Settings: Settings;

    /// Called once when the component is added or loaded. CPU budget 1 s.
    fn about() -> About;

    /// Is this project mine? CPU budget 5 s.
    ///
    /// # Errors
    /// Only where the tree cannot be read at all; a strange file means "not mine".
    fn detect(_root: &dyn Tree) -> Result<Option<Detection>> {
        Ok(None)
    }

    /// What to back up. Printed by a dry run, carried out by a run. CPU budget 5 s.
    ///
    /// # Errors
    /// Fails the project's run, with the reason.
    fn plan_backup(cx: &Context<Self::Settings>, root: &dyn Tree) -> Result<BackupPlan>;

    /// Writes the generated item `item`. CPU budget 60 s.
    ///
    /// # Errors
    /// Fails the item.
    fn generate(_cx: &Context<Self::Settings>, item: &str, _root: &dyn Tree, _to: &mut dyn Output) -> Result<()> {
        Err(Error::NotFound(format!("this strategy generates no item `{item}`")))
    }

    /// Where the items of a snapshot go; as a rule, all back to where they were. CPU budget 5 s.
    ///
    /// # Errors
    /// Fails the restore before anything is written.
    fn plan_restore(_cx: &Context<Self::Settings>, items: &[StoredItem]) -> Result<RestorePlan> {
        Ok(RestorePlan::in_place(items))
    }

    /// Steps inside the restored tree. CPU budget 60 s.
    ///
    /// # Errors
    /// Only where going on makes no sense; a step that failed is a report.
    fn after_restore(_cx: &Context<Self::Settings>, _restored: &dyn Target) -> Result<Vec<StepReport>> {
        Ok(Vec::new())
    }

    /// Is the restored application whole? CPU budget 60 s.
    ///
    /// # Errors
    /// Only where going on makes no sense; what is wrong with the application is a check.
    fn verify(_cx: &Context<Self::Settings>, _restored: &dyn Tree, _databases: &[&dyn Database]) -> Result<Vec<Check>> {
        Ok(Vec::new())
    }

    /// What to erase, of everybody in the erasure register, from what has been restored; the host does it. As a rule
    /// [`erasing::rules`](crate::erasing::rules) of a setting. CPU budget 5 s.
    ///
    /// # Errors
    /// The operator is told that nothing was erased, and why.
    fn plan_erase(_cx: &Context<Self::Settings>, _items: &[RestoredItem]) -> Result<Vec<EraseRule>> {
        Ok(Vec::new())
    }
}

/// Makes `$strategy` the one that this component exports. Natively it does nothing, so that `cargo test` links.
#[macro_export]
macro_rules! export_strategy {
    ($strategy:ty) => {
        #[cfg(target_family = "wasm")]
        #[doc(hidden)]
        type HavunExportedStrategy = $crate::Adapter<$strategy>;
        #[cfg(target_family = "wasm")]
        $crate::wit::export_guest!(HavunExportedStrategy with_types_in $crate::wit);
    };
}
