//! Large objects in parts, several at once. The name is given by the last request alone, after the whole has been hashed:
//! wrong bytes never get it.

use super::{
    Root,
    client::{Request, Verb, base64_of},
    error::{Said, Situation, sort},
    exists::Expected,
    lock::Lock,
    put::if_free,
    resume::{Record, SentPart, part_len},
    versions::unreadable,
    xml,
};
use havun_vault::store::{Published, Source, StoreError};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

/// S3 takes no more parts.
const MOST_PARTS: u64 = 10_000;

pub(super) fn put(root: &Root, expected: &Expected<'_>, source: &dyn Source, conditional: bool) -> Result<Published, StoreError> {
    let claim = Claim::of(root, expected.key);
    let part_bytes = root.options.part_bytes.max(expected.size.div_ceil(MOST_PARTS));
    let record = match resumed(root, expected, part_bytes, claim.is_some())? {
        Resumed::Upload(record) => record,
        Resumed::Done(published) => return Ok(published),
    };
    let upload = Upload { root, expected, record: Mutex::new(record), remembered: claim.is_some() };
    let result = upload.send_all(source).and_then(|()| upload.complete(conditional));
    upload.settle(result)
}

/// Only one upload of a key in this process is remembered; another one at the same time goes its own way.
struct Claim<'r> {
    root: &'r Root,
    key: &'r str,
}

impl<'r> Claim<'r> {
    fn of(root: &'r Root, key: &'r str) -> Option<Self> {
        lock(&root.under_way).insert(key.to_owned()).then_some(Self { root, key })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.root.under_way).remove(self.key);
    }
}

enum Resumed {
    Upload(Record),
    /// The last request of an earlier try succeeded, and its answer was lost.
    Done(Published),
}

fn resumed(root: &Root, expected: &Expected<'_>, part_bytes: u64, remembered: bool) -> Result<Resumed, StoreError> {
    if let Some(mut record) = Record::load(root, expected, part_bytes).filter(|_| remembered) {
        if record.check(root)? {
            return Ok(Resumed::Upload(record));
        }
        Record::forget(root, expected.key);
        if root.head(expected.key, None)?.is_some() {
            return expected.compare(root).map(Resumed::Done);
        }
    }
    let request = Request::new(Verb::CreateUpload, expected.key)
        .header("content-type", "application/octet-stream")
        .header("x-amz-checksum-algorithm", "SHA256");
    let answer = root.client.ask(&Lock::ask(expected.lock.as_ref(), request), None)?;
    let page = xml::parse(&answer.text()?).ok_or_else(|| unreadable(&root.client, expected.key))?;
    let id = page.text_of("UploadId").filter(|id| !id.is_empty()).ok_or_else(|| unreadable(&root.client, expected.key))?;
    let record = Record::new(expected, id.to_owned(), part_bytes);
    if remembered {
        record.save(root)?;
    }
    Ok(Resumed::Upload(record))
}

struct Part {
    number: u32,
    bytes: Vec<u8>,
    sha256: [u8; 32],
}

struct Upload<'u> {
    root: &'u Root,
    expected: &'u Expected<'u>,
    record: Mutex<Record>,
    remembered: bool,
}

