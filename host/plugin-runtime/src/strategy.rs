//! Loading a component and calling it: the [`Strategy`] that operations see.

use crate::{
    api::{
        self, Database, GuestError, Port, TargetHandle, TreeHandle, Writer, bindings, bindings::StrategyIndices, erase_step,
        erase_step::EraseStepIndices,
    },
    cache::Cache,
    call::{Guest, Order, Sandbox},
    compile, convert,
    engine::{self, Ticker},
    error::{CompileError, LoadError},
    inspect,
    limits::{Budget, Limits},
    tree::Tree,
};
use havun_model::{
    BackupPlan, Blame, Cancel, Check, Detection, Digest, RestorePlan, ScratchDatabase, SilentLog, StepReport, StoredItem, Strategy,
    StrategyContext, StrategyError, StrategyInfo, StrategyLog, erasures::EraseRule,
};
use sha2::{Digest as _, Sha256};
use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::AtomicU64},
};
use wasmtime::{
    Engine, Store,
    component::{Component, Instance, InstancePre, Linker, Resource},
};

/// How a [`Runtime`] works.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Folder of compiled components; made (mode 0700) when missing. When it cannot be used, each load compiles.
    pub cache_dir: PathBuf,
    /// Program that is started with [`crate::COMPILE_ARGUMENT`] to compile: usually this very one.
    pub compiler: PathBuf,
    /// What strategies may use.
    pub limits: Limits,
}

/// Loads components. Costs nothing until the first load; cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    config: RuntimeConfig,
    limits: Arc<Limits>,
    compiles_here: bool,
    machine: OnceLock<Machine>,
    cache: OnceLock<Option<Cache>>,
    memory: Arc<AtomicU64>,
}

/// What all strategies of a runtime share.
struct Machine {
    engine: Engine,
    ticker: Ticker,
    compatibility: String,
    linker: OnceLock<Linker<Guest>>,
}

impl Runtime {
    /// A runtime that has done nothing yet.
    pub fn new(config: RuntimeConfig) -> Self {
        Self::with(config, false)
    }

    /// As [`Runtime::new`], but compiles in this process, without limits: for tests with trusted components.
    pub fn compiling_in_process(config: RuntimeConfig) -> Self {
        Self::with(config, true)
    }

    fn with(config: RuntimeConfig, compiles_here: bool) -> Self {
        let limits = Arc::new(config.limits.clone());
        let (machine, cache, memory) = (OnceLock::new(), OnceLock::new(), Arc::default());
        Self(Arc::new(Shared { config, limits, compiles_here, machine, cache, memory }))
    }

    /// Loads the component `wasm`: from the cache, or by compiling it and asking it to describe itself.
    /// `name` stands for it in errors until it has said its id.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong with the component.
    pub fn load(&self, wasm: &[u8], name: &str) -> Result<Arc<dyn Strategy>, LoadError> {
        let size = wasm.len() as u64;
        let limit = self.0.limits.component_bytes;
        if size > limit {
            return Err(LoadError::TooLarge { name: name.to_owned(), size, limit });
        }
        let digest = Digest::from_bytes(Sha256::digest(wasm).into());
        let machine = self.0.machine()?;
        let key = format!("{}-{}", digest.to_hex(), machine.compatibility);
        if let Some(loaded) = self.cached(&key, digest, machine) {
            return Ok(Arc::new(loaded));
        }
        inspect::inspect(wasm, name)?;
        let artefact = self.0.compile(wasm).map_err(|source| LoadError::Compile { name: name.to_owned(), source })?;
        let loaded = self.describe(&artefact, digest, name, machine)?;
        if let Some(cache) = self.0.cache() {
            let _ = cache.store(&key, &loaded.info, &artefact);
        }
        Ok(Arc::new(loaded))
    }

    fn cached(&self, key: &str, digest: Digest, machine: &Machine) -> Option<Loaded> {
        let cached = self.0.cache()?.load(key)?;
        let component = deserialize(&machine.engine, cached.artefact()).ok()?;
        Some(Loaded { shared: Arc::clone(&self.0), digest, info: cached.info, component, linked: OnceLock::new() })
    }

