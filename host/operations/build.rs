//! Builds anew when a migration joins: the macro that embeds them cannot say so itself.

fn main() {
    #[expect(clippy::print_stdout, reason = "the language between build scripts and cargo")]
    {
        println!("cargo::rerun-if-changed=migrations");
    }
}
