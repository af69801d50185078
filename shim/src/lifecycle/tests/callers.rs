//! Invariants under concurrent requests, for any interleaving of their steps.
//!
//! A container with a first process (0) and two exec processes, and callers that do what `verbs`
//! does, one step at a time, in random order. Facts (a process lives, is frozen) are kept apart
//! from the host's knowledge (its state).

use super::*;

const FIRST: usize = 0;
const PROCESSES: usize = 3;

/// A published event of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Published {
    Start(usize),
    Exit(usize),
    Delete(usize),
}

#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts and knowledge are separate fields"
)]
struct Process {
    state: State,
    /// Whether a request finds it.
    is_listed: bool,
    /// Whether waiters were notified of its exit.
    is_exit_published: bool,
    has_turn: bool,
    is_kill_pending: bool,
    exists: bool,
    lives: bool,
    is_frozen: bool,
    has_pending_kill: bool,
}

#[derive(Debug)]
struct Model {
    processes: Vec<Process>,
    published: Vec<Published>,
}

/// The next step of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Request(Verb),
    TakeTurn(Verb),
    /// With the turn.
    Decide(Verb),
    Act(Verb),
    /// Of a kill.
    Signal,
    ThawIfFrozen,
    /// Of a deletion.
    AwaitExit,
    EndExec(usize),
    /// Of the watcher of the process.
    DetectExit,
    TakeTurnToPublish,
    PublishExit,
    /// The process exits by itself.
    Exit,
    Done,
}

/// A caller, its process and its next step.
#[derive(Debug, Clone, Copy)]
struct Caller {
    process: usize,
    step: Step,
}

impl Model {
    fn new() -> Self {
        let process = |exists: bool| Process {
            state: State::Created,
            is_listed: true,
            is_exit_published: false,
            has_turn: false,
            is_kill_pending: false,
            exists,
            lives: exists,
            is_frozen: false,
            has_pending_kill: false,
        };
        Self {
            processes: (0..PROCESSES)
                .map(|number| process(number == FIRST))
                .collect(),
            published: Vec::new(),
        }
    }

    fn kill(&mut self, number: usize) {
        let process = &mut self.processes[number];
        process.has_pending_kill = true;
        process.lives &= process.is_frozen;
    }

    fn thaw(&mut self, number: usize) {
        let process = &mut self.processes[number];
        process.is_frozen = false;
        process.lives &= !process.has_pending_kill;
        process.state = process.state.after(Verb::Kill);
    }

    fn may(&self, number: usize, verb: Verb) -> bool {
        matches!(
            self.processes[number].state.verdict(verb),
            Verdict::Do | Verdict::DoAndThaw
        )
    }

    /// Does the step and returns the next one, or the same one while it has to wait.
    fn step(
        &mut self,
        Caller {
            process: number,
            step,
        }: Caller,
    ) -> Step {
        match step {
            Step::Request(verb) => self.request(number, verb),
            Step::TakeTurn(_) | Step::TakeTurnToPublish if self.processes[number].has_turn => step,
            Step::TakeTurn(verb) => {
                self.processes[number].has_turn = true;
                Step::Decide(verb)
            }
            Step::Decide(verb) => self.decide(number, verb),
            Step::Act(verb) => self.act(number, verb),
            Step::Signal => {
                self.kill(number);
                Step::ThawIfFrozen
            }
            Step::ThawIfFrozen => {
                if self.processes[number].state.verdict(Verb::Kill) == Verdict::DoAndThaw {
                    self.thaw(number);
                }
                Step::Done
            }
            Step::AwaitExit if !self.processes[number].is_exit_published => step,
            Step::AwaitExit => Step::TakeTurn(Verb::Delete),
            Step::EndExec(PROCESSES) => Step::Act(Verb::Delete),
            Step::EndExec(exec) if self.processes[exec].has_turn => step,
            Step::EndExec(exec)
                if self.processes[exec].exists && !self.processes[exec].is_exit_published =>
            {
                self.kill(exec);
                step
            }
            Step::EndExec(exec) => Step::EndExec(exec + 1),
            Step::DetectExit if self.processes[number].lives || !self.processes[number].exists => {
                step
            }
            Step::DetectExit => {
                self.processes[number].state = State::Exited;
                Step::TakeTurnToPublish
            }
            Step::TakeTurnToPublish => {
                self.processes[number].has_turn = true;
                Step::PublishExit
            }
            Step::PublishExit => {
                self.processes[number].has_turn = false;
                self.processes[number].is_exit_published = true;
                self.published.push(Published::Exit(number));
                Step::Done
            }
            Step::Exit => {
                let process = &mut self.processes[number];
                process.lives &= process.is_frozen || process.state == State::Created;
                Step::Done
            }
            Step::Done => step,
        }
    }

    fn is_listed(&self, number: usize) -> bool {
        self.processes[FIRST].is_listed && self.processes[number].is_listed
    }

