//! Between the contract's types and the model's. What comes from a guest is checked here, whole, before
//! anything acts on it: names, paths, globs, kinds, counts. Text for people is cleaned and cut.

use crate::{
    api::{
        bindings::{exports::havun::backup::guest, havun::backup::types},
        erase_step::exports::havun::backup::erasure,
    },
    globs, inspect, paths, text,
};
use havun_model::{
    BackupPlan, Check, Connection, DatabaseItem, Detection, GeneratedItem, GitItem, ItemKind, ItemName, Parameter, ParameterSource,
    PlanItem, ProposedSetting, RestorePlan, RestoreStep, StepReport, StoredItem, StrategyContext, StrategyInfo, TreeItem,
    erasures::{EraseRule, EraseTarget, Normalise, RowAction},
};
use std::collections::BTreeSet;

/// Why an answer is refused.
pub type Refusal = String;

const MAX_ITEMS: usize = 256;
const MAX_LINES: usize = 500;
const MAX_LINE: usize = 2048;
const MAX_SETTINGS: usize = 200;
const MAX_JSON: usize = 256 << 10;

/// Where a parameter's value may be found.
const PARAMETERS: [&str; 9] = ["url", "host", "port", "socket", "user", "password", "database", "path", "charset"];
/// Parameters that hold secrets: named, never given.
const SECRET: [&str; 2] = ["url", "password"];

fn line(text: &str) -> String {
    text::line(text, MAX_LINE)
}

fn quoted(text: &str) -> String {
    format!("`{}`", text::line(text, 80))
}

fn bounded<T>(what: &str, list: &[T], most: usize) -> Result<(), Refusal> {
    if list.len() > most { Err(format!("{} {what}, more than {most}", list.len())) } else { Ok(()) }
}

fn lines(what: &str, list: &[String]) -> Result<Vec<String>, Refusal> {
    bounded(what, list, MAX_LINES)?;
    Ok(list.iter().map(|text| line(text)).collect())
}

fn extension<'a>(ext: &'a [(String, String)], key: &str) -> Option<&'a str> {
    ext.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// What a guest is told of the run.
pub fn context(cx: &StrategyContext) -> types::Context {
    let connection =
        |c: &havun_model::ConnectionInfo| types::ConnectionInfo { name: c.name.clone(), engine: c.engine.clone(), ext: vec![] };
    types::Context {
        run_id: cx.run_id.clone(),
        project: cx.project.clone(),
        settings: if cx.settings.is_null() { "{}".to_owned() } else { cx.settings.to_string() },
        connections: cx.connections.iter().map(connection).collect(),
        granted: cx.granted.clone(),
        ext: vec![],
    }
}

/// What a guest is told of a snapshot.
#[expect(clippy::cast_precision_loss, reason = "counts above 2^53 do not occur, and WIT has no 64-bit integers")]
pub fn stored_item(item: &StoredItem) -> guest::StoredItem {
    guest::StoredItem {
        name: item.name.clone(),
        kind: item.kind.clone(),
        complete: item.complete,
        bytes: item.bytes as f64,
        files: item.files as f64,
    }
}

/// `describe`.
pub fn description(said: guest::Description) -> Result<StrategyInfo, Refusal> {
    if !text::is_word(&said.id) {
        return Err(format!("the id {} is not 1 to 64 of a-z, 0-9 and `-`", quoted(&said.id)));
    }
    if said.version.is_empty() || said.version.len() > 64 || !said.version.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("the version {} is not a semantic version", quoted(&said.version)));
    }
    bounded("requests", &said.requests, 100)?;
    if !said.settings_schema.is_empty() {
        json("the settings schema", &said.settings_schema)?;
    }
    Ok(StrategyInfo {
        id: said.id,
        version: said.version,
        title: text::line(&said.title, 200),
        requests: said.requests.iter().map(|request| text::line(request, 200)).collect(),
        settings_schema: said.settings_schema,
    })
}

fn json(what: &str, given: &str) -> Result<serde_json::Value, Refusal> {
    if given.len() > MAX_JSON {
        return Err(format!("{what} is longer than {MAX_JSON} bytes"));
    }
    serde_json::from_str(given).map_err(|source| format!("{what} is not JSON: {source}"))
}

