//! Every verb in every state, and invariants for any order of them.

use proptest::prelude::*;

use super::*;

mod callers;

const STATES: [State; 4] = [State::Created, State::Running, State::Paused, State::Exited];
const VERBS: [Verb; 8] = [
    Verb::Start,
    Verb::Signal,
    Verb::Kill,
    Verb::Pause,
    Verb::Resume,
    Verb::Update,
    Verb::Exec,
    Verb::Delete,
];

/// One letter for each verdict: Do, Thaw, End first, Refuse, Gone.
fn letter(verdict: Verdict) -> char {
    match verdict {
        Verdict::Do => 'D',
        Verdict::DoAndThaw => 'T',
        Verdict::EndFirst => 'E',
        Verdict::Refuse(_) => 'R',
        Verdict::AlreadyGone => 'G',
    }
}

#[test]
fn each_verb_in_each_state() {
    // The order of `VERBS`: start, signal, kill, pause, resume, update, exec, delete.
    for (state, expected) in [
        (State::Created, "DDDRRDRE"),
        (State::Running, "RDDDRDDR"),
        (State::Paused, "RDTRDDRR"),
        (State::Exited, "RGGRRRRD"),
    ] {
        let found: String = VERBS
            .iter()
            .map(|verb| letter(state.verdict(*verb)))
            .collect();
        assert_eq!(found, expected, "{state:?}");
    }
}

#[test]
fn refusal_names_the_next_step() {
    for (state, verb) in STATES
        .into_iter()
        .flat_map(|state| VERBS.map(|verb| (state, verb)))
    {
        if let Verdict::Refuse(why) = state.verdict(verb) {
            assert!(
                why.contains(';') || why.contains("already") || why.contains("not paused"),
                "{state:?} {verb:?}: {why}"
            );
        }
    }
}

/// An event of a process: a request, or its exit.
#[derive(Debug, Clone, Copy)]
enum ProcessEvent {
    Requested(Verb),
    Exited,
}

fn process_event() -> impl Strategy<Value = ProcessEvent> {
    prop_oneof![4 => prop::sample::select(VERBS.to_vec()).prop_map(ProcessEvent::Requested),
        1 => Just(ProcessEvent::Exited)]
}

proptest! {
    #[test]
    fn process_starts_once_exits_once_and_is_deleted_last_in_any_order(
        events in prop::collection::vec(process_event(), 0..64),
    ) {
        let (mut state, mut starts, mut ends, mut deleted) = (State::Created, 0, 0, false);
        for event in events {
            match event {
                ProcessEvent::Exited if state != State::Exited => {
                    ends += 1;
                    state = State::Exited;
                }
                ProcessEvent::Exited => {}
                ProcessEvent::Requested(verb) => match state.verdict(verb) {
                    Verdict::Refuse(_) |
                        Verdict::AlreadyGone => prop_assert_eq!(state.after(Verb::Update), state),
                    Verdict::EndFirst => {
                        ends += 1;
                        deleted = true;
                    }
                    Verdict::Do | Verdict::DoAndThaw => {
                        starts += usize::from(verb == Verb::Start);
                        deleted = verb == Verb::Delete;
                        state = state.after(verb);
                    }
                },
            }
            if deleted {
                break;
            }
        }
        prop_assert!(starts <= 1);
        prop_assert!(ends <= 1);
        if deleted {
            prop_assert_eq!(ends, 1);
        }
    }

    #[test]
    fn only_the_exit_leads_to_exited_and_nothing_leads_back(
        state in prop::sample::select(STATES.to_vec()),
        verb in prop::sample::select(VERBS.to_vec()),
    ) {
        let allowed = matches!(state.verdict(verb), Verdict::Do | Verdict::DoAndThaw);
        if allowed {
            prop_assert_eq!(state.after(verb) == State::Exited, state == State::Exited);
            prop_assert!(state.after(verb) != State::Created || state == State::Created);
        }
    }
}
