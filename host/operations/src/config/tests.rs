//! Golden error texts, defaults, secrets and the schema.

use super::*;
use havun_notify::Language;
use std::path::Path;

const DESIGN: &str = include_str!("../../tests/data/design.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/havun-backup/config.toml"), 0o600)
}

/// The problems of `text`, one line each: `line:column: message`.
fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Invalid { problems, .. }) => {
            problems.into_iter().map(|p| format!("{}:{}: {}", p.line, p.column, p.message)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_documented_example_is_a_configuration() {
    let config = parse(DESIGN).unwrap();
    let project = config.projects.values().next().unwrap();
    assert_eq!(config.host.timezone.iana_name(), Some("Europe/Amsterdam"));
    assert_eq!(project.settings, serde_json::json!({ "exclude": ["storage/app/tmp/**"] }));
    assert_eq!(project.schedule.as_ref().unwrap().to_string(), "daily 03:00");
    assert_eq!(config.stores.values().map(|s| s.kind.word()).collect::<Vec<_>>(), ["sftp", "local"]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let channels: Vec<_> = config.notify.channels.iter().map(|channel| (channel.name.as_str(), channel.events.len())).collect();
    assert_eq!(channels, [("email", 4), ("slack", 4)]);
}

#[test]
fn an_empty_file_is_a_configuration_with_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.host.state_dir, Path::new("/var/lib/havun-backup"));
    assert_eq!(*config.audit.url.resolve().unwrap(), "sqlite:///var/lib/havun-backup/audit.db");
    assert!(config.projects.is_empty());
}

#[test]
fn every_error_of_a_file_is_told_at_once_in_its_order() {
    let text = r#"
[host]
nmae = "x"
timezone = "Europe/Amsterdm"

[stores.local]
tier = "warm"
kind = "local"
pth = "/b"

[stores.Box]
tier = "archive"
kind = "sftpp"

[stores.off]
tier = "archive"
kind = "sftp"
host = "h"
port = 70000
user = "u"
path = "p"
identity = { flie = "k" }
host_key = "anything"

[projects.blog]
strategy = "laravell"
schedule = "daily 25:00"
stores = ["locall", "off", "off"]
encryption = "yes"
retention.hot = "30"
settings = 3
[projects.blog.databases.main]
engine = "oracle"
pasword = "x"
[projekts.x]
"#;
    let expected = [
        "3:1: unknown key `nmae` in [host] (did you mean `name`?)",
        "4:12: `timezone`: `Europe/Amsterdm` is not a time zone of this machine: use a name like `Europe/Amsterdam`",
        "6:9: `path` is missing in [stores.local]: The folder.",
        "7:8: `tier` cannot be `warm`: use `hot`, `archive` or `test`",
        "9:1: unknown key `pth` in [stores.local] (did you mean `path`?)",
        "11:9: `Box` is not a store name: use 1 to 64 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit",
        "13:8: `kind` cannot be `sftpp`: use `local`, `sftp` or `s3` (did you mean `sftp`?)",
        "19:8: `port` must be a port from 1 to 65535, not an integer",
        "22:12: the secret `identity` needs exactly one of `file`, `env` and `credential`",
        "22:14: unknown key `flie` in the secret `identity` (did you mean `file`?)",
        "23:12: `host_key`: `anything` is not a host key: use `hetzner`, `SHA256:…` or `ssh-ed25519 AAAA…` (`ssh-keyscan HOST` prints it)",
        "25:11: `root` is missing in [projects.blog]: The project's folder.",
        "26:12: there is no strategy `laravell`: there are files, laravel, laravel-package, nodejs (did you mean `laravel`?)",
        "27:12: `schedule`: `daily 25:00` is not a schedule (`25:00` is not a time of day): write `daily 03:00`, `weekly sun 05:00` or five cron fields such as `15 3 * * 1-5`",
        "28:11: `stores`: there is no store `locall` in [stores] (did you mean `local`?)",
        "28:28: `stores` names `off` twice",
        "29:14: `encryption` must be true or false, not a string",
        "30:17: `hot`: `30` is not a term: write a number from 1 to 1000 and `d`, `w`, `m` or `y`, as in `30d` or `7y`",
        "31:12: `settings` must be a table, not an integer",
        "33:10: `engine` cannot be `oracle`: use `mariadb`, `mysql`, `sqlite`, `postgresql`, `mongodb` or `redis`",
        "34:1: unknown key `pasword` in [projects.blog.databases.main] (did you mean `password`?)",
        "35:2: unknown key `projekts` (did you mean `projects`?)",
    ];
    assert_eq!(problems(text).join("\n"), expected.join("\n"));
}

#[test]
fn broken_toml_is_told_with_its_place() {
    let all = problems("[host]\nname = \n[stores\n");
    assert_eq!(all.len(), 2, "{all:#?}");
    assert!(all[0].starts_with("2:8: "), "{all:#?}");
    assert!(all[1].starts_with("3:"), "{all:#?}");
}

#[test]
fn columns_count_characters() {
    assert!(problems("host = { \"é\" = 1 }")[0].starts_with("1:10: unknown key `é`"));
    assert!(problems("host = { name = \"éé\", x = 1 }")[0].starts_with("1:23: unknown key `x`"));
}

#[test]
fn one_folder_cannot_be_two_stores() {
    let text = "[stores.a]\ntier='hot'\nkind='local'\npath='/b'\n[stores.z]\ntier='hot'\nkind='local'\npath='/b/'\n";
    assert_eq!(problems(text), ["5:9: stores `a` and `z` are the same folder /b"]);
}

#[test]
fn an_escrow_secret_in_the_configuration_is_refused() {
    let text = "[keys]\nescrow = ['AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ']";
    assert!(problems(text)[0].contains("this is a secret key"), "{:?}", problems(text));
    assert!(!problems(text)[0].contains("QQQQ"));
}

#[test]
fn plain_secrets_are_warned_about_and_need_a_private_file() {
    let text = "[projects.p]\nstrategy='files'\nroot='/p'\nstores=['s']\n[projects.p.databases.main]\npassword='hunter2'\n\
                [stores.s]\ntier='hot'\nkind='local'\npath='/b'\n";
    let path = Path::new("/c.toml");
    let config = Config::parse(text, path, 0o600).unwrap();
    assert_eq!(config.warnings, ["/c.toml:6:10: `password` stands there in plain text; better { file = \"…\" }"]);
    let error = Config::parse(text, path, 0o640).unwrap_err();
    assert_eq!(error.to_string(), "/c.toml holds secrets in plain text (line 6: password) and can be read by others (mode 0640)");
    assert!(!format!("{config:?}").contains("hunter2"));
    let open = text.replace("password='hunter2'", "password={env='P'}");
    assert!(Config::parse(&open, path, 0o644).unwrap().warnings.is_empty());
}

#[test]
fn a_url_is_secret_only_with_a_password() {
    let with = "[audit]\nurl = 'mysql://u:p@h/a'\n";
    assert!(matches!(Config::parse(with, Path::new("/c"), 0o644), Err(ConfigError::Exposed { .. })));
    assert!(Config::parse("[audit]\nurl = 'mysql://u@h/a'\n", Path::new("/c"), 0o644).is_ok());
    let apart = "[audit]\nurl = 'mariadb://u@h/a'\npassword = 'hunter2'\n";
    assert!(matches!(Config::parse(apart, Path::new("/c"), 0o644), Err(ConfigError::Exposed { .. })));
    assert_eq!(problems("[notify.email]\nsmtp='http://x'\nfrom='a@b'\nto=['c']").len(), 2);
}

#[test]
fn the_audit_database_is_shown_without_its_password() {
    let shown = |text: &str| show(&parse(text).unwrap(), None).to_toml();
    for url in [
        "mysql://u:hunter2@h/a",
        "postgres://u@h/a?password=hunter2&sslmode=require",
        "postgres://u:12#hunter2@h/a",
        "mysql://u:12/hunter2@h/a",
        "mysql://u:12?hunter2@h/a",
    ] {
        let text = shown(&format!("[audit]\nurl = '{url}'"));
        assert!(text.contains("×××") && !text.contains("hunter2"), "{text}");
    }
    let text = shown("[audit]\nurl = 'mysql://u@h/a'\npassword = 'hunter2'\nlease = '2m'");
    assert!(text.contains("mysql://u@h/a") && text.contains("lease = \"2m\"") && !text.contains("hunter2"), "{text}");
    assert_eq!(parse("").unwrap().audit.lease.to_string(), "5m");
    assert_eq!(problems("[audit]\nlease = '0s'").len(), 1);
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let config = parse("[stores.s]\ntier='hot'\nkind='local'\npath='x/./y'\n[keys]\nidentity={file='k'}").unwrap();
    assert!(
        matches!(&config.stores.values().next().unwrap().kind, StoreKind::Local { path } if path == Path::new("/etc/havun-backup/x/y"))
    );
    assert!(matches!(config.keys.identity, Some(Secret::File(path)) if path == Path::new("/etc/havun-backup/k")));
}

#[test]
fn a_grant_without_a_digest_is_refused() {
    let text = "[plugins.acme]\npath='/a.wasm'\ngrant=['x']\n[plugins.files]\npath='/f.wasm'\n";
    let all = problems(text);
    assert!(all[0].contains("`digest` is missing in [plugins.acme]"), "{all:?}");
    assert!(all[1].contains("`files` is a built-in strategy"), "{all:?}");
}

#[test]
fn seven_years_are_asked_for_where_the_tax_authority_does() {
    let text = DESIGN.replace("archive = \"7y\"", "archive = \"6y\"");
    let warnings = parse(&text).unwrap().warnings;
    assert!(
        warnings.contains(&"project `havunadmin`: `belastingdienst` asks for seven years, `retention.archive` is 6y".to_owned()),
        "{warnings:?}"
    );
}

#[test]
fn settings_become_json_and_what_json_cannot_hold_is_refused() {
    let text =
        "[stores.s]\ntier='hot'\nkind='local'\npath='/b'\n[projects.p]\nstrategy='files'\nroot='/p'\nstores=['s']\n[projects.p.settings]\n";
    let config = parse(&format!("{text}a=0x1F\nb=1_000\nc=1.5\nd=2026-01-01\ne=[{{f=true}}]")).unwrap();
    let settings = &config.projects.values().next().unwrap().settings;
    assert_eq!(*settings, serde_json::json!({ "a": 31, "b": 1000, "c": 1.5, "d": "2026-01-01", "e": [{ "f": true }] }));
    assert_eq!(problems(&format!("{text}a=nan")), ["10:3: nan is not a number that a strategy can be given"]);
}

#[test]
fn the_schema_names_every_key_once_and_refuses_others() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(
        schema.pointer("/properties/projects/additionalProperties/required").unwrap(),
        &serde_json::json!(["strategy", "root", "stores"])
    );
    let kinds = schema.pointer("/properties/stores/additionalProperties/oneOf").unwrap().as_array().unwrap();
    assert_eq!(kinds.iter().map(|k| k["properties"]["kind"]["const"].as_str().unwrap()).collect::<Vec<_>>(), ["local", "sftp", "s3"]);
}