/// `detect`.
pub fn detection(found: guest::Detection) -> Result<Detection, Refusal> {
    bounded("proposed settings", &found.settings, MAX_SETTINGS)?;
    let settings = found.settings.iter().map(|setting| {
        if setting.key.is_empty() || setting.key.len() > 128 || text::has_control(&setting.key) {
            return Err(format!("{} is not a key of a setting", quoted(&setting.key)));
        }
        let value = json(&format!("the value of the setting {}", quoted(&setting.key)), &setting.value)?;
        Ok(ProposedSetting { key: setting.key.clone(), value, reason: line(&setting.reason) })
    });
    Ok(Detection {
        confidence: found.confidence.min(100),
        label: text::line(&found.label, 200),
        settings: settings.collect::<Result<_, _>>()?,
        notes: lines("notes", &found.notes)?,
    })
}

/// `plan-backup`.
pub fn backup_plan(plan: guest::BackupPlan) -> Result<BackupPlan, Refusal> {
    bounded("items", &plan.items, MAX_ITEMS)?;
    let mut names = BTreeSet::new();
    let mut warnings = lines("warnings", &plan.warnings)?;
    let mut items = Vec::with_capacity(plan.items.len());
    for item in plan.items {
        let item = plan_item(item, &mut warnings)?;
        if !names.insert(item.name.clone()) {
            return Err(format!("two items are named `{}`", item.name));
        }
        items.push(item);
    }
    Ok(BackupPlan { items, warnings })
}

fn plan_item(item: guest::Item, warnings: &mut Vec<String>) -> Result<PlanItem, Refusal> {
    let name = ItemName::new(text::line(&item.name, 80)).map_err(|source| source.to_string())?;
    let reason = line(&item.reason);
    let kind = item_kind(item, warnings).map_err(|what| format!("item `{name}`: {what}"))?;
    Ok(PlanItem { name, kind, reason })
}

fn item_kind(item: guest::Item, warnings: &mut Vec<String>) -> Result<ItemKind, Refusal> {
    match item.kind.as_str() {
        "tree" => tree_item(item).map(ItemKind::Tree),
        "database" => database_item(item, warnings).map(ItemKind::Database),
        "git" => Ok(ItemKind::Git(GitItem { path: planned(&item.path)? })),
        "generated" => generated_item(&item).map(ItemKind::Generated),
        other => Err(format!("this program knows no kind {} (version {} of havun:backup)", quoted(other), inspect::OFFERED)),
    }
}

fn planned(path: &str) -> Result<String, Refusal> {
    paths::check_planned(path).map(str::to_owned).map_err(|source| source.to_string())
}

fn tree_item(item: guest::Item) -> Result<TreeItem, Refusal> {
    for list in [&item.includes, &item.excludes] {
        globs::check_all(list).map_err(|source| source.to_string())?;
    }
    let json = extension(&item.ext, "json") == Some("true");
    Ok(TreeItem { path: planned(&item.path)?, include: item.includes, exclude: item.excludes, json })
}

fn generated_item(item: &guest::Item) -> Result<GeneratedItem, Refusal> {
    let file_name = planned(&item.path)?;
    if file_name.is_empty() || file_name.contains('/') {
        return Err(format!("{} is not a file name", quoted(&file_name)));
    }
    let media_type = extension(&item.ext, "media-type").unwrap_or("application/octet-stream");
    Ok(GeneratedItem { file_name, media_type: text::line(media_type, 120) })
}

fn database_item(item: guest::Item, warnings: &mut Vec<String>) -> Result<DatabaseItem, Refusal> {
    let Some(connection) = item.connection else { return Err("a database needs a connection".to_owned()) };
    bounded("tables without rows", &item.exclude_rows, globs::MAX_GLOBS)?;
    if let Some(bad) = item.exclude_rows.iter().find(|table| table.is_empty() || table.len() > 256 || text::has_control(table)) {
        return Err(format!("{} is not a name of a table", quoted(bad)));
    }
    Ok(DatabaseItem { connection: self::connection(connection, warnings)?, exclude_rows: item.exclude_rows })
}

