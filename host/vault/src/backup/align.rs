//! Which chunks of an earlier dump lie at the place of a new one.
//!
//! Both dumps are lists of chunks, and almost all cuts of the earlier one come again in the new one: a cut depends on the 64
//! bytes before it. So the two lists are walked together. Where the new dump is in the earlier one is known *exactly* behind
//! a cut that both have, *nearly* while cuts differ (rows came or went), and not at all (*lost*) when what was near did not
//! resemble it. Lengths find the place again: two chunks that lie side by side and have the lengths of the last two are the
//! same two, more or less.

use havun_model::ChunkId;
use std::{collections::HashMap, ops::Range};

/// Cuts of both dumps that are expected this close are the same cut, shifted by rows that changed their length.
const SAME_CUT: u64 = 4 << 10;
/// Chunks whose lengths differ by no more are the same chunk, edited, if they also lie near or side by side.
const SAME_LENGTH: u64 = 256;
/// How far from the expected place a chunk is looked for by its length alone.
const NEAR: u64 = 1 << 20;
/// And by its length and that of the one before it, in chunks.
const FAR: usize = 4096;
/// What is taken on both sides where the place is known nearly.
const MARGIN: u64 = 64 << 10;
/// No more is taken, in bytes and in chunks.
const MOST_BYTES: u64 = 2 << 20;
const MOST_CHUNKS: usize = 8;

/// Walks an earlier dump beside a new one.
pub(super) struct Align {
    ids: Vec<ChunkId>,
    /// Where each chunk of the earlier dump ends.
    ends: Vec<u64>,
    numbers: HashMap<ChunkId, usize>,
    /// Where in the earlier dump the next chunk of the new one begins.
    at: u64,
    known: Known,
    /// Length of the last chunk.
    before: Option<u64>,
}

/// How well that place is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Exactly,
    Nearly,
    Lost,
}

impl Align {
    /// An earlier dump: its chunks in order, with their lengths.
    pub fn new(chunks: impl Iterator<Item = (ChunkId, u64)>) -> Self {
        let (mut ids, mut ends, mut numbers, mut end) = (Vec::new(), Vec::new(), HashMap::new(), 0);
        for (id, len) in chunks {
            end += len;
            numbers.entry(id).or_insert(ids.len());
            ids.push(id);
            ends.push(end);
        }
        Self { ids, ends, numbers, at: 0, known: Known::Exactly, before: None }
    }

    /// The next chunk of the new dump is one that the vault has.
    pub fn pass(&mut self, id: &ChunkId, len: u64) {
        self.before = Some(len);
        self.at += len;
        if let Some(end) = self.numbers.get(id).and_then(|number| self.ends.get(*number)) {
            (self.at, self.known) = (*end, Known::Exactly);
        } else if let Some(number) = self.cut_near(self.at) {
            self.at = self.end(number);
        }
    }

    /// The next chunk of the new dump is a new one, of `len` bytes: the chunks of the earlier dump that lie in its place.
    pub fn place(&mut self, len: u64) -> &[ChunkId] {
        let range = self.find(len);
        self.before = Some(len);
        self.ids.get(range).unwrap_or_default()
    }

    /// What [`Align::place`] said last did not resemble the chunk.
    pub fn is_lost(&mut self) {
        self.known = Known::Lost;
    }

    fn find(&mut self, len: u64) -> Range<usize> {
        let (from, until) = (self.at, self.at + len);
        let same = match self.known {
            Known::Lost => None,
            _ => self.cut_near(until).map(|number| (self.first(from), number)),
        };
        let same = same.filter(|(first, number)| first <= number);
        if let Some((first, number)) = same.or_else(|| self.by_length(from, len)).or_else(|| self.by_pair(from, len)) {
            (self.at, self.known) = (self.end(number), Known::Exactly);
            return self.bounded(first..number + 1);
        }
        self.at = until;
        if self.known == Known::Lost {
            return 0..0;
        }
        let first = self.first(from);
        let last = self.ends.partition_point(|end| *end < until + MARGIN);
        self.known = Known::Nearly;
        self.bounded(first..(last + 1).min(self.ids.len()))
    }

    /// The chunk in which the new one begins.
    fn first(&self, from: u64) -> usize {
        let margin = if self.known == Known::Exactly { 0 } else { MARGIN };
        self.ends.partition_point(|end| *end <= from.saturating_sub(margin))
    }

    /// The cut nearest to `place`, if that is near enough to be the same: the number of the chunk before it.
    fn cut_near(&self, place: u64) -> Option<usize> {
        let behind = self.ends.partition_point(|end| *end < place);
        let candidates = behind.checked_sub(1).into_iter().chain([behind]);
        let distance = |number: &usize| self.ends.get(*number).map_or(u64::MAX, |end| end.abs_diff(place));
        candidates.min_by_key(distance).filter(|number| distance(number) <= SAME_CUT)
    }