#[test]
fn no_text_makes_the_reader_panic() {
    for at in 0..DESIGN.len() {
        if let (Some(head), Some(tail)) = (DESIGN.get(..at), DESIGN.get(at + 1..)) {
            let _ = parse(head);
            let _ = parse(&format!("{head}{tail}"));
        }
    }
}

#[test]
fn what_is_shown_is_a_configuration_again_without_its_secrets() {
    let text = DESIGN.replace("smtp://127.0.0.1:25", "smtp://joe:hunter2@127.0.0.1:25");
    let shown = show(&parse(&text).unwrap(), None);
    assert!(!shown.to_toml().contains("hunter2"));
    assert_eq!(shown.json["notify"]["email"]["smtp"], "smtp://joe:×××@127.0.0.1:25");
    let again = parse(&shown.to_toml()).unwrap();
    assert_eq!(show(&again, None).to_toml().replace("%C3%97", "×"), shown.to_toml());
}

#[test]
fn one_project_is_shown_with_its_own_stores() {
    let text = format!("{DESIGN}\n[stores.other]\ntier='hot'\nkind='local'\npath='/o'\n");
    let shown = show(&parse(&text).unwrap(), Some("havunadmin")).json;
    assert_eq!(shown["stores"].as_object().unwrap().keys().collect::<Vec<_>>(), ["hetzner", "local"]);
    assert!(shown.get("notify").is_none());
}

