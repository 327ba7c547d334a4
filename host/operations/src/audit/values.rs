//! What goes into a statement and what comes out of it, the same for every server: text, whole numbers and NULL.

use super::{
    error::{AuditError, failed},
    signed, time_text,
};
use jiff::Timestamp;
use sqlx::{Row as _, mysql::MySqlRow, postgres::PgRow, sqlite::SqliteRow};

/// The value of one `?`. NULL has a type, because PostgreSQL asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arg {
    /// Text, or NULL in its place.
    Text(Option<String>),
    /// A number, or NULL in its place.
    Int(Option<i64>),
}

/// The values of a statement, in the order of its `?`: `args![project, now, count]`. Times become text that sorts.
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        &[$($crate::audit::Arg::from($value)),*]
    };
}
pub(crate) use args;

macro_rules! arg_from {
    ($($type:ty => |$value:ident| $arg:expr;)*) => {
        $(impl From<$type> for Arg {
            fn from($value: $type) -> Self {
                $arg
            }
        })*
    };
}

arg_from! {
    &str => |text| Self::Text(Some(text.to_owned()));
    &String => |text| Self::Text(Some(text.clone()));
    String => |text| Self::Text(Some(text));
    Option<String> => |text| Self::Text(text);
    &Option<String> => |text| Self::Text(text.clone());
    Option<&str> => |text| Self::Text(text.map(str::to_owned));
    Timestamp => |time| Self::Text(Some(time_text(time)));
    Option<Timestamp> => |time| Self::Text(time.map(time_text));
    i64 => |number| Self::Int(Some(number));
    Option<i64> => |number| Self::Int(number);
    u32 => |number| Self::Int(Some(number.into()));
    u64 => |number| Self::Int(Some(signed(number)));
    Option<u64> => |number| Self::Int(number.map(signed));
    bool => |yes| Self::Int(Some(yes.into()));
}

/// One row of an answer; columns go by name. Name what is no column: `COUNT(*) AS counted`.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    MySql(MySqlRow),
    Postgres(PgRow),
}

macro_rules! get {
    ($row:expr, $column:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($column),
            Row::MySql(row) => row.try_get($column),
            Row::Postgres(row) => row.try_get($column),
        }
        .map_err(failed("read"))
    };
}

impl Row {
    /// The text of a column that is never NULL.
    pub(crate) fn text(&self, column: &str) -> Result<String, AuditError> {
        get!(self, column)
    }

    /// The text of a column.
    pub(crate) fn opt_text(&self, column: &str) -> Result<Option<String>, AuditError> {
        get!(self, column)
    }

    /// The number of a column (`BIGINT`, or a count) that is never NULL.
    pub(crate) fn int(&self, column: &str) -> Result<i64, AuditError> {
        get!(self, column)
    }

    /// The number of a column.
    pub(crate) fn opt_int(&self, column: &str) -> Result<Option<i64>, AuditError> {
        get!(self, column)
    }

    /// The time of a column that is never NULL.
    pub(crate) fn time(&self, column: &str) -> Result<Timestamp, AuditError> {
        parsed(column, self.text(column)?, "time")
    }

    /// The time of a column.
    pub(crate) fn opt_time(&self, column: &str) -> Result<Option<Timestamp>, AuditError> {
        self.opt_text(column)?.map(|text| parsed(column, text, "time")).transpose()
    }
}

/// What a column's text says; `expected` names what it should.
pub(crate) fn parsed<T: std::str::FromStr>(column: &str, text: String, expected: &'static str) -> Result<T, AuditError> {
    text.parse().map_err(|_| AuditError::Odd { column: column.to_owned(), found: text, expected })
}
