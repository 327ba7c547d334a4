//! What a file is, apart from its content: stat, owner names, link text, extended attributes, device numbers, holes.

mod owners;
mod read;
mod stat;

pub use owners::Owners;
pub use read::{OpenedFile, data_ranges, describe, open_file};
pub use stat::{FileStat, LinkGroups, stat_at, stat_of};

#[cfg(test)]
mod tests;
