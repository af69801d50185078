//! A model of a cluster: actions apply at once, and installers end when the test ends them.

use super::*;

/// A model of a cluster.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) seconds: i64,
    /// Number of plans: the clock never shows the same time twice.
    plans: i64,
    pub(super) runtimes: BTreeMap<String, WasmRuntime>,
    pub(super) nodes: BTreeMap<String, NodeFacts>,
    /// By runtime and node.
    pub(super) states: BTreeMap<(String, String), NodeState>,
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) classes: BTreeMap<String, RuntimeClass>,
    /// What is installed on nodes: the target's digest, by runtime and node.
    pub(super) installed: BTreeMap<(String, String), String>,
    /// Every node on which an installer was started, by runtime.
    pub(super) touched: BTreeSet<(String, String)>,
    /// Nodes on which an installer's container has run since they were clean, by runtime.
    pub(super) dirty: BTreeSet<(String, String)>,
    /// Nodes that were forgotten while they were dirty; there must be none.
    pub(super) leaks: Vec<(String, String)>,
    /// The settings of installers.
    pub(super) installer: InstallerFacts,
}

/// A Job.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) runtime: String,
    pub(super) node: String,
    pub(super) verb: Verb,
    pub(super) handler: String,
    pub(super) hash: String,
    pub(super) facts: JobFacts,
}

impl Model {
    pub(super) fn new(runtimes: Vec<WasmRuntime>, nodes: usize) -> Self {
        let name = |number: usize| format!("node-{number:02}");
        Self {
            seconds: 0,
            plans: 0,
            runtimes: runtimes
                .into_iter()
                .map(|runtime| (runtime.name_any(), runtime))
                .collect(),
            nodes: (0..nodes)
                .map(|number| {
                    (
                        name(number),
                        NodeFacts {
                            uid: name(number),
                            ..node(&["runc"])
                        },
                    )
                })
                .collect(),
            states: BTreeMap::new(),
            jobs: BTreeMap::new(),
            classes: BTreeMap::new(),
            installed: BTreeMap::new(),
            touched: BTreeSet::new(),
            dirty: BTreeSet::new(),
            leaks: Vec::new(),
            installer: installer(),
        }
    }

    fn now(&self) -> Timestamp {
        at(self.seconds) + k8s_openapi::jiff::SignedDuration::from_nanos(self.plans)
    }

    pub(super) fn observed(&self, runtime: &str) -> Observed {
        let of = |states: bool| {
            self.states
                .iter()
                .filter(move |((owner, _), _)| (owner == runtime) == states)
        };
        let this = &self.runtimes[runtime];
        let known: BTreeSet<&String> = of(true)
            .filter_map(|(_, state)| state.status.job.as_ref())
            .collect();
        let is_open =
            |facts: &JobFacts| matches!(facts, JobFacts::Running { .. } | JobFacts::Ending);
        let unknown = self
            .jobs
            .iter()
            .filter(|(name, job)| is_open(&job.facts) && !known.contains(name));
        let others = of(false)
            .filter(|(_, state)| state.status.job.is_some())
            .map(|((_, node), _)| node);
        Observed {
            now: self.now(),
            runtime: this.clone(),
            peers: self
                .runtimes
                .values()
                .filter(|peer| peer.name_any() != runtime)
                .cloned()
                .collect(),
            nodes: self.nodes.clone(),
            states: of(true)
                .map(|((_, node), state)| (node.clone(), state.clone()))
                .collect(),
            busy: others
                .chain(unknown.map(|(_, job)| &job.node))
                .cloned()
                .collect(),
            jobs: self
                .jobs
                .iter()
                .filter(|(_, job)| job.runtime == runtime)
                .map(|(name, job)| (name.clone(), job.facts.clone()))
                .collect(),
            class: self.classes.get(&this.spec.runtime_class.name).cloned(),
            installer: self.installer.clone(),
        }
    }

