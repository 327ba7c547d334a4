//! Why a component cannot be loaded.

use havun_model::StrategyError;

/// Why the compiling child gave no artefact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The program to compile with could not be started.
    #[error("cannot start the compiler `{program}`")]
    Start {
        /// What was started.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The compiler refused the component.
    #[error("{0}")]
    Refused(String),
    /// The child was ended by its limits.
    #[error("it used up the limits of the compiler ({0})")]
    Limits(String),
    /// The exchange with the child failed.
    #[error("lost the compiler")]
    Io(#[from] std::io::Error),
}

/// Why a component cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not a component at all.
    #[error("`{name}` is not a WebAssembly component: {what}")]
    NotAComponent {
        /// The file or built-in.
        name: String,
        /// "it is a core module", "it is text", …
        what: String,
    },
    /// A component, but not one of a strategy.
    #[error("`{name}` is a component, but not a strategy: it does not export `havun:backup/guest`")]
    NotAStrategy {
        /// The file or built-in.
        name: String,
    },
    /// Made for another version of the contract.
    #[error("`{name}` is made for version {asked} of havun:backup; this program offers {offered}")]
    Version {
        /// The file or built-in.
        name: String,
        /// The version that it names.
        asked: String,
        /// The version of this program.
        offered: &'static str,
    },
    /// It asks for what no strategy gets.
    #[error("`{name}` imports what is not granted: {}", imports.join(", "))]
    Imports {
        /// The file or built-in.
        name: String,
        /// The imports that are refused.
        imports: Vec<String>,
    },
    /// Names fit, types or functions do not.
    #[error("`{name}` does not fit havun:backup {offered}: {what}")]
    Interface {
        /// The file or built-in.
        name: String,
        /// The version of this program.
        offered: &'static str,
        /// What differs.
        what: String,
    },
    /// Larger than allowed.
    #[error("`{name}` is too large: {size} bytes, more than {limit}")]
    TooLarge {
        /// The file or built-in.
        name: String,
        /// Its size, bytes.
        size: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// It did not compile.
    #[error("`{name}` cannot be compiled")]
    Compile {
        /// The file or built-in.
        name: String,
        /// Why.
        source: CompileError,
    },
    /// It compiled, but does not say what it is.
    #[error("`{name}` does not describe itself")]
    Describe {
        /// The file or built-in.
        name: String,
        /// The failed call.
        source: StrategyError,
    },
    /// The engine itself does not start on this machine.
    #[error("the WebAssembly engine does not start: {what}")]
    Engine {
        /// Its word.
        what: String,
    },
}