fn connection(connection: guest::Connection, warnings: &mut Vec<String>) -> Result<Connection, Refusal> {
    if connection.name.is_empty() || connection.name.len() > 64 || text::has_control(&connection.name) {
        return Err(format!("{} is not a name of a connection", quoted(&connection.name)));
    }
    if !connection.engine.is_empty() && !text::is_word(&connection.engine) {
        return Err(format!("{} is not a database engine", quoted(&connection.engine)));
    }
    let mut names = BTreeSet::new();
    let mut parameters = Vec::new();
    for given in connection.parameters {
        if !names.insert(given.name.clone()) {
            return Err(format!("the parameter {} is given twice", quoted(&given.name)));
        }
        if let Some(why) = withheld(&given, &connection.engine) {
            let name = &connection.name;
            warnings.push(format!("connection `{name}`: {why}; say it under [projects.NAME.databases.{name}]"));
            continue;
        }
        parameters.push(parameter(given)?);
    }
    Ok(Connection { name: connection.name, engine: connection.engine, parameters })
}

/// Why a literal is not taken over: it may be a secret, which a plan never holds, or lead to another project's
/// database. The operator can say it in the configuration instead; without it the dump fails.
fn withheld(given: &guest::Parameter, engine: &str) -> Option<String> {
    if given.source != "literal" {
        return None;
    }
    if SECRET.contains(&given.name.as_str()) {
        return Some(format!("its `{}` stands in the project and may hold a secret, which a plan never does", given.name));
    }
    let is_file = given.name == "path" || (given.name == "database" && engine == "sqlite");
    let refused = paths::check_planned(&given.value).err().filter(|_| is_file);
    refused.map(|source| source.to_string())
}

fn parameter(given: guest::Parameter) -> Result<Parameter, Refusal> {
    if !PARAMETERS.contains(&given.name.as_str()) {
        return Err(format!("{} is not a parameter of a connection", quoted(&given.name)));
    }
    if given.value.len() > MAX_LINE || text::has_control(&given.value) {
        return Err(format!("the parameter `{}` is too long or holds control characters", given.name));
    }
    let source = match given.source.as_str() {
        "literal" => ParameterSource::Literal { value: given.value },
        "variable" => variable(given.file, given.value, given.syntax)?,
        other => return Err(format!("{} is not a source of a parameter", quoted(other))),
    };
    Ok(Parameter { name: given.name, source })
}

fn variable(file: String, variable: String, syntax: String) -> Result<ParameterSource, Refusal> {
    if variable.is_empty() || variable.len() > 256 {
        return Err(format!("{} is not a name of a variable", quoted(&variable)));
    }
    if !matches!(syntax.as_str(), "phpdotenv" | "dotenv") {
        return Err(format!("{} is not a syntax of a dotenv file", quoted(&syntax)));
    }
    if file.is_empty() {
        return Err("a variable needs the file that it stands in".to_owned());
    }
    Ok(ParameterSource::Variable { file: planned(&file)?, variable, syntax })
}

/// `plan-restore`; `stored` are the items that it was told of.
pub fn restore_plan(plan: guest::RestorePlan, stored: &[StoredItem]) -> Result<RestorePlan, Refusal> {
    bounded("steps", &plan.steps, MAX_ITEMS)?;
    let mut seen = BTreeSet::new();
    let mut steps = Vec::with_capacity(plan.steps.len());
    for step in plan.steps {
        let item = ItemName::new(text::line(&step.item, 80)).map_err(|source| source.to_string())?;
        if !stored.iter().any(|known| known.name == item.as_str()) {
            return Err(format!("the snapshot holds no item `{item}`"));
        }
        if !seen.insert(item.clone()) {
            return Err(format!("item `{item}` is restored twice"));
        }
        let destination = planned(&step.destination).map_err(|what| format!("item `{item}`: {what}"))?;
        steps.push(RestoreStep { item, destination, must_be_empty: step.must_be_empty });
    }
    Ok(RestorePlan {
        steps,
        before: lines("lines", &plan.before)?,
        after: lines("lines", &plan.after)?,
        warnings: lines("warnings", &plan.warnings)?,
    })
}

fn word(given: &str, known: &[&str]) -> Result<String, Refusal> {
    if known.contains(&given) { Ok(given.to_owned()) } else { Err(format!("{} is not one of {}", quoted(given), known.join(", "))) }
}

/// `after-restore`.
pub fn step_reports(reports: Vec<guest::StepReport>) -> Result<Vec<StepReport>, Refusal> {
    bounded("reports", &reports, MAX_LINES)?;
    let report = |r: guest::StepReport| {
        let outcome = word(&r.outcome, &["done", "skipped", "failed", "review"])?;
        Ok(StepReport { title: text::line(&r.title, 200), outcome, detail: line(&r.detail) })
    };
    reports.into_iter().map(report).collect()
}

