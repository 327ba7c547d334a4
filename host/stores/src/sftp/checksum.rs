//! SHA-256 by the server itself, where a login may run a program for it.

use super::{
    VerifyUploads,
    failure::Failure,
    link::{Link, lock},
    read::Whole,
    shared::Shared,
};
use havun_vault::store::StoreError;
use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

/// Files in one command: with paths of 255 bytes well below the 32 KiB that restricted shells take.
const FILES: usize = 100;
/// For a command, beside what reading takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the trial, which waits behind what an upload has under way on a slow link. Only a server that starts something
/// else and keeps it running makes us wait so long, once.
const TRIAL_PATIENCE: Duration = Duration::from_secs(90);
/// Slowest disk that is waited for.
const BYTES_PER_SECOND: u64 = 4 << 20;

/// A program of the server's that reckons SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Summer {
    /// `openssl dgst`, which uses what the processor has for it: four times as fast as a plain `sha256sum`.
    OpenSsl,
    /// `sha256sum`, which restricted shells have too.
    Sha256Sum,
}

/// Sums of single files that are wanted. One command at a time runs for them, with all that are wanted when it begins: the
/// server's processors are for receiving, too.
#[derive(Default)]
pub(super) struct SumDesk {
    wanted: Mutex<Vec<Wanted>>,
    turn: AsyncMutex<()>,
}

struct Wanted {
    path: String,
    bytes: u64,
    tell: oneshot::Sender<Result<Option<[u8; 32]>, Failure>>,
}

impl Shared {
    /// Whether the server sums the files that SFTP shows us, tried once on the marker: another root, a forced command and a
    /// banner all show.
    pub async fn can_sum(&self, link: &Arc<Link>) -> Result<bool, StoreError> {
        Ok(self.summer(link).await?.is_some())
    }

    /// Finds out while bytes are on their way, so that nobody waits for it when they have arrived.
    pub fn try_summers_early(self: &Arc<Self>, link: &Arc<Link>) {
        if self.options.verify != VerifyUploads::Auto || self.sums.initialized() {
            return;
        }
        let (shared, link) = (Arc::clone(self), Arc::clone(link));
        self.spawn(async move {
            let _said_when_it_is_used = shared.summer(&link).await;
        });
    }

    async fn summer(&self, link: &Arc<Link>) -> Result<Option<Summer>, StoreError> {
        self.sums.get_or_try_init(|| self.try_summers(link)).await.copied()
    }

    async fn try_summers(&self, link: &Arc<Link>) -> Result<Option<Summer>, StoreError> {
        let marker = self.marker();
        let Some(Whole::Bytes(bytes)) = self.read_file(link, &marker, 1 << 16).await? else { return Ok(None) };
        let expected: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
        let tried = |summer: Summer| {
            let marker = marker.clone();
            async move {
                let output = link.exec(&summer.command(std::slice::from_ref(&marker)), TRIAL_PATIENCE).await?;
                Ok(parse(&output.unwrap_or_default()).get(&marker) == Some(&expected))
            }
        };
        self.turn();
        let (fast, plain) = tokio::join!(tried(Summer::OpenSsl), tried(Summer::Sha256Sum));
        let (fast, plain) = (fast.map_err(running)?, plain.map_err(running)?);
        Ok(fast.then_some(Summer::OpenSsl).or(plain.then_some(Summer::Sha256Sum)))
    }

    /// SHA-256 of files of `bytes` bytes in all; `None` where the server does not say.
    pub async fn sums_of(&self, link: &Arc<Link>, paths: &[String], bytes: u64) -> Result<Option<Vec<Option<[u8; 32]>>>, StoreError> {
        let Some(summer) = self.summer(link).await? else { return Ok(None) };
        self.sums_by(summer, link, paths, bytes).await.map_err(running)
    }

    async fn sums_by(
        &self,
        summer: Summer,
        link: &Arc<Link>,
        paths: &[String],
        bytes: u64,
    ) -> Result<Option<Vec<Option<[u8; 32]>>>, Failure> {
        let mut sums = Vec::with_capacity(paths.len());
        for paths in paths.chunks(FILES) {
            self.turn();
            let patience = PATIENCE + Duration::from_secs(bytes / BYTES_PER_SECOND);
            let Some(output) = link.exec(&summer.command(paths), patience).await? else { return Ok(None) };
            let found = parse(&output);
            sums.extend(paths.iter().map(|path| found.get(path).copied()));
        }
        Ok(Some(sums))
    }

    /// SHA-256 of one file; `None` where the server does not say.
    pub async fn sum_of(&self, link: &Arc<Link>, path: &str, bytes: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let Some(summer) = self.summer(link).await? else { return Ok(None) };
        let (tell, mut told) = oneshot::channel();
        lock(&self.desk.wanted).push(Wanted { path: path.to_owned(), bytes, tell });
        tokio::select! {
            biased;
            sum = &mut told => return sum.unwrap_or(Ok(None)).map_err(running),
            _turn = self.desk.turn.lock() => self.sum_wanted(summer, link).await,
        }
        told.await.unwrap_or(Ok(None)).map_err(running)
    }

    /// Answers everybody who waits.
    async fn sum_wanted(&self, summer: Summer, link: &Arc<Link>) {
        let wanted = std::mem::take(&mut *lock(&self.desk.wanted));
        if wanted.is_empty() {
            return;
        }
        let paths: Vec<String> = wanted.iter().map(|wanted| wanted.path.clone()).collect();
        let bytes = wanted.iter().map(|wanted| wanted.bytes).sum();
        let sums = self.sums_by(summer, link, &paths, bytes).await;
        for (number, wanted) in wanted.into_iter().enumerate() {
            let sum = sums.clone().map(|sums| sums.and_then(|sums| sums.get(number).copied().flatten()));
            let _gone = wanted.tell.send(sum);
        }
    }
}

fn running(failure: Failure) -> StoreError {
    failure.at("having the server reckon checksums")
}

impl Summer {
    /// Both write a sum, a space, a space or an asterisk, and the path.
    fn command(self, paths: &[String]) -> String {
        let mut command = match self {
            Self::OpenSsl => "openssl dgst -sha256 -r".to_owned(),
            Self::Sha256Sum => "sha256sum".to_owned(),
        };
        for path in paths {
            let _infallible = write!(command, " {}", quoted(path));
        }
        command
    }
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
        assert_eq!(Summer::Sha256Sum.command(&["a b".to_owned(), "it's".to_owned(), "-x".to_owned()]), r"sha256sum 'a b' 'it'\''s' './-x'");
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
