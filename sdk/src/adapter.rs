//! From the generated exports to [`Strategy`].

use crate::{
    BackupPlan, Check, Context, Database, Detection, EraseRule, RestorePlan, RestoredItem, Result, StepReport, StoredItem, Strategy,
    settings,
    tree::HostTarget,
    wit::{
        exports::havun::backup::{
            erasure,
            guest::{self, Description},
        },
        havun::backup::{databases, output, project, types},
    },
};
use std::marker::PhantomData;

/// The component's exports, carried out by `S`.
pub struct Adapter<S>(PhantomData<S>);

impl<S: Strategy> guest::Guest for Adapter<S> {
    fn describe() -> Description {
        let about = S::about();
        Description {
            id: about.id,
            version: about.version,
            title: about.title,
            requests: about.requests,
            settings_schema: settings::schema::<S::Settings>(),
            ext: Vec::new(),
        }
    }

    fn detect(root: project::Tree) -> Result<Option<Detection>> {
        S::detect(&root)
    }

    fn plan_backup(context: types::Context, root: project::Tree) -> Result<BackupPlan> {
        S::plan_backup(&Context::of(context)?, &root)
    }

    fn generate(context: types::Context, item: String, root: project::Tree, mut to: output::Writer) -> Result<()> {
        S::generate(&Context::of(context)?, &item, &root, &mut to)?;
        to.finish()
    }

    fn plan_restore(context: types::Context, items: Vec<StoredItem>) -> Result<RestorePlan> {
        S::plan_restore(&Context::of(context)?, &items)
    }

    fn after_restore(context: types::Context, restored: project::Target) -> Result<Vec<StepReport>> {
        S::after_restore(&Context::of(context)?, &HostTarget::new(restored))
    }

    fn verify(context: types::Context, restored: project::Tree, restored_databases: Vec<databases::Database>) -> Result<Vec<Check>> {
        let databases: Vec<&dyn Database> = restored_databases.iter().map(|database| database as &dyn Database).collect();
        S::verify(&Context::of(context)?, &restored, &databases)
    }
}

impl<S: Strategy> erasure::Guest for Adapter<S> {
    fn plan_erase(context: types::Context, items: Vec<RestoredItem>) -> Result<Vec<EraseRule>> {
        S::plan_erase(&Context::of(context)?, &items)
    }
}
