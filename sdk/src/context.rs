//! What a strategy is told of the run.

use crate::{ConnectionInfo, Error, Result, Settings, settings, wit};

/// A run, with the settings already typed.
#[derive(Debug, Clone)]
pub struct Context<S> {
    /// Unique to the run.
    pub run_id: String,
    /// The project's name in the configuration.
    pub project: String,
    /// `[projects.NAME.settings]`.
    pub settings: S,
    /// Databases that the operator listed for this project; never a credential.
    pub connections: Vec<ConnectionInfo>,
    /// Capabilities that this run really has.
    pub granted: Vec<String>,
}

impl<S: Settings> Context<S> {
    pub(crate) fn of(host: wit::havun::backup::types::Context) -> Result<Self> {
        let settings = settings::parse(&host.settings).map_err(Error::Invalid)?;
        Ok(Self { run_id: host.run_id, project: host.project, settings, connections: host.connections, granted: host.granted })
    }

    /// A context for tests: settings as JSON, no connections.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that the operator would be refused.
    pub fn for_test(settings: &str) -> Result<Self> {
        let settings = settings::parse(settings).map_err(Error::Invalid)?;
        Ok(Self { run_id: "test".to_owned(), project: "project".to_owned(), settings, connections: Vec::new(), granted: Vec::new() })
    }

    /// Adds a database that the operator listed.
    #[must_use]
    pub fn with_connection(mut self, name: &str, engine: &str) -> Self {
        self.connections.push(ConnectionInfo { name: name.to_owned(), engine: engine.to_owned(), ext: Vec::new() });
        self
    }
}
