//! Questions of a strategy to a restored database, read-only.

use super::{
    super::DatabaseError,
    client::{Clients, literal, quoted},
};
use havun_model::{Cancel, ScratchDatabase};

/// A restored database that `verify` may ask.
pub(super) struct MysqlScratch {
    clients: Clients,
    database: String,
    describe: String,
}

impl MysqlScratch {
    pub(super) fn new(clients: Clients, database: &str, describe: String) -> Self {
        Self { clients, database: database.to_owned(), describe }
    }

    fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let sql = format!("SET SESSION TRANSACTION READ ONLY; START TRANSACTION READ ONLY; {sql}; ROLLBACK;");
        self.clients.query(&sql, &self.describe, &Cancel::default()).map_err(|error: DatabaseError| error.to_string())
    }

    fn table(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.database), quoted(table))
    }
}

impl ScratchDatabase for MysqlScratch {
    fn tables(&mut self) -> Result<Vec<String>, String> {
        let sql = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_TYPE NOT IN ('VIEW', 'SEQUENCE') ORDER BY 1",
            literal(&self.database)
        );
        Ok(self.query(&sql)?.into_iter().filter_map(|row| row.into_iter().next()).collect())
    }

    fn count_rows(&mut self, table: &str) -> Result<u64, String> {
        let rows = self.query(&format!("SELECT COUNT(*) FROM {}", self.table(table)))?;
        let count = rows.first().and_then(|row| row.first()).and_then(|count| count.parse().ok());
        count.ok_or_else(|| "the server did not answer with a number".to_owned())
    }

    fn sample(&mut self, table: &str, column: &str, limit: u32) -> Result<Vec<Option<String>>, String> {
        let column = quoted(column);
        // A mark before each value tells the text `NULL` from NULL.
        let sql = format!("SELECT IF({column} IS NULL, '-', CONCAT('+', {column})) FROM {} LIMIT {limit}", self.table(table));
        let value = |row: Vec<String>| row.first().and_then(|text| text.strip_prefix('+')).map(str::to_owned);
        Ok(self.query(&sql)?.into_iter().map(value).collect())
    }
}