impl Upload<'_> {
    /// Reads and hashes in order on this thread, sends on others. Holds one part per connection and two more in memory.
    fn send_all(&self, source: &dyn Source) -> Result<(), StoreError> {
        let failed: Mutex<Option<StoreError>> = Mutex::new(None);
        let (sender, receiver) = sync_channel(1);
        let receiver = Mutex::new(receiver);
        let read = thread::scope(|scope| {
            for _ in 0..self.root.options.connections {
                scope.spawn(|| self.send_parts(&receiver, &failed));
            }
            let read = self.read_parts(source, &sender, &failed);
            drop(sender);
            read
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        StoreError::check_source(self.expected.name, &read?, self.expected.sha256)
    }

    fn read_parts(
        &self,
        source: &dyn Source,
        sender: &SyncSender<Part>,
        failed: &Mutex<Option<StoreError>>,
    ) -> Result<[u8; 32], StoreError> {
        let mut hasher = Sha256::new();
        let (size, part_bytes) = (self.expected.size, lock(&self.record).part_bytes);
        let (mut offset, mut number) = (0, 1);
        while offset < size && lock(failed).is_none() {
            let len = part_len(size, part_bytes, number);
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            source.read_at(offset, &mut bytes).map_err(|e| StoreError::source(self.expected.name, e))?;
            hasher.update(&bytes);
            let sha256: [u8; 32] = Sha256::digest(&bytes).into();
            if !self.has(number, &sha256) && sender.send(Part { number, bytes, sha256 }).is_err() {
                break;
            }
            offset += len;
            number += 1;
        }
        Ok(hasher.finalize().into())
    }

    /// Whether the server has that part already, with these bytes.
    fn has(&self, number: u32, sha256: &[u8; 32]) -> bool {
        lock(&self.record).parts.get(&number).is_some_and(|part| part.sha256 == hex::encode(sha256))
    }

    fn send_parts(&self, receiver: &Mutex<Receiver<Part>>, failed: &Mutex<Option<StoreError>>) {
        loop {
            let Ok(part) = lock(receiver).recv() else { return };
            // After a failure the rest is only taken off the reader's hands.
            if lock(failed).is_none()
                && let Err(error) = self.send_part(&part)
            {
                lock(failed).get_or_insert(error);
            }
        }
    }

    fn send_part(&self, part: &Part) -> Result<(), StoreError> {
        let id = lock(&self.record).upload_id.clone();
        let request = Request::new(Verb::Put, self.expected.key).query("partNumber", part.number.to_string()).query("uploadId", id);
        let answer = self.root.client.ask(&request.body(&part.bytes, &part.sha256), None)?;
        let etag = answer.header("etag").unwrap_or_default().to_owned();
        let checksum = answer.header("x-amz-checksum-sha256").map(str::to_owned);
        if checksum.as_ref().is_some_and(|found| *found != base64_of(&part.sha256)) {
            return Err(StoreError::ReadBack { name: self.expected.name.clone() });
        }
        let mut record = lock(&self.record);
        record.parts.insert(part.number, SentPart { etag, sha256: hex::encode(part.sha256), checksum });
        if self.remembered { record.save(self.root) } else { Ok(()) }
    }

    fn complete(&self, conditional: bool) -> Result<Published, StoreError> {
        let (id, text) = {
            let record = lock(&self.record);
            (record.upload_id.clone(), document(&record))
        };
        let request = Request::new(Verb::CompleteUpload(&id), self.expected.key).header("content-type", "application/xml");
        let mut request = if_free(request, conditional);
        request.body = text.as_bytes();
        let answer = self.root.client.send(&request)?;
        if answer.status == 412 {
            return self.expected.compare(self.root);
        }
        let situation = Situation { place: &self.root.client.place(self.expected.key), name: None };
        if !answer.is_ok() {
            return Err(answer.error(&situation));
        }
        let version = answer.version_id();
        let text = answer.text()?;
        // A server may say 200 first and think better of it afterwards.
        if xml::parse(&text).is_none_or(|page| page.name == "Error") {
            return Err(sort("completing an upload", &Said::new(500, &text, None), &situation));
        }
        self.expected.verify(self.root, version)?;
        Ok(Published::New)
    }

    /// After a failure that may mend itself the parts stay for the next try, after any other they go.
    fn settle(&self, result: Result<Published, StoreError>) -> Result<Published, StoreError> {
        let done = matches!(result, Ok(Published::New));
        if !done && result.as_ref().is_err_and(StoreError::is_transient) && self.remembered {
            return result;
        }
        let id = lock(&self.record).upload_id.clone();
        if !done && let Err(error) = abort(self.root, self.expected.key, &id) {
            tracing::warn!(%error, object = %self.expected.name, "an unfinished upload could not be aborted");
        }
        if self.remembered {
            Record::forget(self.root, self.expected.key);
        }
        result
    }
}

/// Ends an upload and frees what it holds. One that is gone is fine.
pub(super) fn abort(root: &Root, key: &str, id: &str) -> Result<(), StoreError> {
    let answer = root.client.send(&Request::new(Verb::Delete, key).query("uploadId", id))?;
    if answer.is_ok() || answer.status == 404 {
        return Ok(());
    }
    Err(answer.error(&Situation { place: &root.client.place(key), name: None }))
}

fn document(record: &Record) -> String {
    let mut text = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
    for (number, part) in &record.parts {
        let checksum = part.checksum.as_ref().map(|sum| format!("<ChecksumSHA256>{}</ChecksumSHA256>", xml::escape(sum)));
        let (etag, checksum) = (xml::escape(&part.etag), checksum.unwrap_or_default());
        let _ = write!(text, "<Part><ETag>{etag}</ETag>{checksum}<PartNumber>{number}</PartNumber></Part>");
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
