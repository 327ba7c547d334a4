//! From `strategy = "…"` to something that can be called: a built-in component or one of `[plugins]`. There is no
//! difference afterwards.

use crate::{
    config::{Config, PluginConfig, ProjectConfig},
    context::Context,
    error::{OperationError, nearest},
};
use havun_model::{ConnectionInfo, Strategy, StrategyContext};
use havun_plugin_runtime::{Limits, Runtime, RuntimeConfig, builtin, builtin_ids};
use std::sync::Arc;

/// The strategy of a project, loaded.
///
/// # Errors
/// [`OperationError::UnknownStrategy`] with the nearest names, [`OperationError::Component`].
pub fn resolve(cx: &Context, project: &ProjectConfig) -> Result<Arc<dyn Strategy>, OperationError> {
    let runtime = cx.runtime();
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| OperationError::Component {
        project: project.name.clone(),
        strategy: project.strategy.clone(),
        source,
    };
    if let Some(component) = builtin(&project.strategy) {
        return runtime.load(component, &project.strategy).map_err(|e| failed(Box::new(e)));
    }
    let Some(plugin) = cx.config.plugins.get(&project.strategy) else {
        let mut known: Vec<&str> = builtin_ids().collect();
        known.extend(cx.config.plugins.keys().map(String::as_str));
        return Err(OperationError::UnknownStrategy {
            project: project.name.clone(),
            strategy: project.strategy.clone(),
            nearest: nearest(&project.strategy, known),
        });
    };
    let component =
        std::fs::read(&plugin.path).map_err(|source| OperationError::Io { doing: "cannot read", path: plugin.path.clone(), source })?;
    let strategy = runtime.load(&component, &plugin.path.display().to_string()).map_err(|e| failed(Box::new(e)))?;
    match plugin.digest {
        Some(expected) if expected != strategy.digest() => {
            Err(failed(format!("its SHA-256 is {}, and `digest` in [plugins.{}] says {expected}", strategy.digest(), plugin.name).into()))
        }
        _ => Ok(strategy),
    }
}

/// What a strategy is told of this run.
pub fn strategy_context(cx: &Context, project: &ProjectConfig, run_id: &str) -> StrategyContext {
    let connections = project.databases.values();
    let connections = connections.map(|d| ConnectionInfo { name: d.name.clone(), engine: d.engine.clone().unwrap_or_default() });
    StrategyContext {
        run_id: run_id.to_owned(),
        project: project.name.to_string(),
        settings: project.settings.clone(),
        connections: connections.collect(),
        granted: cx.config.plugins.get(&project.strategy).map(|p: &PluginConfig| p.grant.clone()).unwrap_or_default(),
        cancel: cx.cancel.clone(),
        log: cx.strategy_log(&project.name),
    }
}

/// The runtime, with its cache in the state folder; this very program compiles for it.
pub(crate) fn new_runtime(config: &Config) -> Runtime {
    let compiler = std::env::current_exe().unwrap_or_else(|_| "havun-backup".into());
    Runtime::new(RuntimeConfig { cache_dir: config.host.state_dir.join("strategies"), compiler, limits: Limits::default() })
}