const SFTP: &str = "[stores.s]\ntier='archive'\nkind='sftp'\nhost='h'\nuser='u'\npath='p'\nhost_key='hetzner'\n";
const S3: &str = "[stores.s]\ntier='archive'\nkind='s3'\nbucket='b'\naccess_key_id={env='I'}\nsecret_access_key={env='S'}\n";

fn only_store(text: &str) -> StoreConfig {
    parse(text).unwrap().stores.into_values().next().unwrap()
}

#[test]
fn a_store_over_the_network_has_defaults_and_can_be_tuned() {
    let store = only_store(&format!("{SFTP}agent=true"));
    let StoreKind::Sftp(sftp) = &store.kind else { panic!("{store:?}") };
    assert_eq!((sftp.connections, sftp.put_once, sftp.verify, sftp.agent), (4, false, UploadCheck::Auto, true));
    assert_eq!((store.bandwidth, store.par2, store.scrub.to_string().as_str()), (None, None, "90d"));
    let text = format!(
        "{SFTP}identity={{file='k'}}\npassphrase={{env='P'}}\nconnections=8\nput_once=true\nverify='read-back'\nbandwidth='20 MiB/s'\npar2=10\nscrub='30d'\n"
    );
    let store = only_store(&text);
    let StoreKind::Sftp(sftp) = &store.kind else { panic!("{store:?}") };
    assert_eq!((sftp.connections, sftp.put_once, sftp.verify, sftp.agent), (8, true, UploadCheck::ReadBack, false));
    assert_eq!(
        (store.bandwidth.unwrap().bytes_per_second().get(), store.par2, store.scrub.to_string().as_str()),
        (20 << 20, Some(10), "30d")
    );
    let shown = show(&parse(&text).unwrap(), None);
    assert_eq!(show(&parse(&shown.to_toml()).unwrap(), None).json, shown.json);
}

