//! The strategies inside this program: components like any other, through the same door.

macro_rules! builtins {
    ($($id:literal),+ $(,)?) => {
        const BUILTINS: &[(&str, &[u8])] =
            &[$(($id, include_bytes!(concat!("../../../plugins/wasm/", $id, ".wasm")))),+];
    };
}

builtins!("files", "laravel", "laravel-package", "nodejs");

/// The component of the built-in strategy `id`.
pub fn builtin(id: &str) -> Option<&'static [u8]> {
    BUILTINS.iter().find(|(name, _)| *name == id).map(|(_, wasm)| *wasm)
}

/// The ids of all built-in strategies, sorted.
pub fn builtin_ids() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().map(|(name, _)| *name)
}