    fn describe(&self, artefact: &[u8], digest: Digest, name: &str, machine: &Machine) -> Result<Loaded, LoadError> {
        let broken = |source: wasmtime::Error| CompileError::Refused(format!("{source:#}"));
        let component = deserialize(&machine.engine, artefact)
            .map_err(|source| LoadError::Compile { name: name.to_owned(), source: broken(source) })?;
        let nameless = StrategyInfo {
            id: name.to_owned(),
            version: String::new(),
            title: String::new(),
            requests: Vec::new(),
            settings_schema: String::new(),
        };
        let mut loaded = Loaded { shared: Arc::clone(&self.0), digest, info: nameless, component, linked: OnceLock::new() };
        loaded.linked(machine).map_err(|source| LoadError::Interface {
            name: name.to_owned(),
            offered: inspect::OFFERED,
            what: crate::text::line(&format!("{source:#}"), 1000),
        })?;
        loaded.info = loaded.describe().map_err(|source| LoadError::Describe { name: name.to_owned(), source })?;
        Ok(loaded)
    }
}

impl Shared {
    fn machine(&self) -> Result<&Machine, LoadError> {
        if let Some(machine) = self.machine.get() {
            return Ok(machine);
        }
        let engine = engine::engine().map_err(|source| LoadError::Engine { what: format!("{source:#}") })?;
        let compatibility = engine::compatibility(&engine);
        let ticker = Ticker::new(engine.clone());
        Ok(self.machine.get_or_init(|| Machine { engine, ticker, compatibility, linker: OnceLock::new() }))
    }

    fn cache(&self) -> Option<&Cache> {
        self.cache.get_or_init(|| Cache::open(&self.config.cache_dir)).as_ref()
    }

    fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
        if self.compiles_here {
            return compile::compile_here(wasm).map_err(CompileError::Refused);
        }
        compile::compile_in_child(&self.config.compiler, self.limits.compile, wasm)
    }
}

/// Turns an artefact back into code.
fn deserialize(engine: &Engine, artefact: &[u8]) -> wasmtime::Result<Component> {
    #[expect(unsafe_code, reason = "the bytes come from our own compiling child, or from the cache under a MAC that was checked over them")]
    // SAFETY: `artefact` was made by `Engine::precompile_component` of this program and has not been changed since.
    unsafe {
        Component::deserialize(engine, artefact)
    }
}

/// A component, ready to be called.
struct Loaded {
    shared: Arc<Shared>,
    digest: Digest,
    info: StrategyInfo,
    component: Component,
    linked: OnceLock<Linked>,
}

/// A component whose imports are met, and where its exports are.
struct Linked {
    instance: InstancePre<Guest>,
    guest: StrategyIndices,
    /// Not every strategy has this step.
    erase: Option<EraseStepIndices>,
}

type Exports = bindings::exports::havun::backup::guest::Guest;
type EraseExports = erase_step::exports::havun::backup::erasure::Guest;
type Answer<R> = wasmtime::Result<Result<R, GuestError>>;

impl Loaded {
    fn linked(&self, machine: &Machine) -> wasmtime::Result<&Linked> {
        if let Some(linked) = self.linked.get() {
            return Ok(linked);
        }
        let linker = match machine.linker.get() {
            Some(linker) => linker,
            None => {
                let linker = engine::linker(&machine.engine)?;
                machine.linker.get_or_init(|| linker)
            }
        };
        let instance = linker.instantiate_pre(&self.component)?;
        let guest = StrategyIndices::new(&instance)?;
        // By its name: where it is missing or has other types, there is no such step.
        let erase = EraseStepIndices::new(&instance).ok();
        let linked = Linked { instance, guest, erase };
        Ok(self.linked.get_or_init(|| linked))
    }

