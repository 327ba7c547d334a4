//! A project's table as it goes into a snapshot: enough to configure the project on another host, and no secret.

use super::{
    Config,
    show::{MASK, show},
};
use havun_model::ProjectName;
use serde_json::Value;

/// The project's table, defaults filled in. Secrets in plain text are left out; those that lie in a file, a variable or a
/// credential are named.
pub fn portable(config: &Config, project: &ProjectName) -> Value {
    let shown = show(config, Some(project.as_str())).json;
    let table = shown.get("projects").and_then(|projects| projects.get(project.as_str())).cloned();
    table.map(without_commands).and_then(without_secrets).unwrap_or_else(|| Value::Object(Default::default()))
}

/// Without what would be run as a command: a host that takes over must not run what it read in an archive.
fn without_commands(mut table: Value) -> Value {
    if let Some(entries) = table.as_object_mut() {
        entries.remove("quiesce");
        entries.remove("snapshot");
    }
    table
}

/// Without whatever is masked, in whole or in part.
fn without_secrets(value: Value) -> Option<Value> {
    match value {
        Value::String(text) => (!text.contains(MASK)).then_some(Value::String(text)),
        Value::Object(entries) => {
            Some(Value::Object(entries.into_iter().filter_map(|(key, value)| Some((key, without_secrets(value)?))).collect()))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(without_secrets).collect())),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_plain_secret_stays_at_home() {
        let text = "[stores.s]\ntier='hot'\nkind='local'\npath='/s'\n[projects.blog]\nstrategy='files'\nroot='/r'\nstores=['s']\n\
                    [projects.blog.databases.main]\nurl='mysql://u:hush@h/d'\n[projects.blog.databases.other]\npassword='hush'\nuser='u'\n";
        let config = Config::parse(text, Path::new("/c.toml"), 0o600).unwrap();
        let kept = portable(&config, &ProjectName::new("blog").unwrap());
        assert!(!kept.to_string().contains("hush") && !kept.to_string().contains(MASK), "{kept}");
        assert_eq!(kept["databases"]["other"]["user"], "u");
        let text = text.replace("stores=['s']\n", "stores=['s']\nquiesce={before=['rm','-rf','/']}\nsnapshot={kind='zfs',dataset='a'}\n");
        let config = Config::parse(&text, Path::new("/c.toml"), 0o600).unwrap();
        let kept = portable(&config, &ProjectName::new("blog").unwrap());
        assert!(kept.get("quiesce").is_none() && kept.get("snapshot").is_none(), "no command comes back from an archive: {kept}");
        assert_eq!(kept["retention"]["archive"], "7y");
    }
}
