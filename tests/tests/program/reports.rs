//! Reports and incident procedures as an operator gets them.

use havun_tests::{Machine, SmtpServer};
use std::fs;

fn backed_up(more: &str) -> Machine {
    let mut machine = Machine::new();
    machine.section(more);
    fs::write(machine.project("shop", "files", "title = \"The <b>Shop</b>\"\nschedule = \"daily 03:00\"").join("file"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    machine
}

#[test]
fn a_report_is_sent_to_a_real_mail_server_and_that_one_is_away_is_said() {
    let mut server = SmtpServer::start();
    let mail = format!("[notify.email]\nsmtp = \"{}\"\nfrom = \"backup@example.org\"\nto = [\"ops@example.org\"]", server.url());
    let machine = backed_up(&format!("[notify]\nlanguage = \"nl\"\n{mail}"));
    machine.call(&["report", "--daily", "--send"]).ended(0);
    machine.call(&["report", "--daily", "--send"]).ended(0);
    let mails = server.mails();
    assert_eq!(mails.len(), 2, "who asks again is told again");
    assert!(mails[0].subject().starts_with("[TestHost] Dagelijks back-uprapport - 20"), "{}", mails[0].subject());
    assert_eq!(mails[0].parts, ["multipart/alternative", "text/plain", "text/html"]);
    assert!(mails[0].text.starts_with("ALLE BACK-UPS GESLAAGD"), "{}", mails[0].text);
    assert!(mails[0].html.contains("The &lt;b&gt;Shop&lt;/b&gt;") && !mails[0].html.contains("<b>Shop"), "{}", mails[0].html);
    server.stop();
    let away = machine.call(&["report", "--daily", "--send"]).ended(1).text();
    assert!(away.contains("not sent yet: "), "{away}");
    // The page of what is open is in the language of the mails, and needs no network.
    let doctor = machine.call(&["doctor", "--kind", "notify"]).ended(4).text();
    assert!(doctor.contains("problem  channel email: ") && doctor.contains("# Een bericht kon niet worden bezorgd"), "{doctor}");
}

#[test]
fn without_a_channel_a_report_cannot_be_sent() {
    let machine = backed_up("");
    assert!(machine.call(&["report", "--daily", "--send"]).ended(2).text().contains("[notify] has no channel yet"));
    let doctor = machine.call(&["doctor"]).text();
    assert!(doctor.contains("note     messages: [notify] has no channel"), "{doctor}");
}
