//! MariaDB and MySQL.
use super::*;
pub(super) struct Mysql(ResolvedConnection);
impl Mysql { pub(super) fn new(connection: ResolvedConnection) -> Result<Self, DatabaseError> { Ok(Self(connection)) } }
impl Engine for Mysql {
    fn describe(&self) -> String { self.0.name().to_owned() }
    fn preflight(&self, _: &Cancel) -> Result<Preflight, DatabaseError> { Err(DatabaseError::Cancelled) }
    fn begin_dump<'a>(&'a self, _: &DumpOptions, _: &Cancel) -> Result<Box<dyn Dump + 'a>, DatabaseError> { Err(DatabaseError::Cancelled) }
    fn restore(&self, _: DumpSource<'_>, _: &DatabaseRecord, _: &RestoreTarget, _: &Cancel) -> Result<RestoreOutcome, DatabaseError> { Err(DatabaseError::Cancelled) }
    fn open_scratch(&self, _: Option<&str>) -> Result<Box<dyn ScratchDatabase>, DatabaseError> { Err(DatabaseError::Cancelled) }
}
