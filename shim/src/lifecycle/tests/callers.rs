//! What holds when several ask at the same time, in whatever order their steps fall.
//!
//! A container with a first process (0) and two that exec added, and callers that do what `verbs`
//! does, one step at a time: who is next is drawn. Two things are told apart: what is so (a process
//! lives, is frozen) and what we know (its state).

use super::*;

const FIRST: usize = 0;
const PROCESSES: usize = 3;

/// An event, of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Started(usize),
    Ended(usize),
    Deleted(usize),
}

#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what is so and what is known of it are to be seen apart"
)]
struct Process {
    state: State,
    /// Whether it can still be asked for.
    is_there: bool,
    /// Whether who waits was told of its end.
    end_is_told: bool,
    has_turn: bool,
    is_doomed: bool,
    exists: bool,
    lives: bool,
    is_frozen: bool,
    has_pending_kill: bool,
}

#[derive(Debug)]
struct World {
    processes: Vec<Process>,
    told: Vec<Told>,
}

/// What somebody is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Ask(Verb),
    TakeTurn(Verb),
    /// With the turn.
    Decide(Verb),
    Act(Verb),
    /// Of a kill.
    Signal,
    ThawIfFrozen,
    /// Of a deletion.
    AwaitEnd,
    EndExec(usize),
    /// Of who waits for the process.
    SeeEnd,
    TakeTurnToTell,
    TellEnd,
    /// It ends by itself.
    End,
    Done,
}

/// Somebody, what of, and what next.
#[derive(Debug, Clone, Copy)]
struct Caller {
    process: usize,
    step: Step,
}