    fn request(&mut self, number: usize, verb: Verb) -> Step {
        let is_listed = self.is_listed(number);
        let process = &mut self.processes[number];
        match (verb, process.state.verdict(verb)) {
            _ if !is_listed || verb == Verb::Pause && number != FIRST => Step::Done,
            (Verb::Kill, Verdict::AlreadyGone) => Step::Done,
            (Verb::Kill, _) if process.exists => {
                process.is_kill_pending = true;
                Step::Signal
            }
            (Verb::Delete, Verdict::Do) => Step::AwaitExit,
            (Verb::Delete, Verdict::EndFirst) if process.exists => {
                self.kill(number);
                Step::AwaitExit
            }
            (Verb::Delete, Verdict::EndFirst) => {
                process.state = State::Exited;
                process.is_exit_published = true;
                Step::AwaitExit
            }
            (Verb::Delete, _) => Step::Done,
            _ => Step::TakeTurn(verb),
        }
    }

    fn decide(&mut self, number: usize, verb: Verb) -> Step {
        let goes_on = match verb {
            Verb::Start => {
                self.may(number, Verb::Start) && (number == FIRST || self.may(FIRST, Verb::Exec))
            }
            Verb::Pause => self.may(number, Verb::Pause),
            Verb::Delete => self.is_listed(number),
            _ => true,
        };
        let process = &mut self.processes[number];
        process.has_turn = goes_on;
        match verb {
            _ if !goes_on => Step::Done,
            Verb::Delete if number == FIRST => Step::EndExec(FIRST + 1),
            // In the same step.
            Verb::Delete => self.act(number, Verb::Delete),
            Verb::Pause => {
                process.is_frozen = process.lives;
                Step::Act(verb)
            }
            _ => Step::Act(verb),
        }
    }

    fn act(&mut self, number: usize, verb: Verb) -> Step {
        let process = &mut self.processes[number];
        process.has_turn = false;
        match verb {
            Verb::Start => {
                process.lives |= !process.exists;
                process.exists = true;
                process.state = process.state.after(Verb::Start);
                self.published.push(Published::Start(number));
            }
            Verb::Pause => {
                process.state = process.state.after(Verb::Pause);
                if process.is_kill_pending {
                    self.thaw(number);
                }
            }
            Verb::Delete => {
                process.is_listed = false;
                self.published.push(Published::Delete(number));
            }
            // A kill: the start was under way, or there is no process to signal and never will be.
            _ if process.exists => return Step::Request(Verb::Kill),
            _ => {
                process.is_exit_published |= process.state == State::Created;
                process.state = State::Exited;
            }
        }
        Step::Done
    }
}

fn caller() -> impl Strategy<Value = Caller> {
    let requested = prop::sample::select(vec![
        Verb::Start,
        Verb::Start,
        Verb::Kill,
        Verb::Pause,
        Verb::Delete,
        Verb::Delete,
    ]);
    let step = prop_oneof![6 => requested.prop_map(Step::Request), 1 => Just(Step::Exit)];
    (0..PROCESSES, step).prop_map(|(process, step)| Caller { process, step })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    #[test]
    fn concurrent_requests_publish_each_event_once_and_the_deletion_last(
        requesting in prop::collection::vec(caller(), 1..10),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
    ) {
        let watchers = (0..PROCESSES).map(|process| Caller { process, step: Step::DetectExit });
        let mut callers: Vec<Caller> = watchers.chain(requesting).collect();
        let mut model = Model::new();
        let drawn = order.iter().map(|next| next.index(callers.len())).collect::<Vec<_>>();
        // Then all in turn, until none can make a step.
        let rest = (0..callers.len()).cycle().take(callers.len() * 40);
        for next in drawn.into_iter().chain(rest) {
            let is_late_exec = callers[next].process != FIRST &&
                model.processes[FIRST].state == State::Exited;
            let before = model.published.len();
            let step = callers[next].step;
            callers[next].step = model.step(callers[next]);
            if is_late_exec && step == Step::Decide(Verb::Start) {
                prop_assert_eq!(callers[next].step, Step::Done,
                    "an exec after the exit of the first process");
            }
            let is_over = model.published[..before].contains(&Published::Delete(FIRST));
            prop_assert!(!is_over || model.published.len() == before,
                "published after the deletion: {:?}", model.published);
        }
        let times = |event: Published| {
            model.published.iter().filter(|published| **published == event).count()
        };
        let place = |event: Published| {
            model.published.iter().position(|published| *published == event)
        };
        for (number, process) in model.processes.iter().enumerate() {
            for event in [
                Published::Start(number),
                Published::Exit(number),
                Published::Delete(number),
            ] {
                prop_assert!(times(event) <= 1, "{:?}", model.published);
            }
            if let (Some(started), Some(ended)) = (place(Published::Start(number)),
                place(Published::Exit(number))) {
                prop_assert!(started < ended, "{:?}", model.published);
            }
            prop_assert!(!process.is_kill_pending || process.state == State::Exited,
                "killed, and {process:?}");
        }
        for caller in callers.iter().filter(|caller| caller.step != Step::DetectExit) {
            prop_assert_eq!(caller.step, Step::Done, "{:?} waits forever in {:?}", caller, model);
        }
    }
}