#[test]
fn what_storage_costs_and_the_language_of_messages_are_optional() {
    let store = only_store(&format!("{SFTP}agent=true\ncost_per_tb_month='3.81 EUR'\n[notify]\nlanguage='nl'\n"));
    assert_eq!(store.cost.unwrap().to_string(), "3.81 EUR");
    let config = parse(&format!("{SFTP}agent=true\ncost_per_tb_month='3.81 EUR'\n[notify]\nlanguage='nl'\n")).unwrap();
    assert_eq!(config.notify.language, Language::Dutch);
    let shown = show(&config, None);
    assert_eq!(show(&parse(&shown.to_toml()).unwrap(), None).json, shown.json);
    let wrong = problems(&format!("{SFTP}agent=true\ncost_per_tb_month='cheap'\n[notify]\nlanguage='de'\n"));
    assert!(wrong.iter().any(|p| p.contains("as in `3.81 EUR`")) && wrong.iter().any(|p| p.contains("`en` or `nl`")), "{wrong:?}");
}

#[test]
fn a_bucket_has_defaults_and_can_be_locked() {
    let StoreKind::S3(aws) = only_store(S3).kind else { panic!() };
    assert_eq!((aws.path_style, aws.object_lock, aws.connections), (false, None, 4));
    let text = format!("{S3}endpoint='https://s3.example.org'\nobject_lock='compliance'\nsession_token={{env='T'}}\nconnections=2\n");
    let StoreKind::S3(own) = only_store(&text).kind else { panic!() };
    assert_eq!((own.path_style, own.object_lock, own.connections), (true, Some(LockMode::Compliance), 2));
    let shown = show(&parse(&text).unwrap(), None);
    assert_eq!(show(&parse(&shown.to_toml()).unwrap(), None).json, shown.json);
}

