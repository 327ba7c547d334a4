//! Our own files against our own reader and against the `par2` program of the distribution.

use super::*;
use crate::testing::{sha, stream};
use std::{fs, process::Command};

#[test]
fn a_tenth_of_a_file_comes_back_and_a_bit_more_does_not() {
    for len in [1, 5000, 300_001, 20_000_003] {
        let bytes = stream(len);
        let file = encode("name", &bytes, 10, 2);
        assert_eq!(file, encode("name", &bytes, 10, 1), "the same whatever the threads");
        assert!(is_whole(&file, "name") && !is_whole(&file, "other"));
        let slice = slice_bytes(len);
        let slices = len.div_ceil(slice);
        let can = (slices * 10).div_ceil(100);
        for lost in [0, 1, can] {
            let mut damaged = bytes.clone();
            for n in 0..lost {
                let at = (slices - 1 - n * slices / can.max(1)) * slice;
                damaged[at] ^= 0x55;
            }
            assert!(restore(&file, &[damaged], 2).is_some_and(|back| back == bytes), "{len}: {lost} of {slices}");
        }
        if slices > can + 1 {
            let mut damaged = bytes.clone();
            (0..=can).for_each(|n| damaged[n * slice] ^= 1);
            assert!(restore(&file, &[damaged.clone()], 2).is_none());
            // Another copy, damaged elsewhere, makes up for it.
            let mut other = bytes.clone();
            other[len - 1] ^= 1;
            assert!(restore(&file, &[damaged, other], 2).is_some_and(|back| back == bytes));
        }
    }
}

#[test]
fn a_cut_off_file_and_a_damaged_parity_file_are_used_as_far_as_they_go() {
    let bytes = stream(3_000_000);
    let mut file = encode("name", &bytes, 10, 2);
    let mut cut = bytes.clone();
    cut.truncate(bytes.len() - 100_000);
    assert_eq!(restore(&file, &[cut], 2).unwrap(), bytes);
    let last = file.len() - 10;
    file[last] ^= 1;
    assert!(!is_whole(&file, "name"));
    let mut damaged = bytes.clone();
    damaged[77] ^= 1;
    assert_eq!(restore(&file, &[damaged], 2).unwrap(), bytes, "one recovery slice is lost, the others do");
}

#[test]
fn hostile_bytes_are_no_parity() {
    let file = encode("name", &stream(10_000), 10, 1);
    for at in 0..file.len().min(600) {
        let mut bad = file.clone();
        bad[at] ^= 0xFF;
        assert!(!is_whole(&bad, "name"), "{at}");
        let _either = restore(&bad, &[vec![]], 1);
        let _either = restore(&file[..at], &[vec![]], 1);
    }
}

#[test]
fn the_distributions_par2_accepts_and_repairs_with_ours() {
    for len in [5000, 3_000_000, 17_000_001] {
        let folder = tempfile::tempdir().unwrap();
        let bytes = stream(len);
        let name = sha(&bytes);
        let pack = folder.path().join(&name);
        let file = format!("{name}.par2");
        fs::write(&pack, &bytes).unwrap();
        fs::write(folder.path().join(&file), encode(&name, &bytes, 10, 2)).unwrap();
        let par2 = |what: &str| Command::new("par2").args([what, "-q", &file]).current_dir(folder.path()).output().unwrap();
        let verified = par2("verify");
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        let mut damaged = bytes.clone();
        damaged[len / 2] ^= 1;
        fs::write(&pack, &damaged).unwrap();
        assert!(!par2("verify").status.success());
        let repaired = par2("repair");
        assert!(repaired.status.success(), "{}", String::from_utf8_lossy(&repaired.stdout));
        assert_eq!(fs::read(&pack).unwrap(), bytes);
    }
}
