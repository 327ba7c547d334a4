//! Every key that a configuration may have: one table of constants, from which the checks and the JSON Schema
//! are made, so that they cannot disagree.

mod notify;

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Text that is not empty.
    Text,
    /// A list of such texts.
    Texts,
    /// `true` or `false`.
    Bool,
    /// 1 to 65535.
    Port,
    /// A whole number from the first to the second.
    Count(u16, u16),
    /// A program and its arguments: at least one text.
    Command,
    /// A path; relative ones start at the folder of the configuration.
    Path,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text with rules of its own.
    Checked(Rule),
    /// Texts with rules of their own.
    CheckedList(Rule),
    /// `"plain"`, `{ file = "…" }`, `{ env = "…" }` or `{ credential = "…" }`.
    Secret,
    /// A secret whose plain form is a URL and harmless unless it holds a password.
    SecretUrl(&'static [&'static str]),
    /// A table of its own.
    Section(&'static Shape),
    /// Tables by name.
    Named(&'static Shape),
    /// Tables by name whose keys depend on their `kind`.
    Kinds(&'static [(&'static str, &'static Shape)]),
    /// A table whose keys depend on its `kind`.
    OneOf(&'static [(&'static str, &'static Shape)]),
    /// A table that the strategy checks.
    Free,
}

/// Rules for texts.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// `30d`, `7y`.
    Term,
    /// `daily 03:00`, cron.
    Schedule,
    /// IANA name.
    TimeZone,
    /// `age1…`.
    Recipient,
    /// `hetzner`, `SHA256:…`, `ssh-ed25519 AAAA…`.
    HostKey,
    /// Name of a store.
    StoreName,
    /// 64 hex digits.
    Digest,
    /// Something with an `@`.
    Address,
    /// `https://…` or `http://…`.
    HttpUrl,
    /// `20 MiB/s`.
    Rate,
    /// `3.81 EUR`.
    Price,
    /// A user of this machine.
    User,
    /// Name of a ZFS dataset, LVM volume group or volume.
    Volume,
    /// `5G`, `10%ORIGIN`.
    VolumeSize,
    /// `4h`.
    Objective,
    /// `newest`, `oldest`, `random`.
    DrillChoice,
    /// Name of a store, or `any`.
    AnyStore,
    /// `10m`.
    Span,
    /// `failure`, `recovery`, `digest`, `report`.
    Event,
    /// `07:00`.
    TimeOfDay,
    /// `127.0.0.1:9105`.
    Socket,
}

/// One key.
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub doc: &'static str,
}

/// The keys of one table.
pub(super) struct Shape {
    pub doc: &'static str,
    pub keys: &'static [Key],
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: true, doc }
}

const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: false, doc }
}

/// The kinds of store.
pub(super) const STORE_KINDS: &[(&str, &Shape)] = &[("local", &LOCAL_STORE), ("sftp", &SFTP_STORE), ("s3", &S3_STORE)];
/// The database engines that a connection may name.
pub(crate) const ENGINES: &[&str] = &["mariadb", "mysql", "sqlite", "postgresql", "mongodb", "redis"];
/// Schemes of the audit database.
pub(super) const AUDIT_SCHEMES: &[&str] = &["sqlite", "mysql", "mariadb", "postgres", "postgresql"];
const DATABASE_SCHEMES: &[&str] =
    &["mysql", "mariadb", "sqlite", "postgres", "postgresql", "pgsql", "mongodb", "mongodb+srv", "redis", "rediss", "file"];
const TIERS: Kind = Kind::Word(&["hot", "archive", "test"]);
const KINDS: Kind = Kind::Word(&["local", "sftp", "s3"]);