#[test]
fn a_bucket_needs_both_halves_of_a_key() {
    let all = problems("[stores.s]\ntier='archive'\nkind='s3'\nbucket='b'\naccess_key_id={env='I'}\n");
    assert_eq!(all, ["1:9: `secret_access_key` is missing in [stores.s]: without it nobody can write to the bucket"]);
}

#[test]
fn a_login_is_one_and_numbers_and_rates_have_bounds() {
    assert_eq!(problems(SFTP), ["1:9: [stores.s] has no way to log in: give `identity`, `agent = true` or `password`"]);
    assert_eq!(
        problems(&format!("{SFTP}agent=true\npassword={{env='P'}}\npassphrase={{env='Q'}}")),
        [
            "1:9: [stores.s] has 2 ways to log in (agent, password): keep one",
            "1:9: `passphrase` in [stores.s] belongs to a private key, and `identity` names none",
        ]
    );
    assert_eq!(
        problems(&format!("{SFTP}agent=true\nconnections=9\npar2=0\nbandwidth='fast'\nscrub='soon'\nverify='maybe'")),
        [
            "9:13: `connections` must be a whole number from 1 to 8",
            "10:6: `par2` must be a whole number from 1 to 100",
            "11:11: `bandwidth`: `fast` is not a rate: write a number and `KiB/s`, `MiB/s` or `GiB/s` (or `kB/s`, `MB/s`, `GB/s`), as in `20 MiB/s`; at least 1 KiB/s",
            "12:7: `scrub`: `soon` is not a term: write a number from 1 to 1000 and `d`, `w`, `m` or `y`, as in `30d` or `7y`",
            "13:8: `verify` cannot be `maybe`: use `auto`, `read-back` or `size`",
        ]
    );
}

#[test]
fn a_retention_remembers_what_was_written() {
    let of = |text: &str| parse(text).unwrap().projects.into_values().next().unwrap().retention;
    let written = of(DESIGN);
    assert!(written.explicit_hot && written.explicit_archive);
    let base = "[stores.s]\ntier='hot'\nkind='local'\npath='/b'\n[projects.p]\nstrategy='files'\nroot='/p'\nstores=['s']\n";
    for empty in ["", "[projects.p.retention]\n", "[projects.p.retention]\narchive='7y'\n"] {
        let default = of(&format!("{base}{empty}"));
        assert!(!default.explicit_hot);
        assert_eq!(default.hot.to_string(), "30d");
    }
}

#[test]
fn the_name_of_the_spool_is_taken() {
    let text = "[stores.spool]\ntier='hot'\nkind='local'\npath='/b'\n";
    assert_eq!(problems(text), ["1:9: `spool` is the program's own store: give this one another name"]);
}

