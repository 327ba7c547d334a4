//! Archives that are built byte by byte, and programs that stand in for MongoDB's: neither its server nor its tools are packaged
//! for the machines that run these tests.

use super::{
    Mongodb,
    archive::{Parser, Summary},
    client::{config, counts, dump_arguments, restore_arguments, uri},
    crc,
};
use crate::databases::{DatabaseError, Engine, Overrides, ResolvedConnection, engine};
use havun_model::Connection;
use zeroize::Zeroizing;

mod programs;

const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
const END: [u8; 4] = [0xff; 4];

/// A document of these fields, each with its type and name.
fn document(fields: &[Vec<u8>]) -> Vec<u8> {
    let body = fields.concat();
    let length = u32::try_from(body.len() + 5).unwrap();
    [&length.to_le_bytes(), body.as_slice(), &[0]].concat()
}

fn text(name: &str, value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len() + 1).unwrap();
    [&[2], name.as_bytes(), &[0], &length.to_le_bytes(), value.as_bytes(), &[0]].concat()
}

fn number(name: &str, value: i64) -> Vec<u8> {
    [&[0x12], name.as_bytes(), &[0], &value.to_le_bytes()].concat()
}

fn truth(name: &str, value: bool) -> Vec<u8> {
    [&[8], name.as_bytes(), &[0, u8::from(value)]].concat()
}

fn prelude(collections: &[(&str, &str, &str)]) -> Vec<u8> {
    let head = document(&[text("version", "0.1"), text("server_version", "7.0.14"), text("tool_version", "100.10.0")]);
    let each = collections.iter().flat_map(|(name, kind, metadata)| {
        document(&[text("db", "shop"), text("collection", name), text("metadata", metadata), number("size", 0), text("type", kind)])
    });
    [&MAGIC, head.as_slice(), &each.collect::<Vec<_>>(), &END].concat()
}

fn head(name: &str, end: Option<u64>) -> Vec<u8> {
    let crc = end.unwrap_or_default().cast_signed();
    document(&[text("db", "shop"), text("collection", name), truth("EOF", end.is_some()), number("CRC", crc)])
}

fn block(name: &str, documents: &[Vec<u8>]) -> Vec<u8> {
    [head(name, None), documents.concat(), END.to_vec()].concat()
}

fn ending(name: &str, documents: &[Vec<u8>]) -> Vec<u8> {
    [head(name, Some(crc::add(0, &documents.concat()))), END.to_vec()].concat()
}

fn order(n: i64) -> Vec<u8> {
    document(&[number("_id", n), text("what", &"x".repeat(n.unsigned_abs() as usize))])
}