    fn order<'a>(&'a self, call: &'static str, budget: Budget, cancel: &'a Cancel, log: &Arc<dyn StrategyLog>) -> Order<'a> {
        Order { strategy: &self.info.id, call, budget, cancel, log: Arc::clone(log) }
    }

    fn ready(&self, order: &Order<'_>) -> Result<(&Machine, &Linked), StrategyError> {
        let host = |what: String| order.error(Blame::Host, "io", &what);
        let machine = self.shared.machine().map_err(|source| host(source.to_string()))?;
        let linked = self.linked(machine).map_err(|source| host(format!("{source:#}")))?;
        Ok((machine, linked))
    }

    /// Calls an instance; `serve` runs on this thread meanwhile.
    fn call_instance<R: Send, S>(
        &self,
        order: &Order<'_>,
        serve: impl FnOnce() -> S,
        body: impl AsyncFnOnce(&mut Store<Guest>, &Instance) -> Answer<R> + Send,
    ) -> Result<(Result<R, StrategyError>, S), StrategyError> {
        let (machine, linked) = self.ready(order)?;
        let sandbox = Sandbox {
            engine: &machine.engine,
            ticker: &machine.ticker,
            limits: &self.shared.limits,
            memory: &self.shared.memory,
            component: &linked.instance,
        };
        Ok(sandbox.call(order, serve, body))
    }

    /// Calls the guest; `serve` runs on this thread meanwhile.
    fn call_serving<R: Send, S>(
        &self,
        order: &Order<'_>,
        serve: impl FnOnce() -> S,
        body: impl AsyncFnOnce(&mut Store<Guest>, &Exports) -> Answer<R> + Send,
    ) -> Result<(Result<R, StrategyError>, S), StrategyError> {
        let guest = &self.ready(order)?.1.guest;
        self.call_instance(order, serve, async move |store, instance| {
            let strategy = guest.load(&mut *store, instance)?;
            body(store, strategy.havun_backup_guest()).await
        })
    }

    /// Calls the erase step, where there is one.
    fn call_erase<R: Send>(
        &self,
        order: &Order<'_>,
        body: impl AsyncFnOnce(&mut Store<Guest>, &EraseExports) -> Answer<R> + Send,
    ) -> Result<Option<R>, StrategyError> {
        let Some(erase) = &self.ready(order)?.1.erase else { return Ok(None) };
        let called = self.call_instance(
            order,
            || (),
            async move |store, instance| {
                let step = erase.load(&mut *store, instance)?;
                body(store, step.havun_backup_erasure()).await
            },
        )?;
        called.0.map(Some)
    }

    fn call<R: Send>(
        &self,
        order: &Order<'_>,
        body: impl AsyncFnOnce(&mut Store<Guest>, &Exports) -> Answer<R> + Send,
    ) -> Result<R, StrategyError> {
        self.call_serving(order, || (), body)?.0
    }

    fn describe(&self) -> Result<StrategyInfo, StrategyError> {
        let (cancel, log) = (Cancel::default(), silent());
        let order = self.order("describe", self.shared.limits.describe, &cancel, &log);
        let said = self.call(&order, async |store, guest| guest.call_describe(store).await.map(Ok))?;
        accept(&order, convert::description(said))
    }
}

fn silent() -> Arc<dyn StrategyLog> {
    Arc::new(SilentLog)
}

/// An answer that breaks a rule of the contract is the strategy's fault.
fn accept<R>(order: &Order<'_>, answer: Result<R, convert::Refusal>) -> Result<R, StrategyError> {
    answer.map_err(|what| order.error(Blame::Strategy, "invalid", &what))
}

fn open(order: &Order<'_>, root: &Path) -> Result<Arc<Tree>, StrategyError> {
    let failed = |source: std::io::Error| order.error(Blame::Host, "io", &format!("cannot open {}: {source}", root.display()));
    Tree::open(root).map(Arc::new).map_err(failed)
}

fn tree(store: &mut Store<Guest>, root: Arc<Tree>) -> wasmtime::Result<Resource<TreeHandle>> {
    Ok(store.data_mut().table.push(TreeHandle(root))?)
}

impl Strategy for Loaded {
    fn digest(&self) -> Digest {
        self.digest
    }

    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn detect(&self, root: &Path, cancel: &Cancel) -> Result<Option<Detection>, StrategyError> {
        let log = silent();
        let order = self.order("detect", self.shared.limits.plan, cancel, &log);
        let root = open(&order, root)?;
        let found = self.call(&order, async move |store, guest| {
            let root = tree(store, root)?;
            guest.call_detect(store, root).await
        })?;
        found.map(|found| accept(&order, convert::detection(found))).transpose()
    }

