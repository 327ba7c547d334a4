//! Questions of a strategy to a restored database, read-only.

use super::{
    client::Clients,
    names::{key, literal, parse_key, quoted},
};
use crate::databases::DatabaseError;
use havun_model::{Cancel, ScratchDatabase};

/// A restored database that `verify` may ask. Tables outside of the schema `public` are called `schema.table`; the bare
/// name finds one too, when only one schema has it.
pub(super) struct PostgresqlScratch {
    clients: Clients,
    database: String,
    encoding: &'static str,
}

impl PostgresqlScratch {
    /// # Errors
    /// When it cannot be reached.
    pub(super) fn open(clients: Clients, database: &str) -> Result<Self, DatabaseError> {
        let rows = clients.query(database, "SELECT current_setting('server_encoding');", &Cancel::default())?;
        let plain = rows.first().and_then(|row| row.first()).is_some_and(|encoding| encoding == "SQL_ASCII");
        Ok(Self { clients, database: database.to_owned(), encoding: if plain { "SQL_ASCII" } else { "UTF8" } })
    }

    fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let sql = format!("BEGIN TRANSACTION READ ONLY;\nSET LOCAL statement_timeout = '5min';\n{sql};\nROLLBACK;");
        self.clients.query_as(&self.database, self.encoding, &sql, &Cancel::default()).map_err(|error| error.to_string())
    }

    fn all(&self, and: &str) -> Result<Vec<(String, String)>, String> {
        let sql = format!(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
             AND n.nspname !~ '^pg_(toast|temp)' {and} ORDER BY 1, 2"
        );
        let pair = |row: Vec<String>| <[String; 2]>::try_from(row).ok().map(|[schema, table]| (schema, table));
        Ok(self.query(&sql)?.into_iter().filter_map(pair).collect())
    }

    fn table(&self, name: &str) -> Result<String, String> {
        let (schema, table) = parse_key(name).ok_or("no such table")?;
        let written = |schema: &str, table: &str| format!("{}.{}", quoted(schema), quoted(table));
        let named = self.all(&format!("AND c.relname = {}", literal(&table)))?;
        match named.as_slice() {
            found if found.iter().any(|found| found.0 == schema) => Ok(written(&schema, &table)),
            [(only, _)] if schema == "public" => Ok(written(only, &table)),
            _ => Err(format!("no such table: {name}")),
        }
    }
}

impl ScratchDatabase for PostgresqlScratch {
    fn tables(&mut self) -> Result<Vec<String>, String> {
        let mut names: Vec<String> = self.all("")?.iter().map(|(schema, table)| key(schema, table)).collect();
        names.sort();
        Ok(names)
    }

    fn count_rows(&mut self, table: &str) -> Result<u64, String> {
        let rows = self.query(&format!("SELECT count(*) FROM ONLY {}", self.table(table)?))?;
        let count = rows.first().and_then(|row| row.first()).and_then(|count| count.parse().ok());
        count.ok_or_else(|| "the server did not answer with a number".to_owned())
    }

    fn sample(&mut self, table: &str, column: &str, limit: u32) -> Result<Vec<Option<String>>, String> {
        // A mark before each value tells the empty text from NULL.
        let column = quoted(column);
        let sql = format!(
            "SELECT CASE WHEN t.{column} IS NULL THEN '-' ELSE '+' || t.{column}::text END FROM {} AS t LIMIT {limit}",
            self.table(table)?
        );
        let value = |row: Vec<String>| row.first().and_then(|text| text.strip_prefix('+')).map(str::to_owned);
        Ok(self.query(&sql)?.into_iter().map(value).collect())
    }
}