    /// Plans, and applies the first `actions` actions: an operator may stop after any. If the plan
    /// only prepares, the next one follows at once.
    pub(super) fn reconcile(&mut self, runtime: &str, actions: usize) -> Plan {
        self.plans += 1;
        let plan = plan(&self.observed(runtime));
        for action in plan.actions.iter().take(actions) {
            self.carry_out(runtime, action, &plan.target.hash);
        }
        let prepares = plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::AddFinalizer | Action::ApplyRuntimeClass));
        match actions.checked_sub(plan.actions.len()) {
            Some(left) if prepares => self.reconcile(runtime, left),
            _ => plan,
        }
    }

    /// Plans, and applies all actions that are not `forbidden`, like an operator after a failed
    /// call: the node's further actions are skipped, and other nodes continue.
    pub(super) fn reconcile_without(
        &mut self,
        runtime: &str,
        forbidden: impl Fn(&Action) -> bool,
    ) -> Plan {
        self.plans += 1;
        let plan = plan(&self.observed(runtime));
        let mut failed = BTreeSet::new();
        for action in &plan.actions {
            if forbidden(action) || action.node().is_some_and(|node| failed.contains(node)) {
                failed.extend(action.node());
            } else {
                self.carry_out(runtime, action, &plan.target.hash);
            }
        }
        plan
    }

    fn carry_out(&mut self, runtime: &str, action: &Action, hash: &str) {
        let key = |node: &str| (runtime.to_owned(), node.to_owned());
        let label = names::ready_label(runtime);
        match action.clone() {
            Action::AddFinalizer => self
                .runtimes
                .get_mut(runtime)
                .unwrap()
                .finalizers_mut()
                .push(names::RUNTIME_FINALIZER.to_owned()),
            Action::ReleaseFinalizer => drop(self.runtimes.remove(runtime)),
            Action::ApplyRuntimeClass => {
                let class = runtime_class::desired(&self.runtimes[runtime]);
                self.classes.insert(class.name_any(), class);
            }
            Action::RemoveRuntimeClass => drop(
                self.classes
                    .remove(&self.runtimes[runtime].spec.runtime_class.name),
            ),
            Action::Claim { node, uid } => {
                let state = NodeState {
                    uid: format!("{runtime}-{node}"),
                    node_uid: uid,
                    deleting: false,
                    status: WasmRuntimeNodeStatus::default(),
                };
                self.states.insert(key(&node), state);
            }
            Action::SetNode { node, status } => {
                self.states.get_mut(&key(&node)).unwrap().status = *status;
            }
            Action::StartInstaller {
                job, node, request, ..
            } => {
                self.touched.insert(key(&node));
                let template = Some(template(&self.installer.digest, &request));
                let Request { verb, handler, .. } = *request;
                let runtime = runtime.to_owned();
                let new_job = Job {
                    runtime,
                    node,
                    verb,
                    handler,
                    hash: hash.to_owned(),
                    facts: JobFacts::Running {
                        created: Some(self.now()),
                        template,
                        start: Start::Started,
                    },
                };
                self.jobs.entry(job).or_insert(new_job);
            }
            Action::DeleteJob { job, .. } => self.delete_job(&job),
            Action::Label { node, .. } => drop(
                self.nodes
                    .get_mut(&node)
                    .unwrap()
                    .labels
                    .insert(label, names::READY.to_owned()),
            ),
            Action::Unlabel { node, .. } => {
                drop(self.nodes.get_mut(&node).unwrap().labels.remove(&label));
            }
            Action::RemoveTaints { node, taints, .. } => {
                self.nodes
                    .get_mut(&node)
                    .unwrap()
                    .taints
                    .retain(|(key, _)| taints.iter().all(|taint| taint.key != *key));
            }
            Action::Forget { node } => {
                let state = self.states.remove(&key(&node));
                let is_this = state.is_some_and(|state| {
                    self.nodes
                        .get(&node)
                        .is_some_and(|facts| facts.uid == state.node_uid)
                });
                if is_this && self.dirty.contains(&key(&node)) {
                    self.leaks.push(key(&node));
                }
            }
        }
    }

    /// Deletes a Job. A pod without a started container ends after it.
    fn delete_job(&mut self, name: &str) {
        match self.jobs.get_mut(name) {
            Some(job) if is_blocked(&job.facts) => job.facts = JobFacts::Ending,
            _ => drop(self.jobs.remove(name)),
        }
    }

    /// Keeps the pod of a Job from starting.
    pub(super) fn block(&mut self, job: &str) {
        if let JobFacts::Running { start, .. } = &mut self.jobs.get_mut(job).unwrap().facts {
            *start = Start::Blocked(Obstacle {
                reason: "ErrImagePull".to_owned(),
                message: "no such image".to_owned(),
            });
        }
    }

    /// Returns deleted Jobs with pods that have not ended.
    pub(super) fn ending(&self) -> Vec<String> {
        self.jobs
            .iter()
            .filter(|(_, job)| job.facts == JobFacts::Ending)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Ends a running Job, and applies the effect to its node.
    pub(super) fn end(&mut self, job: &str, facts: JobFacts) {
        let job = self.jobs.get_mut(job).unwrap();
        let key = (job.runtime.clone(), job.node.clone());
        match &facts {
            JobFacts::Reported(report) if report.outcome == Outcome::Removed => {
                self.dirty.remove(&key);
            }
            JobFacts::Reported(report) if report.outcome == Outcome::Refused => {}
            JobFacts::Lost {
                began: Began::Never,
                ..
            } => {}
            _ => drop(self.dirty.insert(key.clone())),
        }
        if let (JobFacts::Reported(report), Some(node)) = (&facts, self.nodes.get_mut(&job.node)) {
            if let Handlers::Listed(handlers) = &mut node.handlers {
                match report.outcome {
                    Outcome::Installed => drop(handlers.insert(job.handler.clone())),
                    Outcome::Removed | Outcome::Broken => drop(handlers.remove(&job.handler)),
                    Outcome::Refused | Outcome::RolledBack => {}
                }
            }
            match report.outcome {
                Outcome::Installed => drop(self.installed.insert(key, job.hash.clone())),
                Outcome::Removed | Outcome::Broken => drop(self.installed.remove(&key)),
                Outcome::Refused | Outcome::RolledBack => {}
            }
        }
        job.facts = facts;
    }

    pub(super) fn running(&self) -> Vec<String> {
        self.jobs
            .iter()
            .filter(|(_, job)| matches!(job.facts, JobFacts::Running { .. }))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Returns the report of a successful installer.
    pub(super) fn success(&self, job: &str) -> JobFacts {
        let (outcome, kept) = if self.jobs[job].verb == Verb::Install {
            (Outcome::Installed, Some("1"))
        } else {
            (Outcome::Removed, None)
        };
        JobFacts::Reported(Box::new(report(outcome, Reason::Done, kept)))
    }

    /// Lets every installer succeed until the plan is empty.
    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            let names: Vec<String> = self.runtimes.keys().cloned().collect();
            let acted = names
                .iter()
                .filter(|name| !self.reconcile(name, usize::MAX).actions.is_empty())
                .count();
            let running = self.running();
            for job in &running {
                let end = self.success(job);
                self.end(job, end);
            }
            let ending = self.ending();
            for job in &ending {
                self.end(job, never_began());
            }
            if acted == 0 && running.is_empty() && ending.is_empty() {
                let waits = names
                    .iter()
                    .filter_map(|name| plan(&self.observed(name)).requeue_after)
                    .min();
                match waits {
                    Some(wait) => self.seconds += i64::try_from(wait.as_secs()).unwrap() + 1,
                    None => return,
                }
            }
        }
        panic!("the cluster does not settle: {self:#?}");
    }

    pub(super) fn status(&self, runtime: &str, node: &str) -> &WasmRuntimeNodeStatus {
        &self.states[&(runtime.to_owned(), node.to_owned())].status
    }

    pub(super) fn is_labelled(&self, runtime: &str, node: &str) -> bool {
        self.nodes[node]
            .labels
            .contains_key(&names::ready_label(runtime))
    }

    pub(super) fn delete(&mut self, runtime: &str) {
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now());
        self.runtimes
            .get_mut(runtime)
            .unwrap()
            .meta_mut()
            .deletion_timestamp = Some(time);
    }
}

fn is_blocked(facts: &JobFacts) -> bool {
    matches!(
        facts,
        JobFacts::Running {
            start: Start::Blocked(_),
            ..
        }
    )
}

/// Returns the facts of an installer whose container did not start.
pub(super) fn never_began() -> JobFacts {
    JobFacts::Lost {
        why: "its Job was deleted".to_owned(),
        began: Began::Never,
    }
}

/// Returns the facts of an installer whose container may have run.
pub(super) fn lost(why: &str) -> JobFacts {
    JobFacts::Lost {
        why: why.to_owned(),
        began: Began::Perhaps,
    }
}