/// The whole file.
pub(super) static ROOT: Shape = Shape {
    doc: "Configuration of havun-backup.",
    keys: &[
        optional("host", Kind::Section(&HOST), "This machine."),
        optional("audit", Kind::Section(&AUDIT), "Where runs are recorded."),
        optional("keys", Kind::Section(&KEYS), "Who can open the vaults."),
        optional("stores", Kind::Kinds(STORE_KINDS), "Places that backups go to, by name."),
        optional("notify", Kind::Section(&notify::NOTIFY), "Who is told."),
        optional("health", Kind::Section(&HEALTH), "Who watches from elsewhere."),
        optional("drill", Kind::Section(&DRILL), "How restores are proven."),
        optional("daemon", Kind::Section(&DAEMON), "How `havun-backup daemon` works."),
        optional("plugins", Kind::Named(&PLUGIN), "Strategies that are not built in, by name."),
        optional("projects", Kind::Named(&PROJECT), "What is backed up, by name."),
    ],
};

static HOST: Shape = Shape {
    doc: "This machine.",
    keys: &[
        optional("name", Kind::Text, "Name in reports and snapshots; the host name unless said."),
        optional("state_dir", Kind::Path, "Folder for caches and the audit database; /var/lib/havun-backup unless said."),
        optional("timezone", Kind::Checked(Rule::TimeZone), "IANA time zone of schedules and terms; the system's unless said."),
    ],
};

static AUDIT: Shape = Shape {
    doc: "Where runs are recorded.",
    keys: &[
        optional(
            "url",
            Kind::SecretUrl(AUDIT_SCHEMES),
            "sqlite:///…, mysql://…, mariadb://… or postgres://…; audit.db in state_dir unless said.",
        ),
        optional("password", Kind::Secret, "Password of the server, where `url` has none: written as it is, nothing escaped."),
        optional(
            "lease",
            Kind::Checked(Rule::Span),
            "A host that died in the middle of a run is waited for so long before another one takes over, 1s to 24h; 5m unless said.",
        ),
    ],
};

static KEYS: Shape = Shape {
    doc: "Who can open the vaults.",
    keys: &[
        optional("identity", Kind::Secret, "The service key of this host: an age identity (AGE-SECRET-KEY-1…)."),
        optional("escrow", Kind::CheckedList(Rule::Recipient), "age recipients (age1…) whose secret is kept off this host."),
    ],
};

static LOCAL_STORE: Shape = Shape {
    doc: "A folder on this machine.",
    keys: &[
        required("tier", TIERS, "What the store is for."),
        required("kind", KINDS, "local."),
        required("path", Kind::Path, "The folder."),
        optional("bandwidth", Kind::Checked(Rule::Rate), "Not faster than this, up and down together: `20 MiB/s`, `500 KiB/s`."),
        optional("par2", Kind::Count(1, 100), "Percent of each pack that PAR2 files beside it can mend; none unless said."),
        optional("scrub", Kind::Checked(Rule::Term), "Every stored byte is read once in this time; 90d unless said."),
        optional("cost_per_tb_month", Kind::Checked(Rule::Price), "What a terabyte costs in a month, for reports: `3.81 EUR`."),
    ],
};

static SFTP_STORE: Shape = Shape {
    doc: "A folder on an SFTP server.",
    keys: &[
        required("tier", TIERS, "What the store is for."),
        required("kind", KINDS, "sftp."),
        required("host", Kind::Text, "Name or address of the server."),
        optional("port", Kind::Port, "22 unless said."),
        required("user", Kind::Text, "Login name."),
        required("path", Kind::Text, "Folder on the server."),
        optional("identity", Kind::Secret, "Private SSH key; exactly one of `identity`, `agent` and `password` is needed."),
        optional("passphrase", Kind::Secret, "Passphrase of the private key, where it has one."),
        optional("agent", Kind::Bool, "true: ask the SSH agent at $SSH_AUTH_SOCK for keys."),
        optional("password", Kind::Secret, "Password, where keys are not possible."),
        required("host_key", Kind::Checked(Rule::HostKey), "`hetzner`, `SHA256:…` or `ssh-ed25519 AAAA…`: never trusted on first use."),
        optional("connections", Kind::Count(1, 8), "Connections at once, 1 to 8; 4 unless said."),
        optional("put_once", Kind::Bool, "true: the server allows neither rename nor delete nor overwrite; false unless said."),
        optional(
            "verify",
            Kind::Word(&["auto", "read-back", "size"]),
            "How an upload is compared with what was sent: `auto` (the server's openssl or sha256sum where it has one, else the size; the default), `read-back` or `size`.",
        ),
        optional("bandwidth", Kind::Checked(Rule::Rate), "Not faster than this, up and down together: `20 MiB/s`, `500 KiB/s`."),
        optional("par2", Kind::Count(1, 100), "Percent of each pack that PAR2 files beside it can mend; none unless said."),
        optional("scrub", Kind::Checked(Rule::Term), "Every stored byte is read once in this time; 90d unless said."),
        optional("cost_per_tb_month", Kind::Checked(Rule::Price), "What a terabyte costs in a month, for reports: `3.81 EUR`."),
    ],
};