/// `verify`.
pub fn checks(checks: Vec<guest::Check>) -> Result<Vec<Check>, Refusal> {
    bounded("checks", &checks, MAX_LINES)?;
    let check = |c: guest::Check| {
        let outcome = word(&c.outcome, &["pass", "warn", "fail", "skipped"])?;
        Ok(Check { name: text::line(&c.name, 200), outcome, detail: line(&c.detail) })
    };
    checks.into_iter().map(check).collect()
}

/// What an erase step is told of a restored item.
pub fn restored_item(item: &StoredItem) -> erasure::RestoredItem {
    erasure::RestoredItem { name: item.name.clone(), kind: item.kind.clone(), complete: item.complete }
}

/// `plan-erase`; `items` are those that it was told of.
pub fn erase_rules(rules: Vec<erasure::EraseRule>, items: &[StoredItem]) -> Result<Vec<EraseRule>, Refusal> {
    bounded("erase rules", &rules, MAX_ITEMS)?;
    rules.into_iter().map(|rule| erase_rule(rule, items)).collect()
}

fn erase_rule(rule: erasure::EraseRule, items: &[StoredItem]) -> Result<EraseRule, Refusal> {
    let item = ItemName::new(text::line(&rule.item, 80)).map_err(|source| source.to_string())?;
    let found = items.iter().find(|known| known.name == item.as_str());
    let kind = found.map(|known| known.kind.as_str()).ok_or_else(|| format!("nothing is restored as item `{item}`"))?;
    let normalise = rule.normalise.iter().map(|word| {
        Normalise::named(word).ok_or_else(|| format!("{} is no way to normalise a value that this program knows", quoted(word)))
    });
    let normalise = normalise.collect::<Result<_, _>>()?;
    let target = match (rule.kind.as_str(), kind) {
        ("rows", "database") => row_target(rule).map_err(|what| format!("item `{item}`: {what}"))?,
        ("files", "tree") => {
            EraseTarget::Files { pattern: subject_pattern(&rule.pattern).map_err(|what| format!("item `{item}`: {what}"))? }
        }
        ("rows" | "files", other) => return Err(format!("item `{item}` is a {other} and holds no {}", rule.kind)),
        (other, _) => return Err(format!("this program knows no erase rule of kind {}", quoted(other))),
    };
    Ok(EraseRule { item, normalise, target })
}

fn row_target(rule: erasure::EraseRule) -> Result<EraseTarget, Refusal> {
    let action = match rule.action.as_str() {
        "delete" => RowAction::Delete,
        "replace" => {
            bounded("replacements", &rule.replacements, MAX_ITEMS)?;
            if rule.replacements.is_empty() {
                return Err("a rule that replaces needs columns to replace".to_owned());
            }
            let value = |r: erasure::Replacement| {
                let too_long = r.value.as_ref().is_some_and(|value| value.len() > MAX_LINE);
                if too_long { Err("a replacement is too long".to_owned()) } else { Ok((identifier(r.column)?, r.value)) }
            };
            RowAction::Replace { values: rule.replacements.into_iter().map(value).collect::<Result<_, _>>()? }
        }
        other => return Err(format!("{} is nothing that can be done with rows", quoted(other))),
    };
    Ok(EraseTarget::Rows { table: identifier(rule.table)?, column: identifier(rule.column)?, action })
}

/// The name of a table or column, which the host quotes.
fn identifier(name: String) -> Result<String, Refusal> {
    let bad = name.is_empty() || name.len() > 256 || text::has_control(&name);
    if bad { Err(format!("{} is not a name of a table or column", quoted(&name))) } else { Ok(name) }
}

/// A path with one placeholder, in its last component.
fn subject_pattern(pattern: &str) -> Result<String, Refusal> {
    let pattern = planned(pattern)?;
    let marks = |text: &str| text.matches("{subject}").count() + text.matches("{hash}").count();
    let last = pattern.rsplit('/').next().unwrap_or_default();
    if marks(&pattern) == 1 && marks(last) == 1 && !last.contains('*') {
        Ok(pattern)
    } else {
        Err(format!("{} needs `{{subject}}` or `{{hash}}` once, in its last component, and no `*` there", quoted(&pattern)))
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