#[test]
fn commands_and_snapshots_of_a_project_are_read_checked_and_shown() {
    let head = "[stores.s]\ntier='hot'\nkind='local'\npath='/s'\n[projects.shop]\nstrategy='files'\nroot='/r'\nstores=['s']\n";
    let text = format!(
        "{head}[projects.shop.quiesce]\nbefore=['php','artisan','down','']\nafter=['php','artisan','up']\nuser='root'\non_failure='continue'\n\
         [projects.shop.snapshot]\nkind='lvm'\nvolume_group='vg'\nlogical_volume='www'\nsize='5G'\n"
    );
    let config = parse(&text).unwrap();
    let project = config.projects.values().next().unwrap();
    let quiesce = project.quiesce.as_ref().unwrap();
    assert_eq!((quiesce.before.len(), quiesce.timeout_secs, quiesce.goes_on), (4, 60, true));
    let shown = show(&config, Some("shop")).to_toml();
    let again = parse(&shown).unwrap();
    assert_eq!(again.projects.values().next().unwrap().quiesce, project.quiesce, "{shown}");
    assert_eq!(again.projects.values().next().unwrap().snapshot, project.snapshot);
    for (wrong, what) in [
        ("[projects.shop.quiesce]\n", "neither `before` nor `after`"),
        ("[projects.shop.quiesce]\nbefore=[]\n", "needs a program"),
        ("[projects.shop.quiesce]\nbefore='php artisan down'\n", "a list of texts"),
        ("[projects.shop.quiesce]\nbefore=['']\n", "names no program"),
        ("[projects.shop.quiesce]\nafter=['x']\nuser='nobody-here'\n", "no user `nobody-here`"),
        ("[projects.shop.snapshot]\nkind='xfs'\n", "`kind` cannot be `xfs`"),
        ("[projects.shop.snapshot]\nkind='btrfs'\n", "`subvolume` is missing"),
        ("[projects.shop.snapshot]\nkind='zfs'\ndataset='a/../b'\n", "not a name"),
        ("[projects.shop.snapshot]\nkind='lvm'\nvolume_group='a'\nlogical_volume='b'\nsize='5'\n", "not a size"),
    ] {
        let found = problems(&format!("{head}{wrong}"));
        assert!(found.iter().any(|problem| problem.contains(what)), "{wrong}: {found:?}");
    }
}

const CHANNELS: &str = "[notify]\nlanguage='nl'\ndigest='06:30'\nremind='12h'\n[notify.webhook]\nurl={file='u'}\nsecret={env='S'}\n\
                        [notify.command]\nargv=['/usr/bin/logger', '-t', 'backup']\ntimeout=5\n\
                        [notify.channels.night]\nkind='discord'\nwebhook={file='d'}\nevents=['failure','recovery']\nmin_priority='high'\n";

#[test]
fn channels_of_every_kind_are_read_and_shown_alike() {
    let config = parse(CHANNELS).unwrap();
    assert_eq!((config.notify.language.word(), config.notify.remind.to_string().as_str()), ("nl", "12h"));
    let told: Vec<_> =
        config.notify.channels.iter().map(|c| (c.name.as_str(), c.kind.word(), c.events.len(), c.min_priority.word())).collect();
    assert_eq!(told, [("webhook", "webhook", 4, "low"), ("command", "command", 4, "low"), ("night", "discord", 2, "high")]);
    let shown = show(&config, None).to_toml();
    assert_eq!(show(&parse(&shown).unwrap(), None).to_toml(), shown);
}

#[test]
fn what_is_wrong_with_a_channel_is_told_with_the_nearest_word() {
    let told = |text: &str| problems(text).join("; ");
    let email = "[notify.email]\nsmtp='smtp://mail.example.org'\nfrom='a@b.c'\nto=['d@e.f']\n";
    parse(email).unwrap();
    assert!(told(&format!("{email}user={{env='U'}}\npassword={{env='P'}}")).contains("for everybody to read"));
    assert!(told(&format!("{email}user={{env='U'}}")).contains("belong together"));
    assert!(told(&email.replace("'d@e.f'", "")).contains("`to` is empty"));
    assert!(told(&format!("{email}events=['failures']")).contains("did you mean `failure`?"));
    assert!(told("[notify]\ndigest='25:00'").contains("is not a time of day"));
    assert!(told("[notify.slak]\nwebhook={file='x'}").contains("did you mean `slack`?"));
    assert!(
        told("[notify.channels.slack]\nkind='slack'\nwebhook={file='x'}\n[notify.slack]\nwebhook={file='y'}")
            .contains("has this name already")
    );
    assert!(told("[notify.webhook]\nurl={file='x'}\nsecret={file='y'}\nbearer={file='z'}").contains("not both"));
    assert!(told("[notify.command]\nargv=['']").contains("names no program"));
}