static S3_STORE: Shape = Shape {
    doc: "A bucket of an S3-compatible service.",
    keys: &[
        required("tier", TIERS, "What the store is for."),
        required("kind", KINDS, "s3."),
        optional("endpoint", Kind::Checked(Rule::HttpUrl), "https://…; AWS itself unless said."),
        optional("region", Kind::Text, "us-east-1 unless said."),
        required("bucket", Kind::Text, "The bucket."),
        optional("prefix", Kind::Text, "Folder in the bucket."),
        optional("access_key_id", Kind::Secret, "Access key id."),
        optional("secret_access_key", Kind::Secret, "Secret access key."),
        optional("session_token", Kind::Secret, "Session token of temporary credentials."),
        optional(
            "object_lock",
            Kind::Word(&["governance", "compliance"]),
            "Lock every object until the end of its archive term: `governance` (a special permission lifts it) or `compliance` (nobody can).",
        ),
        optional(
            "path_style",
            Kind::Bool,
            "https://host/bucket/… instead of https://bucket.host/…; true where `endpoint` is given, unless said.",
        ),
        optional("connections", Kind::Count(1, 8), "Connections at once, 1 to 8; 4 unless said."),
        optional("bandwidth", Kind::Checked(Rule::Rate), "Not faster than this, up and down together: `20 MiB/s`, `500 KiB/s`."),
        optional("par2", Kind::Count(1, 100), "Percent of each pack that PAR2 files beside it can mend; none unless said."),
        optional("scrub", Kind::Checked(Rule::Term), "Every stored byte is read once in this time; 90d unless said."),
        optional("cost_per_tb_month", Kind::Checked(Rule::Price), "What a terabyte costs in a month, for reports: `3.81 EUR`."),
    ],
};

static HEALTH: Shape = Shape {
    doc: "Who watches from elsewhere: `havun-backup health`.",
    keys: &[
        optional("textfile", Kind::Path, "A file for node_exporter's textfile collector, named *.prom; written by each `health`."),
        optional("ping", Kind::Section(&PING), "A dead man's switch, such as healthchecks.io."),
    ],
};

static PING: Shape = Shape {
    doc: "A dead man's switch: told of each run and each look at health, and raises the alarm when it hears nothing.",
    keys: &[
        required("url", Kind::Secret, "Told of success by a POST; of a start at `/start` beneath it, of a failure at `/fail`."),
        optional("start", Kind::Secret, "Told of a start, in place of `/start`."),
        optional("failure", Kind::Secret, "Told of a failure, in place of `/fail`."),
    ],
};

static DAEMON: Shape = Shape {
    doc: "How `havun-backup daemon` works.",
    keys: &[
        optional(
            "jitter",
            Kind::Checked(Rule::Span),
            "Each project begins up to so long after its moment, always equally long: `10m`; 0s unless said.",
        ),
        optional("parallel", Kind::Count(1, 16), "So many projects at once, 1 to 16; 2 unless said."),
        optional(
            "metrics",
            Kind::Checked(Rule::Socket),
            "Answers GET /metrics and /healthz there, as in 127.0.0.1:9105; nowhere unless said.",
        ),
    ],
};

