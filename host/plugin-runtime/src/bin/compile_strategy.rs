//! The compiling child as a program of its own, for tests: the product starts itself instead.

fn main() -> std::process::ExitCode {
    havun_plugin_runtime::compile_child_main()
}