impl World {
    fn new() -> Self {
        let process = |exists: bool| Process {
            state: State::Created,
            is_there: true,
            end_is_told: false,
            has_turn: false,
            is_doomed: false,
            exists,
            lives: exists,
            is_frozen: false,
            has_pending_kill: false,
        };
        Self {
            processes: (0..PROCESSES)
                .map(|number| process(number == FIRST))
                .collect(),
            told: Vec::new(),
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

    /// Does the step and says which comes next; the same one while it has to wait.
    fn step(
        &mut self,
        Caller {
            process: number,
            step,
        }: Caller,
    ) -> Step {
        match step {
            Step::Ask(verb) => self.ask(number, verb),
            Step::TakeTurn(_) | Step::TakeTurnToTell if self.processes[number].has_turn => step,
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
            Step::AwaitEnd if !self.processes[number].end_is_told => step,
            Step::AwaitEnd => Step::TakeTurn(Verb::Delete),
            Step::EndExec(PROCESSES) => Step::Act(Verb::Delete),
            Step::EndExec(exec) if self.processes[exec].has_turn => step,
            Step::EndExec(exec)
                if self.processes[exec].exists && !self.processes[exec].end_is_told =>
            {
                self.kill(exec);
                step
            }
            Step::EndExec(exec) => Step::EndExec(exec + 1),
            Step::SeeEnd if self.processes[number].lives || !self.processes[number].exists => step,
            Step::SeeEnd => {
                self.processes[number].state = State::Exited;
                Step::TakeTurnToTell
            }
            Step::TakeTurnToTell => {
                self.processes[number].has_turn = true;
                Step::TellEnd
            }
            Step::TellEnd => {
                self.processes[number].has_turn = false;
                self.processes[number].end_is_told = true;
                self.told.push(Told::Ended(number));
                Step::Done
            }
            Step::End => {
                let process = &mut self.processes[number];
                process.lives &= process.is_frozen || process.state == State::Created;
                Step::Done
            }
            Step::Done => step,
        }
    }

    fn is_there(&self, number: usize) -> bool {
        self.processes[FIRST].is_there && self.processes[number].is_there
    }

    fn ask(&mut self, number: usize, verb: Verb) -> Step {
        let is_there = self.is_there(number);
        let process = &mut self.processes[number];
        match (verb, process.state.verdict(verb)) {
            _ if !is_there || verb == Verb::Pause && number != FIRST => Step::Done,
            (Verb::Kill, Verdict::AlreadyGone) => Step::Done,
            (Verb::Kill, _) if process.exists => {
                process.is_doomed = true;
                Step::Signal
            }
            (Verb::Delete, Verdict::Do) => Step::AwaitEnd,
            (Verb::Delete, Verdict::EndFirst) if process.exists => {
                self.kill(number);
                Step::AwaitEnd
            }
            (Verb::Delete, Verdict::EndFirst) => {
                process.state = State::Exited;
                process.end_is_told = true;
                Step::AwaitEnd
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
            Verb::Delete => self.is_there(number),
            _ => true,
        };
        let process = &mut self.processes[number];
        process.has_turn = goes_on;
        match verb {
            _ if !goes_on => Step::Done,
            Verb::Delete if number == FIRST => Step::EndExec(FIRST + 1),
            // At once.
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
                self.told.push(Told::Started(number));
            }
            Verb::Pause => {
                process.state = process.state.after(Verb::Pause);
                if process.is_doomed {
                    self.thaw(number);
                }
            }
            Verb::Delete => {
                process.is_there = false;
                self.told.push(Told::Deleted(number));
            }
            // A kill: its start was under way; or there is nobody to signal, and never will be.
            _ if process.exists => return Step::Ask(Verb::Kill),
            _ => {
                process.end_is_told |= process.state == State::Created;
                process.state = State::Exited;
            }
        }
        Step::Done
    }
}

fn caller() -> impl Strategy<Value = Caller> {
    let asked = prop::sample::select(vec![
        Verb::Start,
        Verb::Start,
        Verb::Kill,
        Verb::Pause,
        Verb::Delete,
        Verb::Delete,
    ]);
    let step = prop_oneof![6 => asked.prop_map(Step::Ask), 1 => Just(Step::End)];
    (0..PROCESSES, step).prop_map(|(process, step)| Caller { process, step })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    #[test]
    fn whoever_asks_at_the_same_time_each_thing_is_told_once_and_the_deletion_last(
        asking in prop::collection::vec(caller(), 1..10),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
    ) {
        let watchers = (0..PROCESSES).map(|process| Caller { process, step: Step::SeeEnd });
        let mut callers: Vec<Caller> = watchers.chain(asking).collect();
        let mut world = World::new();
        let who = order.iter().map(|next| next.index(callers.len())).collect::<Vec<_>>();
        // Then all in turn, until nobody can do anything any more.
        let rest = (0..callers.len()).cycle().take(callers.len() * 40);
        for next in who.into_iter().chain(rest) {
            let doomed_exec = callers[next].process != FIRST &&
                world.processes[FIRST].state == State::Exited;
            let before = world.told.len();
            let step = callers[next].step;
            callers[next].step = world.step(callers[next]);
            if doomed_exec && step == Step::Decide(Verb::Start) {
                prop_assert_eq!(callers[next].step, Step::Done, "an exec after the end of the \
                                                            first process");
            }
            let is_over = world.told[..before].contains(&Told::Deleted(FIRST));
            prop_assert!(!is_over || world.told.len() == before, "told after the deletion: {:?}",
                world.told);
        }
        let times = |event: Told| world.told.iter().filter(|told| **told == event).count();
        let place = |event: Told| world.told.iter().position(|told| *told == event);
        for (number, process) in world.processes.iter().enumerate() {
            for event in [Told::Started(number), Told::Ended(number), Told::Deleted(number)] {
                prop_assert!(times(event) <= 1, "{:?}", world.told);
            }
            if let (Some(started), Some(ended)) = (place(Told::Started(number)),
                place(Told::Ended(number))) {
                prop_assert!(started < ended, "{:?}", world.told);
            }
            prop_assert!(!process.is_doomed || process.state == State::Exited, "killed, and \
                                                            {process:?}");
        }
        for caller in callers.iter().filter(|caller| caller.step != Step::SeeEnd) {
            prop_assert_eq!(caller.step, Step::Done, "{:?} waits for ever in {:?}", caller, world);
        }
    }
}