    /// A chunk of about the same length that begins not far from where the new one should.
    fn by_length(&self, from: u64, len: u64) -> Option<(usize, usize)> {
        let first = self.ends.partition_point(|end| *end <= from.saturating_sub(NEAR));
        let near = (first..self.ids.len()).take_while(|number| self.begin(*number) <= from + NEAR);
        let same = near.filter(|number| self.len(*number).abs_diff(len) <= SAME_LENGTH);
        same.min_by_key(|number| self.begin(*number).abs_diff(from)).map(|number| (number, number))
    }

    /// Two chunks side by side of about the lengths of the last one and this one, wherever they lie.
    fn by_pair(&self, from: u64, len: u64) -> Option<(usize, usize)> {
        let before = self.before?;
        let expected = self.ends.partition_point(|end| *end <= from);
        let around = expected.saturating_sub(FAR).max(1)..expected.saturating_add(FAR).min(self.ids.len());
        let same = |number: &usize| {
            self.len(*number).abs_diff(len) <= SAME_LENGTH && self.len(number.saturating_sub(1)).abs_diff(before) <= SAME_LENGTH
        };
        around.filter(same).min_by_key(|number| number.abs_diff(expected)).map(|number| (number, number))
    }

    fn begin(&self, number: usize) -> u64 {
        number.checked_sub(1).map_or(0, |before| self.end(before))
    }

    fn end(&self, number: usize) -> u64 {
        self.ends.get(number).copied().unwrap_or_default()
    }

    fn len(&self, number: usize) -> u64 {
        self.end(number) - self.begin(number)
    }

    /// As much of `range` as may be taken, from its beginning.
    fn bounded(&self, range: Range<usize>) -> Range<usize> {
        let begins = self.begin(range.start);
        let fits = |number: &usize| self.end(*number) - begins <= MOST_BYTES;
        let until = range.clone().take(MOST_CHUNKS).take_while(fits).last().map_or(range.start, |last| last + 1);
        range.start..until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::chunk_id;

    const K: u64 = 1 << 10;
    const LENGTHS: [u64; 8] = [100 * K, 300 * K, 71 * K, 260 * K, 190 * K, 421 * K, 99 * K, 333 * K];

    fn id(number: usize) -> ChunkId {
        chunk_id(&number.to_le_bytes())
    }

    fn earlier() -> Align {
        Align::new(LENGTHS.iter().enumerate().map(|(number, len)| (id(number), *len)))
    }

    fn numbers(found: &[ChunkId]) -> Vec<usize> {
        (0..LENGTHS.len()).filter(|number| found.contains(&id(*number))).collect()
    }

    #[test]
    fn edited_chunks_lie_at_their_own_place_whatever_they_grew() {
        let mut align = earlier();
        for (number, len) in LENGTHS.iter().enumerate() {
            assert_eq!(numbers(align.place(len + 40 * (number as u64 % 3))), [number]);
        }
    }

    #[test]
    fn a_cut_that_is_gone_or_new_takes_both_sides_of_it() {
        let mut align = earlier();
        assert_eq!(numbers(align.place(400 * K + 7)), [0, 1]);
        assert_eq!(numbers(align.place(71 * K)), [2]);
        assert_eq!(numbers(align.place(130 * K)), [3], "the cut behind it is new");
        assert_eq!(numbers(align.place(130 * K)), [3], "and the next one is common again");
        assert_eq!(numbers(align.place(190 * K)), [4]);
    }

    #[test]
    fn rows_that_came_or_went_shift_what_follows() {
        let mut align = earlier();
        assert_eq!(numbers(align.place(100 * K)), [0]);
        assert_eq!(numbers(align.place(330 * K)), [1, 2, 3], "30 KiB of new rows: what lies around is taken");
        assert_eq!(numbers(align.place(71 * K)), [2], "found again by its length");
        assert_eq!(numbers(align.place(260 * K + 11)), [3]);
    }

    #[test]
    fn a_new_table_is_passed_over_and_two_lengths_find_the_place_again() {
        let mut align = earlier();
        assert_eq!(numbers(align.place(100 * K)), [0]);
        for len in [200 * K, 512 * K, 830 * K, 222 * K] {
            align.place(len);
            align.is_lost();
        }
        assert_eq!(numbers(align.place(300 * K + 9)), [] as [usize; 0], "one length may be chance");
        assert_eq!(numbers(align.place(71 * K)), [2]);
        assert_eq!(numbers(align.place(260 * K)), [3]);
    }

    #[test]
    fn an_unchanged_chunk_says_where_we_are() {
        let mut align = earlier();
        align.place(1000 * K);
        align.is_lost();
        align.pass(&id(4), LENGTHS[4]);
        assert_eq!(numbers(align.place(421 * K + 100)), [5]);
    }

    #[test]
    fn behind_the_end_there_is_nothing() {
        let mut align = earlier();
        LENGTHS.iter().for_each(|len| drop(align.place(*len).to_vec()));
        assert_eq!(numbers(align.place(500 * K)), [] as [usize; 0]);
        assert!(Align::new(std::iter::empty()).place(5).is_empty());
    }
}