static DRILL: Shape = Shape {
    doc: "How restores are proven: `havun-backup test`.",
    keys: &[
        optional("every", Kind::Checked(Rule::Term), "A project that was not drilled within this time is overdue; 90d unless said."),
        optional(
            "choose",
            Kind::CheckedList(Rule::DrillChoice),
            "Which snapshots: `newest`, `oldest`, `random` (another one); newest and random unless said.",
        ),
        optional("store", Kind::Checked(Rule::AnyStore), "From this store; `any`, the default, takes one after the other."),
        optional(
            "scratch_dir",
            Kind::Path,
            "Where scratch servers keep their data: a folder that their user can reach; /var/tmp unless said.",
        ),
        optional("user", Kind::Text, "As whom scratch servers run where this program runs as root; nobody unless said."),
        optional(
            "accept_unproven",
            Kind::Texts,
            "What may stay unproven: engines whose dumps this host has no server for, and checks by the name that a certificate gives them (`*` stands for any run of characters). Engines alone accept every skipped check beside them; where a check is named, only those that are named.",
        ),
        optional(
            "databases",
            Kind::Named(&DATABASE),
            "Servers for scratch databases, by engine (`mariadb`, `mysql`, `postgresql`, …), in place of those that a drill starts itself. Never a production server.",
        ),
    ],
};

static PROJECT_DRILL: Shape = Shape {
    doc: "What differs from [drill].",
    keys: &[
        optional("every", Kind::Checked(Rule::Term), "As `every` in [drill]."),
        optional("choose", Kind::CheckedList(Rule::DrillChoice), "As `choose` in [drill]."),
        optional("store", Kind::Checked(Rule::AnyStore), "As `store` in [drill]."),
        optional("accept_unproven", Kind::Texts, "As `accept_unproven` in [drill], and in addition to it."),
        optional("known_bad", Kind::Texts, "Globs, relative to the root, of files that may end early: they were uploaded like that."),
    ],
};

static PLUGIN: Shape = Shape {
    doc: "A strategy that is not built in.",
    keys: &[
        required("path", Kind::Path, "The component (.wasm)."),
        optional("digest", Kind::Checked(Rule::Digest), "SHA-256 of the component; needed with `grant`."),
        optional("grant", Kind::Texts, "Capabilities granted to exactly this digest."),
    ],
};

static PROJECT: Shape = Shape {
    doc: "What is backed up.",
    keys: &[
        optional("title", Kind::Text, "For people; the name unless said."),
        required("strategy", Kind::Text, "laravel, laravel-package, nodejs, files, or a name of [plugins]."),
        required("root", Kind::Path, "The project's folder."),
        optional("priority", Kind::Word(&["critical", "high", "medium", "low"]), "medium unless said."),
        optional("compliance", Kind::Texts, "Rules that it falls under, e.g. belastingdienst."),
        optional("schedule", Kind::Checked(Rule::Schedule), "`daily 03:00`, `weekly sun 05:00` or five-field cron."),
        required("stores", Kind::CheckedList(Rule::StoreName), "Where it goes; at least one."),
        optional("encryption", Kind::Bool, "true unless said."),
        optional("paused", Kind::Bool, "Left out of runs unless forced."),
        optional("retention", Kind::Section(&RETENTION), "How long it is kept."),
        optional(
            "rto",
            Kind::Checked(Rule::Objective),
            "How long a restore may take: `30min`, `4h`, `2d`. A drill that takes longer fails.",
        ),
        optional(
            "rpo",
            Kind::Checked(Rule::Objective),
            "How old the newest snapshot may be: `26h`. A drill that finds an older one fails.",
        ),
        optional("drill", Kind::Section(&PROJECT_DRILL), "What differs from [drill]."),
        optional(
            "databases",
            Kind::Named(&DATABASE),
            "Connections of the operator's own, by name; `main` overrides what the strategy finds.",
        ),
        optional("quiesce", Kind::Section(&QUIESCE), "Commands that let the application rest while it is read."),
        optional("snapshot", Kind::OneOf(SNAPSHOT_KINDS), "A snapshot of the file system, from which files are read."),
        optional("settings", Kind::Free, "Settings of the strategy."),
    ],
};

