use super::*;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// As it is after it was saved.
fn saved() -> Catalogue {
    let mut catalogue = sample();
    let folder = tempfile::tempdir().unwrap();
    files(folder.path()).save(&mut catalogue).unwrap();
    catalogue
}

fn sample() -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.insert(name("vault.json"), 400, true);
    catalogue.insert(name("epochs/2025/packs/ab/cd"), 60_000_000, true);
    catalogue.insert(name("epochs/2026/packs/ab/cd"), 70_000_000, false);
    catalogue
}

fn files(folder: &Path) -> CatalogueFiles {
    CatalogueFiles::new(folder, "ab", Some("memory a\nb".to_owned()))
}

#[test]
fn what_is_saved_and_appended_is_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new");
    let mut file = files(&folder);
    assert_eq!(file.load(), None);
    let mut catalogue = sample();
    file.save(&mut catalogue).unwrap();
    catalogue.insert(name("x"), 1, true);
    file.append(&name("x"), &mut catalogue).unwrap();
    catalogue.insert(name("vault.json"), 401, false);
    file.append(&name("vault.json"), &mut catalogue).unwrap();
    catalogue.insert(name("epochs/2027/index/ef"), 5, true);
    file.append(&name("epochs/2027/index/ef"), &mut catalogue).unwrap();
    catalogue.remove(&name("epochs/2026/packs/ab/cd"));
    file.append(&name("epochs/2026/packs/ab/cd"), &mut catalogue).unwrap();
    file.finish(&catalogue).unwrap();
    assert_eq!(files(&folder).load_all(), Some(catalogue));
}

#[test]
fn an_epoch_that_is_done_is_not_read_before_something_is_added_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = files(folder.path());
    let mut catalogue = sample();
    file.save(&mut catalogue).unwrap();
    file.mark("2025", Mark::Done("digest".to_owned()), &mut catalogue).unwrap();
    file.finish(&catalogue).unwrap();
    let old = folder.path().join("ab.2025.objects");
    let whole = fs::read(&old).unwrap();
    fs::write(&old, b"damaged").unwrap();
    let loaded = files(folder.path()).load().unwrap();
    assert!(loaded.is_done("2025", "digest") && !loaded.is_done("2025", "other"));
    assert_eq!(loaded.size(&name("epochs/2025/packs/ab/cd")), None);
    assert_eq!(loaded.size(&name("epochs/2026/packs/ab/cd")), Some(70_000_000));
    assert_eq!(files(folder.path()).load_all(), None, "damage shows as soon as it is read");
    fs::write(&old, whole).unwrap();
    catalogue.insert(name("epochs/2025/index/12"), 7, false);
    file.append(&name("epochs/2025/index/12"), &mut catalogue).unwrap();
    let loaded = files(folder.path()).load().unwrap();
    assert!(!loaded.is_done("2025", "digest"));
    assert_eq!(loaded.unsettled().len(), 2, "what is not settled is known without asking for it");
}

#[test]
fn a_part_that_says_the_same_again_and_again_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalogue = sample();
    files(folder.path()).save(&mut catalogue).unwrap();
    let path = folder.path().join("ab.2026.objects");
    let mut longest = 0;
    for round in 0..500 {
        let mut file = files(folder.path());
        file.load().unwrap();
        catalogue.insert(name("epochs/2026/packs/ab/cd"), 70_000_000, round % 2 == 0);
        file.append(&name("epochs/2026/packs/ab/cd"), &mut catalogue).unwrap();
        file.finish(&catalogue).unwrap();
        longest = longest.max(fs::read_to_string(&path).unwrap().lines().count());
    }
    assert!((50..100).contains(&longest), "{longest}");
    assert_eq!(files(folder.path()).load_all(), Some(catalogue));
}

#[test]
fn a_torn_end_loses_one_line_and_any_other_damage_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let all_known =
        |loaded: Option<Catalogue>| loaded.is_none_or(|c| c.iter().all(|(name, known)| sample().objects.get(name) == Some(&known)));
    for part in ["ab.objects", "ab.2026.objects"] {
        files(folder.path()).save(&mut sample()).unwrap();
        let path = folder.path().join(part);
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(all_known(files(folder.path()).load_all()), "{part} cut at {end}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(all_known(files(folder.path()).load_all()), "{part}: bit of byte {at}");
        }
    }
}

#[test]
fn a_torn_end_is_cut_off_before_the_next_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut catalogue = sample();
    files(folder.path()).save(&mut catalogue).unwrap();
    let path = folder.path().join("ab.2026.objects");
    let torn = [fs::read(&path).unwrap(), b"s 12 epochs/2026/in".to_vec()].concat();
    fs::write(&path, torn).unwrap();
    catalogue.insert(name("epochs/2026/index/34"), 9, true);
    files(folder.path()).append(&name("epochs/2026/index/34"), &mut catalogue).unwrap();
    assert_eq!(files(folder.path()).load_all(), Some(catalogue));
}

#[test]
fn another_place_is_another_catalogue_and_nothing_of_the_old_one_is_left() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path()).save(&mut sample()).unwrap();
    let elsewhere = || CatalogueFiles::new(folder.path(), "ab", Some("elsewhere".to_owned()));
    assert_eq!(elsewhere().load(), None);
    let any = |vault: &str| CatalogueFiles::new(folder.path(), vault, None).load_all();
    assert_eq!(any("ab"), Some(saved()));
    assert_eq!(any("cd"), None);
    let mut new = Catalogue::default();
    let mut file = elsewhere();
    file.save(&mut new).unwrap();
    new.insert(name("epochs/2026/index/56"), 3, true);
    file.append(&name("epochs/2026/index/56"), &mut new).unwrap();
    assert_eq!(elsewhere().load_all(), Some(new));
}
