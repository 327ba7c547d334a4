use super::*;
use crate::databases::engine;

fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("hbd-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

/// Real users of the process, by its number.
fn user_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_mariadb_server_starts_unprivileged_answers_and_is_gone() {
    let folder = folder();
    let user = OsUser::resolve("nobody").unwrap();
    let server = ScratchServer::start(Family::MariaDb, &folder.path().join("m"), &user, &Cancel::default()).unwrap();
    let pid = server.child.id();
    if rustix::process::geteuid().is_root() {
        assert_ne!(user_of(pid), "0");
    }
    assert!(server.version().contains("MariaDB"), "{}", server.version());
    let scratch = engine(server.connection("mariadb", "havun_drill_x").unwrap()).unwrap();
    let missing = scratch.preflight(&Cancel::default()).unwrap_err();
    assert!(matches!(missing, DatabaseError::NoDatabase { .. }), "{missing}");
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_user_who_is_not_there_is_named_and_root_is_refused() {
    if rustix::process::geteuid().is_root() {
        for name in ["no-such-user", "root"] {
            assert!(matches!(OsUser::resolve(name), Err(ScratchError::NoUser { user }) if user == name));
        }
    }
}
