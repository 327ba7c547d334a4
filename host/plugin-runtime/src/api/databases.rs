//! `databases`: restored throw-away databases, read-only.

use super::{
    Fatal, GuestError, HostError,
    bindings::havun::backup::databases::{Host, HostDatabase},
};
use crate::{call::Guest, text};
use havun_model::ScratchDatabase;
use wasmtime::component::Resource;

/// Most values of one sample.
const MAX_SAMPLE: u32 = 100;
/// Most bytes of one sampled value.
const MAX_VALUE: usize = 64 << 10;
/// Longest name of a table or column.
const MAX_NAME: usize = 256;

/// A scratch database in the hands of a guest.
pub struct Database {
    /// The item that it was restored from.
    pub item: String,
    /// The database itself.
    pub inner: Box<dyn ScratchDatabase>,
}

impl Guest {
    /// Asks the database; its refusals are told to the guest.
    fn ask<R>(
        &mut self,
        this: &Resource<Database>,
        question: impl FnOnce(&mut dyn ScratchDatabase) -> Result<R, String>,
    ) -> Result<R, HostError> {
        if let Some(stop) = self.must_stop() {
            return Err(Fatal(stop).into());
        }
        let database = self.table.get_mut(this).map_err(Fatal)?;
        question(database.inner.as_mut()).map_err(|what| GuestError::Io(what).into())
    }
}

fn check_name(name: &str) -> Result<&str, GuestError> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
        return Err(GuestError::Invalid(format!("`{}` is not a name of a table or column", text::line(name, 80))));
    }
    Ok(name)
}

impl Host for Guest {}

impl HostDatabase for Guest {
    fn item(&mut self, this: Resource<Database>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.item.clone())
    }

    fn tables(&mut self, this: Resource<Database>) -> Result<Vec<String>, HostError> {
        self.ask(&this, |database| database.tables())
    }

    fn count_rows(&mut self, this: Resource<Database>, table: String) -> Result<f64, HostError> {
        check_name(&table)?;
        #[expect(clippy::cast_precision_loss, reason = "no table has 2^53 rows")]
        self.ask(&this, |database| Ok(database.count_rows(&table)? as f64))
    }

    fn sample(&mut self, this: Resource<Database>, table: String, column: String, limit: u32) -> Result<Vec<Option<String>>, HostError> {
        check_name(&table)?;
        check_name(&column)?;
        let limit = limit.min(MAX_SAMPLE);
        let values = self.ask(&this, |database| database.sample(&table, &column, limit))?;
        let cut = |value: String| text::cut_at(&value, MAX_VALUE).to_owned();
        Ok(values.into_iter().take(limit as usize).map(|value| value.map(cut)).collect())
    }

    fn drop(&mut self, this: Resource<Database>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