    fn plan_backup(&self, cx: &StrategyContext, root: &Path) -> Result<BackupPlan, StrategyError> {
        let order = self.order("plan-backup", self.shared.limits.plan, &cx.cancel, &cx.log);
        let root = open(&order, root)?;
        let context = convert::context(cx);
        let plan = self.call(&order, async move |store, guest| {
            let root = tree(store, root)?;
            guest.call_plan_backup(store, &context, root).await
        })?;
        accept(&order, convert::backup_plan(plan))
    }

    fn generate(&self, cx: &StrategyContext, root: &Path, item: &str, out: &mut (dyn Write + Send)) -> Result<u64, StrategyError> {
        let order = self.order("generate", self.shared.limits.work, &cx.cancel, &cx.log);
        let root = open(&order, root)?;
        let context = convert::context(cx);
        let (writer, port): (Writer, Port) = api::channel();
        let (answer, state) = self.call_serving(
            &order,
            || port.serve(out),
            async move |store, guest| {
                let root = tree(store, root)?;
                let writer = store.data_mut().table.push(writer)?;
                guest.call_generate(store, &context, item, root, writer).await
            },
        )?;
        if let Some(what) = &state.broken {
            return Err(order.error(Blame::Host, "io", &format!("item `{item}` cannot be stored: {what}")));
        }
        answer?;
        if state.exceeded {
            let limit = self.shared.limits.output_bytes;
            return Err(order.error(Blame::Strategy, "limit", &format!("item `{item}` has more than {limit} bytes")));
        }
        if !state.finished {
            return Err(order.error(Blame::Strategy, "invalid", &format!("item `{item}` was not finished")));
        }
        Ok(state.written)
    }

    fn plan_restore(&self, cx: &StrategyContext, items: &[StoredItem]) -> Result<RestorePlan, StrategyError> {
        let order = self.order("plan-restore", self.shared.limits.plan, &cx.cancel, &cx.log);
        let context = convert::context(cx);
        let stored: Vec<_> = items.iter().map(convert::stored_item).collect();
        let plan = self.call(&order, async move |store, guest| guest.call_plan_restore(store, &context, &stored).await)?;
        accept(&order, convert::restore_plan(plan, items))
    }

    fn after_restore(&self, cx: &StrategyContext, target: &Path) -> Result<Vec<StepReport>, StrategyError> {
        let order = self.order("after-restore", self.shared.limits.work, &cx.cancel, &cx.log);
        let target = open(&order, target)?;
        let context = convert::context(cx);
        let reports = self.call(&order, async move |store, guest| {
            let target = store.data_mut().table.push(TargetHandle(target))?;
            guest.call_after_restore(store, &context, target).await
        })?;
        accept(&order, convert::step_reports(reports))
    }

    fn verify(
        &self,
        cx: &StrategyContext,
        restored: &Path,
        databases: Vec<(String, Box<dyn ScratchDatabase>)>,
    ) -> Result<Vec<Check>, StrategyError> {
        let order = self.order("verify", self.shared.limits.work, &cx.cancel, &cx.log);
        let restored = open(&order, restored)?;
        let context = convert::context(cx);
        let checks = self.call(&order, async move |store, guest| {
            let restored = tree(store, restored)?;
            let mut handles = Vec::with_capacity(databases.len());
            for (item, inner) in databases {
                handles.push(store.data_mut().table.push(Database { item, inner })?);
            }
            guest.call_verify(store, &context, restored, &handles).await
        })?;
        accept(&order, convert::checks(checks))
    }

    fn plan_erase(&self, cx: &StrategyContext, items: &[StoredItem]) -> Result<Option<Vec<EraseRule>>, StrategyError> {
        let order = self.order("plan-erase", self.shared.limits.plan, &cx.cancel, &cx.log);
        let context = convert::context(cx);
        let restored: Vec<_> = items.iter().map(convert::restored_item).collect();
        let rules = self.call_erase(&order, async move |store, step| step.call_plan_erase(store, &context, &restored).await)?;
        rules.map(|rules| accept(&order, convert::erase_rules(rules, items))).transpose()
    }
}
