//! What a restore needs before and after, and the steps inside the restored tree.

use crate::{database::Application, settings::LaravelSettings};
use havun_backup_sdk::{
    prelude::*,
    project_files::{LinkTarget, link_target},
};

/// Folders without which the framework does not start. All others come back only if they were there.
const FOLDERS: [&str; 5] =
    ["bootstrap/cache", "storage/framework/cache", "storage/framework/sessions", "storage/framework/views", "storage/logs"];

/// Every item back to where it was, with the commands around it.
pub fn plan(cx: &Context<LaravelSettings>, items: &[StoredItem]) -> RestorePlan {
    let mut plan = RestorePlan::in_place(items);
    plan.before("php artisan down, and stop the queue workers and the scheduler, when restoring over a running application");
    if !cx.settings.include_vendor {
        plan.after("composer install --no-dev --no-interaction (vendor is not part of the backup)");
    }
    if !cx.settings.include_build {
        plan.after("npm ci && npm run build, where public/build is empty");
    }
    plan.after("php artisan config:clear && php artisan optimize");
    plan.after("php artisan storage:link, where public/storage does not lead to storage/app/public");
    plan.after("php artisan up, and start the queue workers and the scheduler");
    plan
}

/// Folders, links and what a person must look at.
pub fn after(cx: &Context<LaravelSettings>, restored: &dyn Target) -> Vec<StepReport> {
    let folders = make_folders(restored);
    let reports = [folders, app_key(cx, restored), storage_link(restored), cached_config(restored), vendor(restored)];
    reports.into_iter().flatten().collect()
}

fn make_folders(restored: &dyn Target) -> Option<StepReport> {
    let title = "folders of the framework";
    if let LinkTarget::Outside(link) = link_target(restored, "storage") {
        return Some(StepReport::new(title, StepOutcome::Review, format!("storage is a link to {link}, outside of the restored tree")));
    }
    let mut made = Vec::new();
    for folder in FOLDERS.into_iter().filter(|folder| !restored.is_dir(folder)) {
        match restored.make_dir(folder) {
            Ok(()) => made.push(folder),
            Err(error) => return Some(StepReport::new(title, StepOutcome::Failed, format!("{folder}: {}", error.text()))),
        }
    }
    Some(match made.as_slice() {
        [] => StepReport::new(title, StepOutcome::Skipped, "all are there"),
        made => StepReport::new(title, StepOutcome::Done, format!("made {}", made.join(", "))),
    })
}

fn app_key(cx: &Context<LaravelSettings>, restored: &dyn Target) -> Option<StepReport> {
    let app = Application::read(restored, &cx.settings.env_file);
    let title = "APP_KEY";
    Some(match (&app.env_fault, app.env("APP_KEY").filter(|key| !key.is_empty())) {
        (Some(fault), _) => StepReport::new(title, StepOutcome::Review, fault.clone()),
        (None, None) => {
            StepReport::new(title, StepOutcome::Review, "it is empty: encrypted columns and cookies cannot be read without the old key")
        }
        (None, Some(_)) => {
            StepReport::new(title, StepOutcome::Done, "present; review the hosts and URLs in .env when this is another machine")
        }
    })
}

fn storage_link(restored: &dyn Target) -> Option<StepReport> {
    let title = "public/storage";
    let report = |outcome, detail: String| Some(StepReport::new(title, outcome, detail));
    match link_target(restored, title) {
        LinkTarget::Outside(link) if link.starts_with('/') => report(
            StepOutcome::Review,
            format!(
                "it is a link to {link}: right when the application is back in its old place, else run php artisan storage:link --force"
            ),
        ),
        LinkTarget::Outside(link) => report(StepOutcome::Review, format!("it is a link to {link}, outside of the restored tree")),
        LinkTarget::Inside(_) => report(StepOutcome::Skipped, "the link is there".to_owned()),
        LinkTarget::None => None,
    }
}

fn cached_config(restored: &dyn Target) -> Option<StepReport> {
    let detail = "it wins over .env: run php artisan config:clear when hosts or passwords differ here";
    restored.is_file("bootstrap/cache/config.php").then(|| StepReport::new("bootstrap/cache/config.php", StepOutcome::Review, detail))
}

fn vendor(restored: &dyn Target) -> Option<StepReport> {
    let detail = "run composer install --no-dev; composer.lock pins the versions";
    (!restored.is_file("vendor/autoload.php")).then(|| StepReport::new("vendor", StepOutcome::Review, detail))
}
