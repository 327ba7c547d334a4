//! The rules of dotenv files.