static QUIESCE: Shape = Shape {
    doc: "Commands that let the application rest while it is read; run without a shell, in the project's root.",
    keys: &[
        optional("before", Kind::Command, "Program and arguments, run before the databases are dumped."),
        optional("after", Kind::Command, "Program and arguments, run when all is read, in every case."),
        optional("user", Kind::Checked(Rule::User), "Who runs them; the owner of the program's process unless said."),
        optional("timeout", Kind::Count(1, 3600), "Seconds for each command; 60 unless said."),
        optional("on_failure", Kind::Word(&["fail", "continue"]), "What a failed `before` does to the run; `fail` unless said."),
    ],
};

/// The kinds of file-system snapshot.
pub(super) const SNAPSHOT_KINDS: &[(&str, &Shape)] = &[("btrfs", &BTRFS), ("zfs", &ZFS), ("lvm", &LVM)];
const SNAPSHOT_KIND: Key = required("kind", Kind::Word(&["btrfs", "zfs", "lvm"]), "btrfs, zfs or lvm.");

static BTRFS: Shape = Shape {
    doc: "A read-only Btrfs snapshot.",
    keys: &[SNAPSHOT_KIND, required("subvolume", Kind::Path, "The subvolume in which the project's root lies.")],
};

static ZFS: Shape = Shape {
    doc: "A ZFS snapshot.",
    keys: &[SNAPSHOT_KIND, required("dataset", Kind::Checked(Rule::Volume), "The dataset in which the project's root lies.")],
};

static LVM: Shape = Shape {
    doc: "An LVM snapshot.",
    keys: &[
        SNAPSHOT_KIND,
        required("volume_group", Kind::Checked(Rule::Volume), "The volume group."),
        required("logical_volume", Kind::Checked(Rule::Volume), "The logical volume in which the project's root lies."),
        required("size", Kind::Checked(Rule::VolumeSize), "Room for what changes meanwhile, as lvcreate takes it: 5G, or 10%ORIGIN."),
    ],
};

static RETENTION: Shape = Shape {
    doc: "How long it is kept.",
    keys: &[
        optional("hot", Kind::Checked(Rule::Term), "In hot stores; 30d unless said, and nothing is thinned before it is said."),
        optional("archive", Kind::Checked(Rule::Term), "In archives; 7y unless said. Years run from the end of the calendar year."),
        optional("archive_auto_delete", Kind::Bool, "false unless said."),
    ],
};

static DATABASE: Shape = Shape {
    doc: "A connection of the operator's own; what is given overrides what the strategy found.",
    keys: &[
        optional("engine", Kind::Word(ENGINES), "Needed where neither the URL nor the strategy says it."),
        optional("url", Kind::SecretUrl(DATABASE_SCHEMES), "A whole URL."),
        optional("host", Kind::Text, "Server."),
        optional("port", Kind::Port, "Port."),
        optional("socket", Kind::Path, "Unix socket."),
        optional("user", Kind::Text, "Login name."),
        optional("password", Kind::Secret, "Password."),
        optional("database", Kind::Text, "Name of the database."),
        optional("path", Kind::Text, "SQLite: the file, absolute or relative to the project's root."),
        optional("charset", Kind::Text, "Character set of the connection."),
        optional("tls", Kind::Word(&["disabled", "preferred", "required", "verify-ca", "verify-identity"]), "preferred unless said."),
        optional("tls_ca", Kind::Path, "Certificates that verify-ca and verify-identity trust."),
    ],
};
