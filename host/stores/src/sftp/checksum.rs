//! SHA-256 by the server itself, with its `sha256sum`, where a login may run it.

use super::{link::Link, read::Whole, shared::Shared};
use havun_vault::store::StoreError;
use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

/// Files in one command: with paths of 255 bytes well below the 32 KiB that restricted shells take.
const FILES: usize = 100;
/// For the trial; a server that starts something else must not hold us up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Slowest disk that is waited for.
const BYTES_PER_SECOND: u64 = 4 << 20;

impl Shared {
    /// Whether the server runs `sha256sum` on the files that SFTP shows us, tried once on the marker: another root, a forced
    /// command and a banner all show.
    pub async fn can_sum(&self, link: &Arc<Link>) -> Result<bool, StoreError> {
        self.sums.get_or_try_init(|| self.try_sum(link)).await.copied()
    }

    async fn try_sum(&self, link: &Arc<Link>) -> Result<bool, StoreError> {
        let marker = self.marker();
        let Some(Whole::Bytes(bytes)) = self.read_file(link, &marker, 1 << 16).await? else { return Ok(false) };
        let expected: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
        self.turn();
        let output = link.exec(&command(std::slice::from_ref(&marker)), PATIENCE).await;
        let output = output.map_err(|failure| failure.at("running sha256sum"))?.unwrap_or_default();
        Ok(parse(&output).get(&marker) == Some(&expected))
    }

    /// SHA-256 of files of `bytes` bytes in all; `None` where the server does not say.
    pub async fn sums_of(&self, link: &Arc<Link>, paths: &[String], bytes: u64) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
        if !self.can_sum(link).await? {
            return Ok(None);
        }
        let mut sums = Vec::with_capacity(paths.len());
        for paths in paths.chunks(FILES) {
            self.turn();
            let patience = PATIENCE + Duration::from_secs(bytes / BYTES_PER_SECOND);
            let output = link.exec(&command(paths), patience).await.map_err(|failure| failure.at("running sha256sum"))?;
            let Some(output) = output else { return Ok(None) };
            let found = parse(&output);
            sums.extend(paths.iter().map(|path| found.get(path).copied()));
        }
        Ok(Some(sums))
    }

    /// SHA-256 of one file; `None` where the server does not say.
    pub async fn sum_of(&self, link: &Arc<Link>, path: &str, bytes: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let sums = self.sums_of(link, &[path.to_owned()], bytes).await?;
        Ok(sums.and_then(|sums| sums.into_iter().next().flatten()))
    }
}

fn command(paths: &[String]) -> String {
    let mut command = "sha256sum".to_owned();
    for path in paths {
        let _infallible = write!(command, " {}", quoted(path));
    }
    command
}

/// For a shell, and never an option.
fn quoted(path: &str) -> String {
    let here = if path.starts_with('-') { "./" } else { "" };
    format!("'{here}{}'", path.replace('\'', r"'\''"))
}

/// Lines of `<64 hex digits>  <path>`; everything else (a banner, a complaint) is passed over.
fn parse(output: &str) -> HashMap<String, [u8; 32]> {
    output.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(String, [u8; 32])> {
    // A line that starts with a backslash has escapes in its path.
    let (escaped, line) = line.strip_prefix('\\').map_or((false, line), |rest| (true, rest));
    let (sum, path) = line.split_once(' ')?;
    let path = path.strip_prefix([' ', '*']).unwrap_or(path).trim_end_matches('\r');
    let path = if escaped { path.replace("\\n", "\n").replace("\\\\", "\\") } else { path.to_owned() };
    let path = path.strip_prefix("./-").map_or(path.clone(), |rest| format!("-{rest}"));
    let mut bytes = [0; 32];
    hex::decode_to_slice(sum, &mut bytes).ok()?;
    Some((path, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(command(&["a b".to_owned(), "it's".to_owned(), "-x".to_owned()]), r"sha256sum 'a b' 'it'\''s' './-x'");
    }

    #[test]
    fn only_lines_with_a_checksum_count() {
        let sum = "ab".repeat(32);
        let output =
            format!("Welcome to the box\n{sum}  a b\r\n{sum} *bin\n\\{sum}  back\\\\slash\nsha256sum: x: No such file\n{sum}  ./-x\n");
        let found = parse(&output);
        assert_eq!(found.len(), 4);
        for path in ["a b", "bin", "back\\slash", "-x"] {
            assert_eq!(found.get(path), Some(&[0xab; 32]), "{path}");
        }
    }
}
