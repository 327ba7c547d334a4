//! Erasing rows of persons.

use super::*;
use crate::databases::{RowRule, Subjects, subject_hash};
use havun_model::erasures::{NORMAL_FORM, RowAction};

fn rule(table: &str, column: &str, action: RowAction) -> RowRule {
    RowRule { table: table.to_owned(), column: column.to_owned(), normalise: NORMAL_FORM.to_vec(), action }
}

fn filled(name: &str) -> Place {
    let place = place(name);
    place.sql(
        "CREATE TABLE users (id int PRIMARY KEY, email text, name text NOT NULL);
         CREATE TABLE tokens (owner int REFERENCES users (id) ON DELETE CASCADE, token text);
         CREATE SCHEMA crm; CREATE TABLE crm.\"Leads\" (\"E-mail\" varchar(99), note text);
         INSERT INTO users VALUES (1, ' Zoë@Example.org', 'Zoë'), (2, 'piet@example.org', 'Piet'), (3, NULL, 'x');
         INSERT INTO tokens VALUES (1, 'a'), (2, 'b');
         INSERT INTO crm.\"Leads\" VALUES ('ZOË@example.org', 'about her'), ('piet@example.org', 'about him');",
    );
    place
}

#[test]
fn rows_go_by_the_hash_of_what_a_column_holds() {
    let place = filled("erase_rows");
    let values = BTreeMap::from([("note".to_owned(), None), ("E-mail".to_owned(), Some("it's \\ erased".to_owned()))]);
    let rules = [rule("users", "email", RowAction::Delete), rule("crm.Leads", "E-mail", RowAction::Replace { values })];
    let subjects = Subjects::of([subject_hash("zoë@example.org", &NORMAL_FORM)]);
    let done = place.root().erase(None, &rules, &subjects, &Cancel::default()).unwrap();
    assert_eq!((done[0].rows, done[1].rows), (1, 1));
    assert_eq!(place.sql("SELECT string_agg(name, ',' ORDER BY id) FROM users").trim(), "Piet,x");
    assert_eq!(place.sql("SELECT string_agg(token, ',') FROM tokens").trim(), "b");
    assert_eq!(place.sql("SELECT \"E-mail\" FROM crm.\"Leads\" WHERE note IS NULL").trim(), "it's \\ erased");
}

#[test]
fn it_is_all_or_nothing() {
    let place = filled("erase_nothing");
    let values = BTreeMap::from([("name".to_owned(), None)]);
    let rules = [rule("crm.Leads", "E-mail", RowAction::Delete), rule("users", "email", RowAction::Replace { values })];
    let subjects = Subjects::of([subject_hash("piet@example.org", &NORMAL_FORM)]);
    let error = place.root().erase(None, &rules, &subjects, &Cancel::default()).unwrap_err().to_string();
    assert!(error.contains("name") && !error.contains("piet"), "no personal data in an error: {error}");
    assert_eq!(place.sql("SELECT count(*) FROM crm.\"Leads\"").trim(), "2");
    place.root().erase(None, &[rule("gone", "email", RowAction::Delete)], &subjects, &Cancel::default()).unwrap_err();
}