/// The parts of a whole archive, each of which ends where a block does.
fn parts() -> Vec<Vec<u8>> {
    let all = [order(1), order(2), order(300)];
    vec![
        prelude(&[
            ("orders", "collection", r#"{"options":{},"indexes":[{"v":2,"key":{"_id":1}},{"v":2,"key":{"what":1}}],"type":"collection"}"#),
            ("empty", "collection", r#"{"indexes":[{"v":2}]}"#),
            ("recent", "", r#"{"options":{"viewOn":"orders","pipeline":[]},"indexes":[]}"#),
            ("heat", "timeseries", r#"{"options":{"timeseries":{"timeField":"t"}},"indexes":[]}"#),
        ]),
        block("orders", &all[..2]),
        block("system.buckets.heat", &[order(9)]),
        block("orders", &all[2..]),
        ending("orders", &all),
        block("empty", &[]),
        ending("empty", &[]),
        block("recent", &[]),
        ending("recent", &[]),
        ending("system.buckets.heat", &[order(9)]),
    ]
}

fn whole() -> Vec<u8> {
    parts().concat()
}

fn read(archive: &[u8]) -> Result<Summary, String> {
    let mut parser = Parser::new("shop");
    parser.take(archive)?;
    parser.finish()
}

#[test]
fn a_whole_archive_is_counted() {
    let found = read(&whole()).unwrap();
    assert_eq!((found.server.as_str(), found.tool.as_str()), ("7.0.14", "100.10.0"));
    assert_eq!(format!("{:?}", found.rows()), r#"{"empty": 0, "heat": 1, "orders": 3}"#);
    assert_eq!(format!("{:?}", found.objects()), r#"{"collections": 3, "indexes": 3, "views": 1}"#);
    assert_eq!(found.content().unwrap(), "3 collections, 1 views");
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let archive = whole();
    for size in [1, 2, 3, 5, 7, 64, 1000] {
        let mut parser = Parser::new("shop");
        archive.chunks(size).for_each(|piece| parser.take(piece).unwrap());
        assert_eq!(parser.finish().unwrap(), read(&archive).unwrap(), "{size}");
    }
}

#[test]
fn an_archive_cut_anywhere_is_not_whole() {
    let archive = whole();
    for end in 0..archive.len() {
        let error = read(&archive[..end]).unwrap_err();
        assert!(error.starts_with("it ends"), "{end}: {error}");
    }
    // At the end of each block, too, where a cut leaves no half document.
    let parts = parts();
    for kept in 1..parts.len() {
        let error = read(&parts[..kept].concat()).unwrap_err();
        assert!(error.contains("it ends before collection"), "{kept}: {error}");
    }
}

#[test]
fn a_changed_byte_of_a_document_is_noticed() {
    let archive = whole();
    let at = archive.windows(4).position(|window| window == b"xxxx").unwrap();
    let mut changed = archive;
    changed[at] = b'y';
    assert_eq!(read(&changed).unwrap_err(), "the checksum of collection `heat` is wrong");
}

#[test]
fn no_changed_byte_anywhere_ends_the_program() {
    let archive = whole();
    for at in 0..archive.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = archive.clone();
            changed[at] = byte;
            drop(read(&changed));
        }
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    assert_eq!(read(b"PK\x03\x04 and more").unwrap_err(), "it is no archive of mongodump");
    assert_eq!(read(&[MAGIC, END].concat()).unwrap_err(), "a block in it is empty");
    let mut twice = whole();
    twice.extend(block("orders", &[order(5)]));
    assert_eq!(read(&twice).unwrap_err(), "collection `orders` goes on after its end");
    let mut stranger = whole();
    stranger.extend(block("unheard", &[order(5)]));
    assert_eq!(read(&stranger).unwrap_err(), "its prelude does not know collection `unheard`");
    let other = [parts()[0].clone(), document(&[text("db", "admin"), text("collection", "system.users")])].concat();
    assert_eq!(read(&other).unwrap_err(), "it holds something of database `admin`, not only of `shop`");
    let after_end = [parts()[0].clone(), head("empty", Some(0)), order(1)].concat();
    assert_eq!(read(&after_end).unwrap_err(), "a collection in it goes on after its end");
}

#[test]
fn hostile_lengths_are_refused_before_anything_is_kept() {
    for length in [0_u32, 4, 17 << 20, 0x7fff_ffff, 0xffff_fffe] {
        let head = [&parts()[0], length.to_le_bytes().as_slice()].concat();
        assert_eq!(read(&head).unwrap_err(), format!("a document in it claims {length} bytes"));
        let body = [parts()[0].clone(), head_of_orders(), length.to_le_bytes().to_vec()].concat();
        assert_eq!(read(&body).unwrap_err(), format!("a document in it claims {length} bytes"));
    }
    // A text that claims to be longer than its document, and fields without end.
    for fields in [vec![2, b'a', 0, 0xff, 0xff, 0xff, 0x7f, 0], [0x0a, b'a', 0].repeat(1 << 20)] {
        let error = read(&[parts()[0].clone(), document(&[fields])].concat()).unwrap_err();
        assert_eq!(error, "a head in it is no document");
    }
}

fn head_of_orders() -> Vec<u8> {
    head("orders", None)
}

#[test]
fn deep_documents_are_passed_by_and_deep_metadata_is_not_followed() {
    let mut deep = document(&[]);
    for _ in 0..5000 {
        deep = document(&[[&[3, b'a', 0], deep.as_slice()].concat()]);
    }
    let metadata = format!("{{\"options\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let archive = [
        prelude(&[("orders", "collection", &metadata)]),
        block("orders", std::slice::from_ref(&deep)),
        ending("orders", std::slice::from_ref(&deep)),
    ];
    assert_eq!(read(&archive.concat()).unwrap().rows()["orders"], 1);
}

#[test]
fn a_prelude_without_end_is_refused() {
    let mut parser = Parser::new("shop");
    let filler = "x".repeat(1 << 20);
    parser.take(&prelude(&[])[..prelude(&[]).len() - 4]).unwrap();
    let error = (0..70)
        .find_map(|n| parser.take(&document(&[text("db", "shop"), text("collection", &n.to_string()), text("metadata", &filler)])).err());
    assert_eq!(error.unwrap(), "its prelude is longer than 64 MiB");
}

fn resolved(parameters: &[(&'static str, &str)]) -> Result<ResolvedConnection, DatabaseError> {
    let overrides: Overrides = parameters.iter().map(|(name, value)| (*name, Zeroizing::new((*value).to_owned()))).collect();
    let planned = Connection { name: "main".to_owned(), engine: "mongodb".to_owned(), parameters: Vec::new() };
    ResolvedConnection::resolve(&planned, &overrides, &std::env::temp_dir())
}

fn uri_of(parameters: &[(&'static str, &str)]) -> String {
    uri(&resolved(parameters).unwrap()).unwrap().to_string()
}

const PATIENCE: &str = "connectTimeoutMS=15000&serverSelectionTimeoutMS=15000";

#[test]
fn a_uri_says_what_the_connection_says() {
    assert_eq!(uri_of(&[("database", "shop")]), format!("mongodb://127.0.0.1/?{PATIENCE}"));
    assert_eq!(
        uri_of(&[("host", "db"), ("port", "27018"), ("user", "u@x"), ("password", "p:/%é"), ("database", "shop"), ("tls", "verify-full")]),
        format!("mongodb://u%40x:p%3A%2F%25%C3%A9@db:27018/?authSource=admin&tls=true&{PATIENCE}")
    );
    assert_eq!(
        uri_of(&[("url", "mongodb://u:p@a:1,b:2/shop?replicaSet=rs0&connectTimeoutMS=5")]),
        "mongodb://u:p@a:1,b:2/?replicaSet=rs0&connectTimeoutMS=5&authSource=shop&serverSelectionTimeoutMS=15000"
    );
    let required = uri_of(&[("database", "shop"), ("tls", "required")]);
    assert_eq!(required, format!("mongodb://127.0.0.1/?tls=true&tlsInsecure=true&{PATIENCE}"));
    let named = uri_of(&[("url", "mongodb+srv://c.example.net/shop"), ("tls", "required")]);
    assert_eq!(named, format!("mongodb+srv://c.example.net/?tls=true&{PATIENCE}"));
    // The operator's own URL brings its own options, and its host is no DNS record's name any more.
    assert_eq!(uri_of(&[("url", "mongodb+srv://c.example.net/shop?a=b"), ("host", "db")]), format!("mongodb://db/?a=b&{PATIENCE}"));
    assert_eq!(uri_of(&[("url", "mongodb+srv://u:p@c.example.net/shop")]), format!("mongodb+srv://u:p@c.example.net/?{PATIENCE}"));
}

#[test]
fn no_secret_is_in_an_argument_and_the_settings_are_one_line() {
    let all = dump_arguments("shop", true).join(" ");
    assert_eq!(all, "--archive --config=/dev/fd/3 --numParallelCollections=1 --readPreference=secondaryPreferred --db=shop");
    let all = restore_arguments("shop", "shop_2", true).join(" ");
    assert_eq!(all, "--archive --config=/dev/fd/3 --stopOnError --nsInclude=shop.* --nsFrom=shop.* --nsTo=shop_2.* --drop");
    assert!(!restore_arguments("shop", "shop", false).contains(&"--drop".to_owned()));
    assert_eq!(config("mongodb://u:p@h/?a=\"\n: b").as_str(), "uri: \"mongodb://u:p@h/?a=\\\"\\n: b\"\n");
}

#[test]
fn names_that_would_be_patterns_are_refused() {
    for name in ["sh*p", "$db", "a.b", "a b", &"x".repeat(64)] {
        let error = Mongodb::new(resolved(&[("database", name)]).unwrap()).err().unwrap();
        assert!(error.to_string().contains("is no name of a MongoDB database"), "{error}");
    }
}

#[test]
fn the_last_word_of_mongorestore_is_understood() {
    let said = "2026-11-28T00:31:00.000+0000\tfinished\n2026-11-28T00:31:00.000+0000\t12 document(s) restored successfully. 3 document(s) failed to restore.";
    assert_eq!(counts(said), Some((12, 3)));
    assert_eq!(counts("done"), None);
}

#[test]
fn a_url_leads_to_the_engine() {
    let planned = Connection { name: "main".to_owned(), engine: String::new(), parameters: Vec::new() };
    let overrides = Overrides::from([("url", Zeroizing::new("mongodb+srv://u:p@c.example.net/shop".to_owned()))]);
    let found: Box<dyn Engine> = engine(ResolvedConnection::resolve(&planned, &overrides, &std::env::temp_dir()).unwrap()).unwrap();
    assert_eq!(found.describe(), "MongoDB database `shop` at c.example.net");
}
