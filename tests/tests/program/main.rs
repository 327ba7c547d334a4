//! The whole program against real projects, servers and faults. An assertion is on what an operator would see.

mod damage;
mod failures;
mod files;
mod laravel;
mod nodejs;
mod package;
