//! The lease of a project while it is backed up: hosts that share an audit database do not run it twice.
//!
//! A thread renews it until the run ends. That it was lost is found out before the snapshot is committed: another host
//! may have taken over, because this one slept or was cut off. Where the audit database is away at that moment, the
//! snapshot is committed all the same: nobody else can take a lease there meanwhile, and the vault has a lease of its own.

use super::RunOptions;
use crate::{
    audit::{AuditError, AuditLog, Claim, Lease, Wanted},
    config::ProjectConfig,
    context::{Clock, Context},
    error::{OperationError, exit},
    report::Failure,
};
use havun_model::ProjectName;
use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often a lease is renewed before it would expire.
const BEATS: u32 = 3;

/// What became of the wish to run.
pub(super) enum Taken {
    /// We may.
    Ours(HeldLease),
    /// Another one does it, or has done it; in a sentence.
    Elsewhere(String),
}

/// A lease that is renewed for as long as this exists.
pub(super) struct HeldLease {
    audit: Arc<AuditLog>,
    lease: Lease,
    project: ProjectName,
    clock: Clock,
    stop: Option<Sender<()>>,
    beat: Option<JoinHandle<()>>,
}

/// Takes the lease of a project. A run that its schedule asks for gives way to another host; one that somebody asks for
/// fails.
///
/// # Errors
/// [`OperationError::RunElsewhere`], and what the audit database says.
pub(super) fn take(cx: &Context, project: &ProjectConfig, options: &RunOptions, run_id: &str) -> Result<Taken, OperationError> {
    let audit = cx.audit()?;
    let slot = project.schedule.as_ref().filter(|_| options.due).and_then(|schedule| schedule.latest_before(cx.now(), &cx.zone()));
    let name = project.name.as_str();
    let wanted = Wanted { project: name, run_id, slot, ttl: term(cx), force: options.force };
    match audit.claim(&wanted, cx.now()).map_err(audit_error)? {
        Claim::Mine(lease) => {
            if let Some(host) = &lease.taken_over_from {
                cx.alert(name, "", "lease", Some(&left_by(&project.name, host)), run_id);
            }
            Ok(Taken::Ours(HeldLease::begin(cx, audit, lease, &project.name)))
        }
        Claim::Held { host, pid, .. } if options.due => Ok(Taken::Elsewhere(format!("host `{host}` backs it up now (process {pid})"))),
        Claim::Held { host, pid, until } => Err(OperationError::RunElsewhere { project: project.name.clone(), host, pid, until }),
        Claim::Done { host, at } => Ok(Taken::Elsewhere(format!("host `{host}` has backed it up at {at}"))),
    }
}

/// How long a lease lasts without being renewed.
fn term(cx: &Context) -> Duration {
    cx.config.audit.lease.duration().unsigned_abs()
}

fn left_by(project: &ProjectName, host: &str) -> Failure {
    Failure {
        message: format!("host `{host}` ended in the middle of a run of `{project}`; its lease was taken over"),
        causes: Vec::new(),
        hint: Some(format!("see why on `{host}`: it was killed, switched off or cut off from the audit database")),
        exit_status: exit::FAILED,
    }
}

impl HeldLease {
    fn begin(cx: &Context, audit: Arc<AuditLog>, lease: Lease, project: &ProjectName) -> Self {
        let (stop, stopped) = mpsc::channel();
        let every = term(cx) / BEATS;
        let (beating, held, clock) = (Arc::clone(&audit), lease.clone(), cx.clock());
        let beat = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                if !renew(&beating, &held, &clock) {
                    return;
                }
            }
        };
        let beat = thread::Builder::new().name("lease".to_owned()).spawn(beat);
        let beat = beat.inspect_err(|error| tracing::warn!(%error, %project, "no thread to renew the lease with")).ok();
        Self { audit, lease, project: project.clone(), clock: cx.clock(), stop: Some(stop), beat }
    }

    /// That it is still ours, as far as anybody can say: asked before a snapshot is committed.
    ///
    /// # Errors
    /// [`OperationError::LeaseLost`].
    pub(super) fn check(&self) -> Result<(), OperationError> {
        match self.audit.renew(&self.lease, (self.clock)()) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let holder = self.audit.lease_holder(self.project.as_str(), (self.clock)()).map_err(audit_error)?;
                let holder = holder.unwrap_or_else(|| "a run that has ended since".to_owned());
                Err(OperationError::LeaseLost { project: self.project.clone(), holder })
            }
            Err(error) if error.is_gone() => {
                tracing::warn!(%error, project = %self.project, "whether the lease is still held cannot be asked; the snapshot is committed");
                Ok(())
            }
            Err(error) => Err(audit_error(error)),
        }
    }

    /// Gives it back; with `served`, the moment of the schedule needs no other run. One that cannot be given back expires.
    pub(super) fn release(mut self, served: bool) {
        self.end_beat();
        if let Err(error) = self.audit.release(&self.lease, served, (self.clock)()) {
            tracing::warn!(%error, project = %self.project, "the lease could not be given back; it expires");
        }
    }

    fn end_beat(&mut self) {
        self.stop = None;
        if self.beat.take().is_some_and(|beat| beat.join().is_err()) {
            tracing::error!(project = %self.project, "the thread that renews the lease ended by a mistake in this program");
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.end_beat();
    }
}

/// Whether it is worth renewing again.
fn renew(audit: &AuditLog, lease: &Lease, clock: &Clock) -> bool {
    match audit.renew(lease, clock()) {
        Ok(held) => held,
        Err(error) => {
            tracing::warn!(%error, "the lease of a run could not be renewed; it is tried again");
            true
        }
    }
}

fn audit_error(error: AuditError) -> OperationError {
    OperationError::Audit(Box::new(error))
}
